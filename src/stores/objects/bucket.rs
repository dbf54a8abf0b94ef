//! The way to a bucket: its client, a timeout on every call, and errors in words.
//!
//! The client tries nothing twice: a delete must not be sent again, and what else fails is asked again by the next run.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{ClientOptions, CopyOptions, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use secrecy::{ExposeSecret, SecretString};

use crate::clock::Deadline;
use crate::errors::chain;
use crate::pace::Pace;
use crate::stores::StoreError;

/// Where a bucket is, and who asks for it.
#[derive(Debug, Clone)]
pub struct BucketSettings {
    /// The address of the service, without the bucket: `https://s3.eu-central-1.amazonaws.com`.
    pub url: String,
    /// The bucket's name.
    pub bucket: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The key's id; without it and the key, requests are not signed.
    pub access_key: Option<SecretString>,
    /// The key.
    pub secret_key: Option<SecretString>,
    /// How long to wait for a connection, and for the answer of each call.
    pub call_timeout: Duration,
}

/// A bucket of an S3-compatible service.
#[derive(Debug, Clone)]
pub struct Bucket {
    s3: AmazonS3,
    shown: String,
    call_timeout: Duration,
    pace: Pace,
}

impl Bucket {
    /// A bucket that is connected to when it is first used.
    ///
    /// # Errors
    /// If the address is none.
    pub fn new(settings: &BucketSettings) -> Result<Self, StoreError> {
        let BucketSettings { url, bucket, region, access_key, secret_key, call_timeout } = settings;
        let shown = format!("bucket `{bucket}` at {url}");
        // Of rustls' several cryptographies one must be named once in a process; where that was done before, it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ClientOptions::new()
            // Each call has its own time; this only ends what nobody waits for.
            .with_timeout(*call_timeout * 2)
            .with_connect_timeout(*call_timeout)
            .with_allow_http(url.starts_with("http://"));
        let retry = RetryConfig { max_retries: 0, retry_timeout: *call_timeout, ..RetryConfig::default() };
        let builder = match (access_key, secret_key) {
            (Some(id), Some(key)) => AmazonS3Builder::new()
                .with_access_key_id(id.expose_secret())
                .with_secret_access_key(key.expose_secret()),
            // Otherwise the client would look for a key that the machine has.
            _ => AmazonS3Builder::new().with_skip_signature(true),
        };
        let s3 = builder
            .with_endpoint(url.trim_end_matches('/'))
            .with_bucket_name(bucket)
            .with_region(region)
            .with_virtual_hosted_style_request(false)
            .with_client_options(client)
            .with_retry(retry)
            .build()
            .map_err(|error| StoreError::server(format!("{shown}: could not prepare a client"), Said::of(&error)))?;
        Ok(Self { s3, shown, call_timeout: *call_timeout, pace: Pace::default() })
    }

    /// The same bucket, called at this pace.
    pub(super) fn paced(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// At which pace the service is called.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Where it is, in words, without secrets.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The client, which has timeouts of its own.
    pub fn s3(&self) -> &AmazonS3 {
        &self.s3
    }

    /// How long one call may take.
    pub fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// Makes a call in its turn, and waits for it as long as a call may take.
    pub(super) async fn call<T>(
        &self,
        doing: impl fmt::Display,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        self.pace.call(self.within(doing, call)).await
    }

    async fn within<T>(
        &self,
        doing: impl fmt::Display,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.call_timeout, call).await {
            Ok(done) => done.map_err(|error| self.failed(doing, &error)),
            Err(_) => Err(self.timeout(doing, self.call_timeout)),
        }
    }

    pub(super) fn failed(&self, doing: impl fmt::Display, error: &object_store::Error) -> StoreError {
        StoreError::server(format!("{}: could not {doing}", self.shown), Said::of(error))
    }

    pub(super) fn timeout(&self, doing: impl fmt::Display, limit: Duration) -> StoreError {
        StoreError::Timeout { action: format!("{}: could not {doing}", self.shown), seconds: limit.as_secs_f64() }
    }

    pub(super) fn unusable(&self, why: impl fmt::Display) -> StoreError {
        StoreError::Unusable(format!("{}: {why}", self.shown))
    }

