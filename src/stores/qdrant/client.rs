//! The calls to a Qdrant server that the store needs, each with a timeout and an error that says what failed, where, and
//! what to do.
//!
//! The calls are `qdrant-client`'s, the channel is our own: `qdrant_client::Qdrant` sends every request again when its
//! connection breaks or its time is up, deletes too, and a delete must not be sent after its confirmation grew stale (S2).

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::facet_value::Variant;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::qdrant_client::QdrantClient;
use qdrant_client::qdrant::{
    CollectionExistsRequest, CollectionInfo, CountPoints, DeletePoints, FacetCounts, Filter, GetCollectionInfoRequest,
    GetPoints, HealthCheckRequest, ListAliasesRequest, ListCollectionsRequest, PointId, PointStruct, PointsSelector,
    RetrievedPoint, ScrollPoints, UpdateCollection, UpdateStatus, UpsertPoints, Value,
};
use secrecy::{ExposeSecret, SecretString};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};
use url::Url;

use crate::pace::Pace;
use crate::stores::StoreError;

/// How often an open connection is asked whether it still is one.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

type Service = InterceptedService<Channel, ApiKey>;

/// A connection to one server, for the store of one name.
#[derive(Clone)]
pub(super) struct Client {
    points: PointsClient<Service>,
    collections: CollectionsClient<Service>,
    root: QdrantClient<Service>,
    store: String,
    url: String,
    call_timeout: Duration,
    pace: Pace,
}

