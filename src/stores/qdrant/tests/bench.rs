//! Collections on a real engine, filled past the store under test.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use qdrant_client::qdrant::vectors_output::VectorsOptions;
use qdrant_client::qdrant::{
    CreateAliasBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, Distance, FieldType, PointId,
    PointStruct, ScrollPoints, StrictModeConfig, UpsertPointsBuilder, VectorParamsBuilder, VectorsOutput,
};
use qdrant_client::{Payload, Qdrant};
use sandbox::Collections;
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::{QdrantCollection, QdrantSettings, QdrantStore};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::SourceIndex;
use crate::stores::Store;
use crate::stores::contract::{Bench, Contents};

pub(super) const KEY: &str = "course_id";

/// How the collections of a [`World`] are made.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) id_type: IdType,
    pub(super) index: Option<FieldType>,
    pub(super) strict: Option<StrictModeConfig>,
}

/// The collections behind each source of a [`World`].
type Behind = Vec<Vec<&'static str>>;

/// A place with two sources, the second of which is one collection behind an alias, and the store over both.
pub(super) struct World {
    plan: Plan,
    behind: Behind,
    pub(super) place: Collections,
    pub(super) client: Qdrant,
    pub(super) store: QdrantStore,
    next: AtomicU64,
}

/// Strict mode as a real platform has it.
pub(super) fn strict() -> StrictModeConfig {
    StrictModeConfig {
        enabled: Some(true),
        max_query_limit: Some(100),
        unindexed_filtering_retrieve: Some(false),
        unindexed_filtering_update: Some(false),
        filter_max_conditions: Some(16),
        condition_max_size: Some(256),
        upsert_max_batchsize: Some(128),
        ..StrictModeConfig::default()
    }
}

pub(super) fn uuid(n: u64) -> CourseId {
    CourseId::Uuid(Uuid::from_u64_pair(0x0b5a_6f0e_4d7c_4a39, 0x9a43_6d7a_5f0d_0000 + n))
}

impl Plan {
    pub(super) fn new(id_type: IdType, index: Option<FieldType>) -> Self {
        Self { id_type, index, strict: None }
    }

    pub(super) fn strict(self) -> Self {
        Self { strict: Some(strict()), ..self }
    }

    /// The first source is a collection.
    pub(super) async fn build(self) -> World {
        self.build_over("notes", vec!["notes"]).await
    }

    /// The first source is a pattern of three collections, with an alias of one that it matches as well, beside one that it does
    /// not.
    pub(super) async fn build_over_a_pattern(self) -> World {
        let world = self.build_over("materials-*", vec!["materials-a", "materials-b", "materials-c"]).await;
        alias(&world.client, &world.place.name("materials-b"), &world.place.name("materials-now")).await;
        create(&world.client, &world.place.name("material"), &world.plan).await;
        world
    }

    async fn build_over(self, first: &str, behind: Vec<&'static str>) -> World {
        let place = Collections::create().await.expect("a server");
        let client = connect(place.url(), place.api_key());
        let behind = vec![behind, vec!["chunks_v1"]];
        for name in behind.iter().flatten() {
            create(&client, &place.name(name), &self).await;
        }
        alias(&client, &place.name("chunks_v1"), &place.name("chunks")).await;
        let store = open(&place, self.id_type, &[first, "chunks"]).expect("a store");
        World { plan: self, behind, place, client, store, next: AtomicU64::new(0) }
    }
}

pub(super) fn connect(url: &str, api_key: Option<&str>) -> Qdrant {
    let config = Qdrant::from_url(url).timeout(Duration::from_secs(30)).skip_compatibility_check();
    config.api_key(api_key).build().expect("a client")
}

pub(super) async fn create(client: &Qdrant, name: &str, plan: &Plan) {
    let mut collection =
        CreateCollectionBuilder::new(name).vectors_config(VectorParamsBuilder::new(2, Distance::Cosine));
    if let Some(strict) = plan.strict.clone() {
        collection = collection.strict_mode_config(strict);
    }
    client.create_collection(collection).await.expect("a collection");
    if let Some(index) = plan.index {
        let index = CreateFieldIndexCollectionBuilder::new(name, KEY, index).wait(true);
        client.create_field_index(index).await.expect("an index");
    }
}

pub(super) async fn alias(client: &Qdrant, collection: &str, alias: &str) {
    client.create_alias(CreateAliasBuilder::new(collection, alias)).await.expect("an alias");
}

pub(super) fn settings(place: &Collections, id_type: IdType, names: &[&str]) -> QdrantSettings {
    let collection = |name: &&str| QdrantCollection { name: place.name(name), key: KEY.to_owned() };
    QdrantSettings {
        name: "vectors".to_owned(),
        url: place.url().to_owned(),
        api_key: place.api_key().map(SecretString::from),
        collections: names.iter().map(collection).collect(),
        id_type,
        batch_limit: 100,
        call_timeout: Duration::from_secs(10),
    }
}

pub(super) fn open(
    place: &Collections,
    id_type: IdType,
    names: &[&str],
) -> Result<QdrantStore, crate::stores::StoreError> {
    QdrantStore::new(settings(place, id_type, names))
}

impl World {
    /// The name on the server of the collection behind a source, the first one of several.
    pub(super) fn physical(&self, source: SourceIndex) -> String {
        self.place.name(self.behind[source.0][0])
    }

