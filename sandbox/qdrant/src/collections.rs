//! The service of collections and aliases.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use qdrant_client::qdrant::collections_server::Collections;
use qdrant_client::qdrant::{
    ChangeAliases, CollectionClusterInfoRequest, CollectionClusterInfoResponse, CollectionDescription,
    CollectionExists, CollectionExistsRequest, CollectionExistsResponse, CollectionOperationResponse, CreateCollection,
    CreateShardKeyRequest, CreateShardKeyResponse, DeleteCollection, DeleteShardKeyRequest, DeleteShardKeyResponse,
    GetCollectionInfoRequest, GetCollectionInfoResponse, ListAliasesRequest, ListAliasesResponse,
    ListCollectionAliasesRequest, ListCollectionsRequest, ListCollectionsResponse, ListShardKeysRequest,
    ListShardKeysResponse, UpdateCollection, UpdateCollectionClusterSetupRequest, UpdateCollectionClusterSetupResponse,
};
use tonic::{Request, Response, Status};

use crate::error::Error;
use crate::registry::Registry;

/// Collections and aliases.
pub struct CollectionsService {
    registry: Arc<Registry>,
}

impl CollectionsService {
    /// Serves the collections of `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// Runs `work`, which blocks, off the runtime's threads.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Registry) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let registry = Arc::clone(&self.registry);
        tokio::task::spawn_blocking(move || work(&registry))
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(Status::from)
    }

    async fn operate(
        &self,
        work: impl FnOnce(&Registry) -> Result<bool, Error> + Send + 'static,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let begun = Instant::now();
        let result = self.run(work).await?;
        Ok(Response::new(CollectionOperationResponse { result, time: begun.elapsed().as_secs_f64() }))
    }
}

/// Only strict mode's settings and metadata change answers here.
fn refuse_tuning(request: &UpdateCollection) -> Result<(), Error> {
    let tunes = request.optimizers_config.is_some()
        || request.params.is_some()
        || request.hnsw_config.is_some()
        || request.vectors_config.is_some()
        || request.quantization_config.is_some()
        || request.sparse_vectors_config.is_some();
    if tunes {
        return Err(Error::Unimplemented(
            "updates of a collection's other settings than strict mode and metadata".to_owned(),
        ));
    }
    Ok(())
}

#[tonic::async_trait]
impl Collections for CollectionsService {
    async fn get(
        &self,
        request: Request<GetCollectionInfoRequest>,
    ) -> Result<Response<GetCollectionInfoResponse>, Status> {
        let begun = Instant::now();
        let name = request.into_inner().collection_name;
        let info = self.run(move |registry| registry.get(&name)?.info()).await?;
        Ok(Response::new(GetCollectionInfoResponse { result: Some(info), time: begun.elapsed().as_secs_f64() }))
    }

    async fn list(&self, _: Request<ListCollectionsRequest>) -> Result<Response<ListCollectionsResponse>, Status> {
        let begun = Instant::now();
        let names = self.run(|registry| Ok(registry.names())).await?;
        Ok(Response::new(ListCollectionsResponse {
            collections: names.into_iter().map(|name| CollectionDescription { name }).collect(),
            time: begun.elapsed().as_secs_f64(),
        }))
    }

    async fn create(
        &self,
        request: Request<CreateCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let request = request.into_inner();
        self.operate(|registry| registry.create(request).map(|()| true)).await
    }

    async fn update(
        &self,
        request: Request<UpdateCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let request = request.into_inner();
        self.operate(|registry| {
            refuse_tuning(&request)?;
            let UpdateCollection { collection_name, strict_mode_config, metadata, .. } = request;
            registry.update(&collection_name, strict_mode_config, metadata).map(|()| true)
        })
        .await
    }

    async fn delete(
        &self,
        request: Request<DeleteCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let name = request.into_inner().collection_name;
        self.operate(move |registry| registry.delete(&name)).await
    }

    async fn update_aliases(
        &self,
        request: Request<ChangeAliases>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let actions = request.into_inner().actions;
        self.operate(|registry| registry.change_aliases(actions).map(|()| true)).await
    }

    async fn list_collection_aliases(
        &self,
        request: Request<ListCollectionAliasesRequest>,
    ) -> Result<Response<ListAliasesResponse>, Status> {
        let begun = Instant::now();
        let name = request.into_inner().collection_name;
        let aliases = self.run(move |registry| Ok(registry.aliases(Some(&name)))).await?;
        Ok(Response::new(ListAliasesResponse { aliases, time: begun.elapsed().as_secs_f64() }))
    }

    async fn list_aliases(&self, _: Request<ListAliasesRequest>) -> Result<Response<ListAliasesResponse>, Status> {
        let begun = Instant::now();
        let aliases = self.run(|registry| Ok(registry.aliases(None))).await?;
        Ok(Response::new(ListAliasesResponse { aliases, time: begun.elapsed().as_secs_f64() }))
    }

    async fn collection_exists(
        &self,
        request: Request<CollectionExistsRequest>,
    ) -> Result<Response<CollectionExistsResponse>, Status> {
        let begun = Instant::now();
        let name = request.into_inner().collection_name;
        let exists = self.run(move |registry| Ok(registry.get(&name).is_ok())).await?;
        Ok(Response::new(CollectionExistsResponse {
            result: Some(CollectionExists { exists }),
            time: begun.elapsed().as_secs_f64(),
        }))
    }

    unimplemented_calls! {
        collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
        update_collection_cluster_setup(UpdateCollectionClusterSetupRequest)
            -> UpdateCollectionClusterSetupResponse;
        create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
        delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
        list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
    }
}