    /// What the server says about an object; `None` if there is none.
    pub(super) async fn head(&self, name: &Path) -> Result<Option<ObjectMeta>, StoreError> {
        let head = async {
            match self.s3.head(name).await {
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                looked => looked.map(Some),
            }
        };
        self.call(format!("look at `{name}`"), head).await
    }

    /// Copies an object within the bucket, over whatever is there.
    pub(super) async fn copy(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let copy = self.s3.copy_opts(from, to, CopyOptions::default());
        self.call(format!("copy `{from}` to `{to}`"), copy).await
    }

    /// Removes an object of the collector's own; harmless if it has gone.
    pub(super) async fn remove(&self, name: &Path) -> Result<(), StoreError> {
        self.pace.call(self.remove_now(name)).await
    }

    /// The same, if its turn comes before `good` is over. False: it did not, and nothing was sent.
    pub(super) async fn remove_while(&self, name: &Path, good: &Deadline) -> Result<bool, StoreError> {
        let turn = self.pace.turn().await;
        if good.is_over() {
            return Ok(false);
        }
        let removed = self.remove_now(name).await;
        turn.end();
        removed.map(|()| true)
    }

    async fn remove_now(&self, name: &Path) -> Result<(), StoreError> {
        let remove = async {
            match self.s3.delete(name).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                removed => removed,
            }
        };
        self.within(format!("remove `{name}`"), remove).await
    }

    /// Lists the objects whose names begin with the folder `below`, or all.
    pub(super) fn list(&self, below: Option<&Path>, doing: &'static str) -> Listing<'_> {
        let prefix = below.map(|folder| format!("{folder}/"));
        Listing { bucket: self, prefix, page: VecDeque::new(), rest: Rest::All, doing }
    }
}

/// Objects as the server lists them, page by page; complete only when [`Listing::next`] has returned `None`.
pub(super) struct Listing<'a> {
    bucket: &'a Bucket,
    prefix: Option<String>,
    /// What was listed and not told yet.
    page: VecDeque<ObjectMeta>,
    rest: Rest,
    doing: &'static str,
}

/// What is still to be listed.
enum Rest {
    All,
    /// What comes after a page, by the word that the server gave for it.
    After(String),
    Nothing,
}

impl Listing<'_> {
    /// The next object.
    ///
    /// # Errors
    /// If a page cannot be had, or names an object in a way that could not be asked for again.
    pub(super) async fn next(&mut self) -> Result<Option<ObjectMeta>, StoreError> {
        loop {
            if let Some(object) = self.page.pop_front() {
                return Ok(Some(object));
            }
            let page_token = match std::mem::replace(&mut self.rest, Rest::Nothing) {
                Rest::All => None,
                Rest::After(token) => Some(token),
                Rest::Nothing => return Ok(None),
            };
            let asked = PaginatedListOptions { page_token, ..PaginatedListOptions::default() };
            let turn = self.bucket.pace.measured_turn().await;
            let list = self.bucket.s3.list_paginated(self.prefix.as_deref(), asked);
            let listed = self.bucket.within(self.doing, list).await?;
            self.page = listed.result.objects.into();
            if let Some(token) = listed.page_token {
                turn.alike("list");
                self.rest = Rest::After(token);
            }
            turn.end();
        }
    }
}

/// What a server said when it refused: a code and a message where it gave some, and what to do about it. The rest of its answer
/// may repeat who asked, and is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said(String);

impl Said {
    /// The words of an error.
    pub fn of(error: &object_store::Error) -> Self {
        let text = chain(error);
        let Some(code) = element(&text, "Code") else { return Self(text) };
        let message = element(&text, "Message").unwrap_or("no more is said");
        let advice = match code {
            "NoSuchBucket" => "; check `bucket`, `url` and `region`",
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AccessDenied" => {
                "; check `access_key` and `secret_key`, and what they may do"
            }
            _ => "",
        };
        Self(format!("{code}: {}{advice}", message.trim_end_matches('.')))
    }

    /// True if the server's code is this one.
    pub(super) fn is(&self, code: &str) -> bool {
        self.0.strip_prefix(code).is_some_and(|rest| rest.starts_with(':'))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Said {}

/// The text of the first element of this name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}
