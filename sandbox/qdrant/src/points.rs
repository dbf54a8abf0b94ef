//! The service of points.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use qdrant_client::qdrant::points_server::Points;
use qdrant_client::qdrant::{
    ClearPayloadPoints, CountPoints, CountResponse, CountResult, CreateFieldIndexCollection, CreateVectorNameRequest,
    DeleteFieldIndexCollection, DeletePayloadPoints, DeletePointVectors, DeletePoints, DeleteVectorNameRequest,
    DiscoverBatchPoints, DiscoverBatchResponse, DiscoverPoints, DiscoverResponse, FacetCounts, FacetResponse,
    GetPoints, GetResponse, PointsOperationResponse, QueryBatchPoints, QueryBatchResponse, QueryGroupsResponse,
    QueryPointGroups, QueryPoints, QueryResponse, RecommendBatchPoints, RecommendBatchResponse,
    RecommendGroupsResponse, RecommendPointGroups, RecommendPoints, RecommendResponse, ScrollPoints, ScrollResponse,
    SearchBatchPoints, SearchBatchResponse, SearchGroupsResponse, SearchMatrixOffsetsResponse,
    SearchMatrixPairsResponse, SearchMatrixPoints, SearchPointGroups, SearchPoints, SearchResponse, SetPayloadPoints,
    UpdateBatchPoints, UpdateBatchResponse, UpdatePointVectors, UpsertPoints,
};
use qdrant_edge::{
    CountRequest, CreateIndex, FacetRequest, FieldIndexOperations, Filter, RetrieveRequest, ScrollRequest,
};
use tonic::{Request, Response, Status};

use crate::collection::Collection;
use crate::convert::{
    self, facet_hit, filter, index, json_path, payload_selector, point_id, point_ids, vector_selector,
};
use crate::error::Error;
use crate::registry::Registry;
use crate::strict_mode::{self, Access, Checked};
use crate::writes::{Answer, Write, apply};

/// How many results a request without a limit gets.
const DEFAULT_LIMIT: u64 = 10;

/// Points, their payload and its indexes.
pub struct PointsService {
    registry: Arc<Registry>,
}

impl PointsService {
    /// Serves the points of `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// Runs a read of a collection, which blocks, off the runtime's threads.
    async fn read<T: Send + 'static>(
        &self,
        collection: String,
        work: impl FnOnce(&Collection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let registry = Arc::clone(&self.registry);
        tokio::task::spawn_blocking(move || work(&*registry.get(&collection)?))
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(Status::from)
    }

    /// Applies one write.
    async fn write(
        &self,
        collection: String,
        write: Write,
        answer: Answer,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let begun = Instant::now();
        let registry = Arc::clone(&self.registry);
        let results = apply(registry, collection, vec![write], answer).await?;
        Ok(Response::new(PointsOperationResponse {
            result: results.into_iter().next(),
            time: begun.elapsed().as_secs_f64(),
            usage: None,
        }))
    }
}