impl Client {
    /// Prepares a connection, which the first call opens. Must be called within a Tokio runtime.
    pub(super) fn new(
        store: &str,
        url: &str,
        api_key: Option<&SecretString>,
        call_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let unusable = |what: &str| StoreError::Unusable(format!("store `{store}`: {what}"));
        let parsed = Url::parse(url).map_err(|_| unusable("its url cannot be read: expected http://host:6334"))?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(unusable("its url must look like http://host:6334 or https://host:6334"));
        }
        let more = [parsed.username(), parsed.password().unwrap_or_default(), parsed.path().trim_matches('/')];
        if more.iter().any(|part| !part.is_empty()) || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(unusable(
                "its url must be scheme, host and port alone; the key goes into the api key's setting",
            ));
        }
        let address = address(&parsed);
        let mut endpoint = Endpoint::from_shared(address.clone())
            .map_err(|_| unusable("its url cannot be read: expected http://host:6334"))?
            .connect_timeout(call_timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(call_timeout)
            .keep_alive_while_idle(true);
        if parsed.scheme() == "https" {
            endpoint = endpoint
                .tls_config(ClientTlsConfig::new().with_native_roots())
                .map_err(|error| StoreError::server(format!("store `{store}`: could not set up TLS"), error))?;
        }
        let key = match api_key {
            None => None,
            Some(key) => {
                let mut value: MetadataValue<Ascii> = key.expose_secret().parse().map_err(|_| {
                    unusable("its api key holds characters that no header may hold: check for a line end")
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let service = InterceptedService::new(endpoint.connect_lazy(), ApiKey(key));
        Ok(Self {
            points: PointsClient::new(service.clone()).max_decoding_message_size(usize::MAX),
            collections: CollectionsClient::new(service.clone()).max_decoding_message_size(usize::MAX),
            root: QdrantClient::new(service),
            store: store.to_owned(),
            url: address,
            call_timeout,
            pace: Pace::default(),
        })
    }

    /// The same connection, used at this pace.
    pub(super) fn paced(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// At which pace the server is called.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Where the server is, without secrets.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The server's version.
    pub(super) async fn version(&self) -> Result<String, StoreError> {
        let mut client = self.root.clone();
        Ok(self.call("ask for the version", None, client.health_check(HealthCheckRequest {})).await?.version)
    }

    /// All aliases and the collections behind them.
    pub(super) async fn aliases(&self) -> Result<Vec<(String, String)>, StoreError> {
        let mut client = self.collections.clone();
        let answer = self.call("list the aliases", None, client.list_aliases(ListAliasesRequest {})).await?;
        Ok(answer.aliases.into_iter().map(|alias| (alias.alias_name, alias.collection_name)).collect())
    }

    /// All collections, by their own names.
    pub(super) async fn collections(&self) -> Result<Vec<String>, StoreError> {
        let mut client = self.collections.clone();
        let answer = self.call("list the collections", None, client.list(ListCollectionsRequest {})).await?;
        Ok(answer.collections.into_iter().map(|collection| collection.name).collect())
    }

    /// True if there is a collection, or an alias, of this name.
    pub(super) async fn exists(&self, collection: &str) -> Result<bool, StoreError> {
        let mut client = self.collections.clone();
        let request = CollectionExistsRequest { collection_name: collection.to_owned() };
        let answer = self.call("look for it", Some(collection), client.collection_exists(request)).await?;
        answer.result.map(|result| result.exists).ok_or_else(|| self.nonsense(collection, "nothing"))
    }

    /// A collection's settings and indexes.
    pub(super) async fn info(&self, collection: &str) -> Result<CollectionInfo, StoreError> {
        let mut client = self.collections.clone();
        let request = GetCollectionInfoRequest { collection_name: collection.to_owned() };
        let answer = self.call("read the settings", Some(collection), client.get(request)).await?;
        answer.result.ok_or_else(|| self.nonsense(collection, "settings without content"))
    }

    /// Writes one key of a collection's metadata; the others stay.
    pub(super) async fn set_metadata(&self, collection: &str, key: &str, value: Value) -> Result<(), StoreError> {
        let mut client = self.collections.clone();
        let request = UpdateCollection {
            collection_name: collection.to_owned(),
            metadata: HashMap::from([(key.to_owned(), value)]),
            timeout: Some(self.call_timeout.as_secs().max(1)),
            ..UpdateCollection::default()
        };
        let answer = self.call("write the metadata", Some(collection), client.update(request)).await?;
        if answer.result { Ok(()) } else { Err(self.nonsense(collection, "no success to a change of its metadata")) }
    }

    /// The distinct values of an indexed key, with how many points have each.
    pub(super) async fn facet(
        &self,
        collection: &str,
        key: &str,
        Facet { filter, limit, exact }: Facet,
    ) -> Result<Vec<(Variant, u64)>, StoreError> {
        let mut client = self.points.clone();
        // Of some courses and of all, and of few and of many, are not alike.
        let kind = format!("facet {collection} {} {limit}", if filter.is_some() { "of some" } else { "of all" });
        let request = FacetCounts {
            collection_name: collection.to_owned(),
            key: key.to_owned(),
            filter,
            limit: Some(limit),
            exact: Some(exact),
            ..FacetCounts::default()
        };
        let action = format!("list the values of `{key}`");
        let turn = self.pace.measured_turn().await;
        let answer = self.within(self.call_timeout, &action, Some(collection), client.facet(request)).await?;
        turn.alike(&kind);
        turn.end();
        let value =
            |variant: Option<Variant>| variant.ok_or_else(|| self.nonsense(collection, "a facet without a value"));
        answer.hits.into_iter().map(|hit| Ok((value(hit.value.and_then(|value| value.variant))?, hit.count))).collect()
    }

    /// How many points match, exactly.
    pub(super) async fn count(&self, collection: &str, filter: Filter) -> Result<u64, StoreError> {
        let mut client = self.points.clone();
        let request = CountPoints {
            collection_name: collection.to_owned(),
            filter: Some(filter),
            exact: Some(true),
            ..CountPoints::default()
        };
        let answer = self.call("count points", Some(collection), client.count(request)).await?;
        answer.result.map(|result| result.count).ok_or_else(|| self.nonsense(collection, "a count without a number"))
    }

    /// A page of points with only `key` as their payload, and where the next one starts.
    pub(super) async fn scroll(
        &self,
        collection: &str,
        key: &str,
        page: Page,
    ) -> Result<(Vec<RetrievedPoint>, Option<PointId>), StoreError> {
        let mut client = self.points.clone();
        let request = ScrollPoints {
            collection_name: collection.to_owned(),
            filter: page.filter,
            offset: page.offset,
            limit: Some(page.limit),
            with_payload: Some(vec![key].into()),
            with_vectors: Some(false.into()),
            ..ScrollPoints::default()
        };
        let turn = self.pace.measured_turn().await;
        let answer = self.within(self.call_timeout, "read points", Some(collection), client.scroll(request)).await?;
        // The last page is shorter.
        if answer.next_page_offset.is_some() {
            turn.alike(&format!("scroll {collection}"));
        }
        turn.end();
        Ok((answer.result, answer.next_page_offset))
    }

    /// A page of points with everything that they have, and where the next one starts.
    pub(super) async fn scroll_whole(
        &self,
        collection: &str,
        page: Page,
    ) -> Result<(Vec<RetrievedPoint>, Option<PointId>), StoreError> {
        let mut client = self.points.clone();
        let request = ScrollPoints {
            collection_name: collection.to_owned(),
            filter: page.filter,
            offset: page.offset,
            limit: Some(page.limit),
            with_payload: Some(true.into()),
            with_vectors: Some(true.into()),
            ..ScrollPoints::default()
        };
        let answer = self.call("copy points", Some(collection), client.scroll(request)).await?;
        Ok((answer.result, answer.next_page_offset))
    }

    /// Which of these points there are.
    pub(super) async fn existing(&self, collection: &str, ids: Vec<PointId>) -> Result<Vec<PointId>, StoreError> {
        let mut client = self.points.clone();
        let request = GetPoints {
            collection_name: collection.to_owned(),
            ids,
            with_payload: Some(false.into()),
            with_vectors: Some(false.into()),
            ..GetPoints::default()
        };
        let answer = self.call("look for points", Some(collection), client.get(request)).await?;
        Ok(answer.result.into_iter().filter_map(|point| point.id).collect())
    }

    /// Writes points, in place of those with the same ids, and waits until that is applied.
    ///
    /// # Errors
    /// Also if the server has not yet applied it.
    pub(super) async fn upsert(&self, collection: &str, points: Vec<PointStruct>) -> Result<(), StoreError> {
        const ACTION: &str = "write points";
        let mut client = self.points.clone();
        let request = UpsertPoints {
            collection_name: collection.to_owned(),
            wait: Some(true),
            points,
            timeout: Some(self.call_timeout.as_secs().max(1)),
            ..UpsertPoints::default()
        };
        let answer = self.call(ACTION, Some(collection), client.upsert(request)).await?;
        let status = answer.result.map_or(UpdateStatus::UnknownUpdateStatus, |result| result.status());
        match unfinished(status) {
            None => Ok(()),
            Some(cause) => Err(StoreError::Unusable(format!("{}: {cause}", self.could_not(ACTION, Some(collection))))),
        }
    }

    /// Deletes what matches, once, and waits until it is applied, for at most `limit`.
    ///
    /// # Errors
    /// Also if the server has not yet applied the delete. After a timeout or a broken connection it may still do so.
    pub(super) async fn delete(&self, collection: &str, filter: Filter, limit: Duration) -> Result<(), StoreError> {
        let limit = limit.min(self.call_timeout);
        let mut client = self.points.clone();
        let request = DeletePoints {
            collection_name: collection.to_owned(),
            wait: Some(true),
            points: Some(PointsSelector::from(filter)),
            timeout: Some(limit.as_secs().max(1)),
            ..DeletePoints::default()
        };
        // Also its turn is waited for only as long as the confirmation is good.
        let call = self.pace.call(client.delete(request));
        let answer = self.within(limit, "delete points", Some(collection), call).await?;
        let status = answer.result.map_or(UpdateStatus::UnknownUpdateStatus, |result| result.status());
        match unfinished(status) {
            None => Ok(()),
            Some(cause) => {
                Err(StoreError::Unusable(format!("{}: {cause}", self.could_not("delete points", Some(collection)))))
            }
        }
    }

    async fn call<T>(
        &self,
        action: &str,
        collection: Option<&str>,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, StoreError> {
        self.pace.call(self.within(self.call_timeout, action, collection, call)).await
    }

    async fn within<T>(
        &self,
        limit: Duration,
        action: &str,
        collection: Option<&str>,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.refused(action, collection, status)),
            Err(_) => {
                Err(StoreError::Timeout { action: self.could_not(action, collection), seconds: limit.as_secs_f64() })
            }
        }
    }

    /// "store `vectors`: could not count points of collection `courses` at http://…"
    fn could_not(&self, action: &str, collection: Option<&str>) -> String {
        let of = collection.map(|name| format!(" of collection `{name}`")).unwrap_or_default();
        format!("store `{}`: could not {action}{of} at {}", self.store, self.url)
    }

    fn refused(&self, action: &str, collection: Option<&str>, status: Status) -> StoreError {
        let advice = match (status.code(), collection) {
            (Code::NotFound, Some(name)) => {
                return StoreError::Unusable(format!(
                    "store `{}`: collection `{name}` does not exist at {}: check the name and the server",
                    self.store, self.url
                ));
            }
            (Code::Unauthenticated | Code::PermissionDenied, _) => ": check the api key and what it allows",
            (Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled, _) => {
                ": check that it runs and that the url names its gRPC port (usually 6334)"
            }
            (Code::ResourceExhausted, _) => ": its rate limit is reached",
            _ => "",
        };
        StoreError::server(format!("{}{advice}", self.could_not(action, collection)), Answer(status))
    }

    fn nonsense(&self, collection: &str, what: &str) -> StoreError {
        StoreError::Unusable(format!(
            "store `{}`: {} answered {what} for collection `{collection}`: is it a Qdrant server?",
            self.store, self.url
        ))
    }
}

/// Which values to list, and how many.
#[derive(Debug, Clone, Default)]
pub(super) struct Facet {
    /// Only of points that match; of all without one.
    pub(super) filter: Option<Filter>,
    /// How many values at most.
    pub(super) limit: u64,
    /// Whether they are counted exactly, which costs a look at the points.
    pub(super) exact: bool,
}

/// Which points to read, and how many.
#[derive(Debug, Clone, Default)]
pub(super) struct Page {
    /// Only those that match; all without one.
    pub(super) filter: Option<Filter>,
    /// The first point's id.
    pub(super) offset: Option<PointId>,
    /// How many at most.
    pub(super) limit: u32,
}

/// Adds the api key to each request.
#[derive(Clone)]
struct ApiKey(Option<MetadataValue<Ascii>>);

impl Interceptor for ApiKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("api-key", key.clone());
        }
        Ok(request)
    }
}