    /// Writes a point and returns its name in [`Bench::contents`].
    pub(super) async fn write(&self, source: SourceIndex, payload: Value) -> Vec<u8> {
        self.write_all(source, vec![payload]).await.remove(0)
    }

    /// Writes points, whose ids are numbers and UUIDs in turn, into the collections of the source in turn.
    pub(super) async fn write_all(&self, source: SourceIndex, payloads: Vec<Value>) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        for (n, payloads) in payloads.chunks(100).enumerate() {
            let behind = &self.behind[source.0];
            let first = self.next.load(Ordering::Relaxed) as usize;
            let collection = self.place.name(behind[(first + n) % behind.len()]);
            let mut points = Vec::new();
            for payload in payloads {
                let n = self.next.fetch_add(1, Ordering::Relaxed);
                let id = if n.is_multiple_of(2) {
                    PointId::from(n)
                } else {
                    Uuid::from_u128(u128::from(n) << 64).to_string().into()
                };
                names.push(name(&collection, &id));
                let payload = Payload::try_from(payload.clone()).expect("an object");
                points.push(PointStruct::new(id, vec![1.0, n as f32], payload));
            }
            let upsert = UpsertPointsBuilder::new(&collection, points).wait(true);
            self.client.upsert_points(upsert).await.expect("points");
        }
        names
    }

    /// A course id as this world's payloads spell it.
    pub(super) fn spelled(&self, course: CourseId) -> Value {
        match (course, self.plan.index) {
            (CourseId::Integer(number), Some(FieldType::Integer)) => json!(number),
            // Without an index both spellings are ids.
            (CourseId::Integer(number), None) if number % 2 == 0 => json!(number),
            _ => json!(course.to_string()),
        }
    }

    /// Values at the key that are no ids, as far as this world's index lets anybody tell.
    fn unrecognised(&self) -> [Value; 4] {
        let nobody = json!({ "title": "a note" });
        let upper = json!({ KEY: "0B5A6F0E-4D7C-4A39-9A43-6D7A5F0C1E2D" });
        let null = json!({ KEY: null });
        match (self.plan.id_type, self.plan.index) {
            (IdType::Uuid, Some(FieldType::Uuid)) => [nobody, json!({ KEY: 7 }), json!({ KEY: "../../etc" }), null],
            (IdType::Uuid | IdType::Text(_), _) => [upper, json!({ KEY: 7 }), nobody, json!({ KEY: "" })],
            (IdType::Integer, _) => [nobody, json!({ KEY: "007" }), json!({ KEY: 7.5 }), json!({ KEY: { "id": 7 } })],
        }
    }
}

/// The name of a point in [`Bench::contents`].
fn name(collection: &str, id: &PointId) -> Vec<u8> {
    format!("{collection}/{id:?}").into_bytes()
}

#[async_trait]
impl Bench for World {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn id_type(&self) -> IdType {
        self.plan.id_type
    }

    async fn plant(&self, source: SourceIndex, course: CourseId) -> Vec<u8> {
        self.write(source, json!({ KEY: self.spelled(course), "level": 2 })).await
    }

    async fn plant_entangled(&self, source: SourceIndex, owner: CourseId, other: CourseId) -> Option<Vec<u8>> {
        Some(self.write(source, json!({ KEY: [self.spelled(owner), self.spelled(other)] })).await)
    }

    async fn plant_unrecognised(&self, source: SourceIndex) -> Option<Vec<u8>> {
        // Written in turn, so that a source gets two of them and both sources together all.
        let n = self.next.load(Ordering::Relaxed) as usize % 2 + source.0 * 2;
        Some(self.write(source, self.unrecognised()[n].clone()).await)
    }

    fn compares_and_sets(&self) -> bool {
        false
    }

    async fn rewrite(&self, _: SourceIndex, _: CourseId, _: &[u8]) -> bool {
        false
    }

    async fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        for behind in self.behind.iter().flatten() {
            contents.extend(whole(&self.client, &self.place.name(behind)).await);
        }
        contents
    }
}

/// All points of a collection, with payloads and all vectors, by their names in [`Bench::contents`].
pub(super) async fn whole(client: &Qdrant, collection: &str) -> Contents {
    let (mut contents, mut offset) = (Contents::new(), None);
    loop {
        let request = ScrollPoints {
            collection_name: collection.to_owned(),
            offset,
            limit: Some(100),
            with_payload: Some(true.into()),
            with_vectors: Some(true.into()),
            ..ScrollPoints::default()
        };
        let page = client.scroll(request).await.expect("a page");
        for mut point in page.result {
            let id = point.id.take().expect("an id");
            // Payloads and named vectors come in any order; floats are written so that each is read as itself.
            let payload: BTreeMap<_, _> = std::mem::take(&mut point.payload).into_iter().collect();
            contents.insert(name(collection, &id), format!("{payload:?} {}", vectors(point.vectors)).into_bytes());
        }
        match page.next_page_offset {
            Some(next) => offset = Some(next),
            None => return contents,
        }
    }
}

fn vectors(vectors: Option<VectorsOutput>) -> String {
    match vectors.and_then(|vectors| vectors.vectors_options) {
        Some(VectorsOptions::Vectors(named)) => format!("{:?}", BTreeMap::from_iter(named.vectors)),
        other => format!("{other:?}"),
    }
}