fn positive(limit: u64) -> Result<usize, Error> {
    if limit == 0 {
        let rule = "value 0 invalid, must be 1 or larger";
        return Err(Error::invalid_field("limit", rule));
    }
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

fn optional_filter(wanted: Option<qdrant_client::qdrant::Filter>) -> Result<Option<Filter>, Error> {
    wanted.map(filter::to_engine).transpose()
}

fn reading(filter: &Option<Filter>) -> Option<(&Filter, Access)> {
    filter.as_ref().map(|filter| (filter, Access::Read))
}

#[tonic::async_trait]
impl Points for PointsService {
    async fn upsert(&self, request: Request<UpsertPoints>) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        if request.update_filter.is_some() || request.update_mode.unwrap_or_default() != 0 {
            return Err(Error::Unimplemented("conditional upserts".to_owned()).into());
        }
        let answer = Answer::new(request.wait, request.timeout);
        let write = Write::upsert(request.points)?;
        self.write(request.collection_name, write, answer).await
    }

    async fn delete(&self, request: Request<DeletePoints>) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let answer = Answer::new(request.wait, request.timeout);
        let write = Write::delete(request.points)?;
        self.write(request.collection_name, write, answer).await
    }

    async fn set_payload(
        &self,
        request: Request<SetPayloadPoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let answer = Answer::new(request.wait, request.timeout);
        let write = Write::set_payload(request.payload, request.points_selector, request.key)?;
        self.write(request.collection_name, write, answer).await
    }

    async fn overwrite_payload(
        &self,
        request: Request<SetPayloadPoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let answer = Answer::new(request.wait, request.timeout);
        let write = Write::overwrite_payload(request.payload, request.points_selector)?;
        self.write(request.collection_name, write, answer).await
    }

    async fn delete_payload(
        &self,
        request: Request<DeletePayloadPoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let answer = Answer::new(request.wait, request.timeout);
        let write = Write::delete_payload(request.keys, request.points_selector)?;
        self.write(request.collection_name, write, answer).await
    }

    async fn clear_payload(
        &self,
        request: Request<ClearPayloadPoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let answer = Answer::new(request.wait, request.timeout);
        let write = Write::clear_payload(request.points)?;
        self.write(request.collection_name, write, answer).await
    }

    async fn create_field_index(
        &self,
        request: Request<CreateFieldIndexCollection>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let answer = Answer::new(request.wait, request.timeout);
        let schema = index::to_engine(request.field_type, request.field_index_params)?;
        let write = Write::index(FieldIndexOperations::CreateIndex(CreateIndex {
            field_name: json_path(&request.field_name)?,
            field_schema: Some(schema),
        }));
        self.write(request.collection_name, write, answer).await
    }

    async fn delete_field_index(
        &self,
        request: Request<DeleteFieldIndexCollection>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let answer = Answer::new(request.wait, request.timeout);
        let field = json_path(&request.field_name)?;
        let write = Write::index(FieldIndexOperations::DeleteIndex(field));
        self.write(request.collection_name, write, answer).await
    }

    async fn update_batch(&self, request: Request<UpdateBatchPoints>) -> Result<Response<UpdateBatchResponse>, Status> {
        let begun = Instant::now();
        let request = request.into_inner();
        let answer = Answer::new(request.wait, request.timeout);
        let writes = request
            .operations
            .into_iter()
            .map(|update| {
                let operation = update.operation.ok_or_else(|| Error::missing("Operation"))?;
                Write::batched(operation)
            })
            .collect::<Result<_, Error>>()?;
        let registry = Arc::clone(&self.registry);
        let result = apply(registry, request.collection_name, writes, answer).await?;
        Ok(Response::new(UpdateBatchResponse { result, time: begun.elapsed().as_secs_f64(), usage: None }))
    }

    async fn get(&self, request: Request<GetPoints>) -> Result<Response<GetResponse>, Status> {
        let begun = Instant::now();
        let request = request.into_inner();
        let wanted = RetrieveRequest {
            point_ids: point_ids(request.ids)?,
            with_payload: Some(payload_selector(request.with_payload, true)?),
            with_vector: Some(vector_selector(request.with_vectors)),
        };
        let records = self
            .read(request.collection_name, move |collection| {
                let checked = Checked { timeout: request.timeout, ..Checked::default() };
                strict_mode::check(collection, &checked)?;
                Ok(collection.shard().retrieve(wanted)?)
            })
            .await?;
        Ok(Response::new(GetResponse {
            result: records.into_iter().map(convert::record).collect(),
            time: begun.elapsed().as_secs_f64(),
            usage: None,
        }))
    }

    async fn scroll(&self, request: Request<ScrollPoints>) -> Result<Response<ScrollResponse>, Status> {
        let begun = Instant::now();
        let request = request.into_inner();
        if request.order_by.is_some() {
            return Err(Error::Unimplemented("order_by".to_owned()).into());
        }
        let limit = request.limit.map_or(DEFAULT_LIMIT, u64::from);
        let wanted = ScrollRequest {
            offset: request.offset.map(point_id).transpose()?,
            limit: Some(positive(limit)?),
            filter: optional_filter(request.filter)?,
            with_payload: Some(payload_selector(request.with_payload, true)?),
            with_vector: vector_selector(request.with_vectors),
            order_by: None,
        };
        let (records, next) = self
            .read(request.collection_name, move |collection| {
                let checked = Checked {
                    limit: Some(limit),
                    timeout: request.timeout,
                    filter: reading(&wanted.filter),
                    ..Checked::default()
                };
                strict_mode::check(collection, &checked)?;
                Ok(collection.shard().scroll(wanted)?)
            })
            .await?;
        Ok(Response::new(ScrollResponse {
            next_page_offset: convert::next_page(next),
            result: records.into_iter().map(convert::record).collect(),
            time: begun.elapsed().as_secs_f64(),
            usage: None,
        }))
    }

    async fn count(&self, request: Request<CountPoints>) -> Result<Response<CountResponse>, Status> {
        let begun = Instant::now();
        let request = request.into_inner();
        let wanted = CountRequest { filter: optional_filter(request.filter)?, exact: request.exact.unwrap_or(true) };
        let count = self
            .read(request.collection_name, move |collection| {
                let checked = Checked {
                    timeout: request.timeout,
                    filter: reading(&wanted.filter),
                    exact: wanted.exact,
                    ..Checked::default()
                };
                strict_mode::check(collection, &checked)?;
                Ok(collection.shard().count(wanted)?)
            })
            .await?;
        Ok(Response::new(CountResponse {
            result: Some(CountResult { count: count as u64 }),
            time: begun.elapsed().as_secs_f64(),
            usage: None,
        }))
    }

    async fn facet(&self, request: Request<FacetCounts>) -> Result<Response<FacetResponse>, Status> {
        let begun = Instant::now();
        let request = request.into_inner();
        let limit = request.limit.unwrap_or(DEFAULT_LIMIT);
        let wanted = FacetRequest {
            key: json_path(&request.key)?,
            limit: positive(limit)?,
            filter: optional_filter(request.filter)?,
            exact: request.exact.unwrap_or_default(),
        };
        let facet = self
            .read(request.collection_name, move |collection| {
                let checked = Checked {
                    limit: Some(limit),
                    timeout: request.timeout,
                    filter: reading(&wanted.filter),
                    exact: wanted.exact,
                    ..Checked::default()
                };
                strict_mode::check(collection, &checked)?;
                Ok(collection.shard().facet(wanted)?)
            })
            .await?;
        Ok(Response::new(FacetResponse {
            hits: facet.hits.into_iter().map(facet_hit).collect(),
            time: begun.elapsed().as_secs_f64(),
            usage: None,
        }))
    }

    unimplemented_calls! {
        update_vectors(UpdatePointVectors) -> PointsOperationResponse;
        delete_vectors(DeletePointVectors) -> PointsOperationResponse;
        create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
        delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
        search(SearchPoints) -> SearchResponse;
        search_batch(SearchBatchPoints) -> SearchBatchResponse;
        search_groups(SearchPointGroups) -> SearchGroupsResponse;
        recommend(RecommendPoints) -> RecommendResponse;
        recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
        recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
        discover(DiscoverPoints) -> DiscoverResponse;
        discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
        query(QueryPoints) -> QueryResponse;
        query_batch(QueryBatchPoints) -> QueryBatchResponse;
        query_groups(QueryPointGroups) -> QueryGroupsResponse;
        search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
        search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
    }
}