/// What the server (or the connection to it) answered, without the headers that [`Status`] prints.
struct Answer(Status);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.message() {
            "" => self.0.code().description().fmt(f),
            message => message.fmt(f),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.code())
    }
}

impl Error for Answer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Scheme, host and port: no user, password, path, query or fragment.
fn address(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

/// Why a delete or a write with this status cannot be taken for done, or `None` if it can.
fn unfinished(status: UpdateStatus) -> Option<&'static str> {
    match status {
        UpdateStatus::Completed => None,
        UpdateStatus::Acknowledged => Some("the server queued it but did not wait for it"),
        UpdateStatus::WaitTimeout => Some("the server did not finish it in time and may still be at it"),
        UpdateStatus::ClockRejected => Some("a replica refused it as outdated"),
        UpdateStatus::UnknownUpdateStatus => Some("the server answered without a status"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_may_be_spelled_in_any_usual_way() {
        for (url, expected) in [
            ("http://127.0.0.1:6334", "http://127.0.0.1:6334"),
            ("http://Qdrant.Example:6334/", "http://qdrant.example:6334"),
            ("https://qdrant.example:443", "https://qdrant.example"),
            ("http://[::1]:6334", "http://[::1]:6334"),
        ] {
            assert_eq!(address(&Url::parse(url).unwrap()), expected);
        }
    }

    #[test]
    fn only_a_completed_delete_is_done() {
        for status in 0..=4 {
            let status = UpdateStatus::try_from(status).unwrap();
            assert_eq!(unfinished(status).is_none(), status == UpdateStatus::Completed, "{status:?}");
        }
    }

    #[tokio::test]
    async fn s2_a_delete_is_sent_once_though_the_connection_breaks() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::new("vectors", &url, None, Duration::from_secs(10)).unwrap();
        let mut connections = 0;
        let accept = async {
            // Each connection is closed after its client's greeting.
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                connections += 1;
                connection.read_exact(&mut [0; 24]).await.unwrap();
            }
        };
        let error = tokio::select! {
            result = client.delete("courses", Filter::default(), Duration::from_secs(10)) => result.unwrap_err(),
            () = accept => unreachable!("accepts for ever"),
        };
        assert_eq!(connections, 1);
        assert!(matches!(error, StoreError::Server { .. }), "{error}");
    }

    #[tokio::test]
    async fn s2_a_delete_is_given_up_when_its_confirmation_grows_stale() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::new("vectors", &url, None, Duration::from_secs(3600)).unwrap();
        let left = Duration::from_millis(50);
        let error = client.delete("courses", Filter::default(), left).await.unwrap_err();
        let StoreError::Timeout { action, seconds } = error else { panic!("{error:?}") };
        assert!(action.contains("could not delete points of collection `courses`"), "{action}");
        assert_eq!(seconds, left.as_secs_f64());
    }

    #[tokio::test]
    async fn bad_addresses_and_keys_are_refused_without_repeating_them() {
        let key = SecretString::from("hunter2\n");
        for (url, key) in [
            ("hunter2", None),
            ("redis://hunter2:6334", None),
            ("http://", None),
            ("https://user:hunter2@qdrant.example:6334", None),
            ("https://qdrant.example:6334/?api-key=hunter2", None),
            ("http://127.0.0.1:6334", Some(&key)),
        ] {
            let Err(error) = Client::new("vectors", url, key, Duration::from_secs(1)) else {
                panic!("{url} is accepted")
            };
            let text = format!("{error} {error:?}");
            assert!(text.contains("store `vectors`") && !text.contains("hunter2"), "{text}");
        }
    }
}
