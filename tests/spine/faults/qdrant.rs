//! Qdrant: the points.

use anyhow::Result;
use course_gc::domain::report::Verdict;
use qdrant_client::Payload;
use qdrant_client::qdrant::{
    CountPointsBuilder, CreateAliasBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder,
    DeleteFieldIndexCollectionBuilder, Distance, FieldType, PointStruct, StrictModeConfigBuilder,
    UpdateCollectionBuilder, UpsertPointsBuilder, VectorParamsBuilder,
};
use sandbox::campus::Campus;
use sandbox::{Qdrant, QdrantOptions};
use serde_json::json;

use super::fault::Struck;
use super::matrix::{Most, Stage, When, play};
use super::{documented, holds_itself_only};
use crate::interposed::{Call, interpose};
use crate::outages::{CAMPUS, Scene, activate, entry, run};

/// What is asked of Qdrant in a run, in order. Requests are known by how their messages begin: the collection's name, the
/// next field's number and what is in it.
const STAGES: [Stage; 8] = [
    Stage { name: "before the run", when: When::First, most: Most::Nothing },
    Stage { name: "places: the marker is read", when: When::Sent(&[b"course_embeddings_v1"]), most: Most::Nothing },
    Stage { name: "places: the marker is moved", when: When::Sent(&[b"course_gc"]), most: Most::Nothing },
    Stage { name: "inventory: facet", when: When::Sent(&[FACET]), most: Most::Nothing },
    Stage { name: "inventory: count", when: When::Sent(&[FACET, COUNT]), most: Most::Nothing },
    Stage { name: "locate", when: When::Before("vectors", Call::Locate, &[COUNT]), most: Most::Nothing },
    Stage { name: "delete", when: When::Sent(&[DELETE]), most: Most::Handles(1) },
    Stage { name: "the count after it", when: When::Sent(&[DELETE, COUNT]), most: Most::Handles(1) },
];

const FACET: &[u8] = b"course_embeddings_v1\x12\x09course_id";
/// A filter, which facets without one do not have.
const COUNT: &[u8] = b"course_embeddings_v1\x12";
/// `wait: true`.
const DELETE: &[u8] = b"course_embeddings_v1\x10\x01";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_s11_qdrant_fails_at_every_stage() -> Result<()> {
    play(Struck::Qdrant, &STAGES, 6).await
}

/// The campus' collection, by its own name.
fn collection(scene: &Scene) -> String {
    scene.installation.addresses.collection()
}

/// What the campus is indexed by.
fn index(scene: &Scene) -> CreateFieldIndexCollectionBuilder {
    CreateFieldIndexCollectionBuilder::new(collection(scene), "course_id", FieldType::Keyword).wait(true)
}

async fn strict(scene: &Scene, strict: StrictModeConfigBuilder) -> Result<()> {
    let update = UpdateCollectionBuilder::new(collection(scene)).strict_mode_config(strict);
    scene.installation.stores.qdrant.update_collection(update).await?;
    Ok(())
}

#[tokio::test]
async fn s4_a_wrong_api_key_holds_the_points() -> Result<()> {
    let server = Qdrant::start_with(QdrantOptions { api_key: Some("right".to_owned()) }).await?;
    let mut scene = Scene::with(|addresses| {
        (addresses.qdrant, addresses.qdrant_api_key) = (server.url(), Some("right".to_owned()));
    })
    .await?;
    scene.installation.addresses.qdrant_api_key = Some("hunter2".to_owned());
    let report = activate(&scene, |_| ()).await?;
    assert!(!format!("{report:?}").contains("hunter2"));
    let happened = holds_itself_only(&scene, "vectors", &report, "check the api key").await?;
    scene.installation.addresses.qdrant_api_key = Some("right".to_owned());
    scene.recovers().await?;
    documented("a wrong api key", &happened, "s4_a_wrong_api_key_holds_the_points")
}

#[tokio::test]
async fn s4_a_missing_index_under_strict_mode_holds_the_points() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let qdrant = &scene.installation.stores.qdrant;
    qdrant
        .delete_field_index(DeleteFieldIndexCollectionBuilder::new(collection(&scene), "course_id").wait(true))
        .await?;
    let report = activate(&scene, |_| ()).await?;
    let happened =
        holds_itself_only(&scene, "vectors", &report, "has no index on `course_id` that can find course ids").await?;
    qdrant.create_field_index(index(&scene)).await?;
    scene.recovers().await?;
    documented(
        "no index on `course_id`, in strict mode",
        &happened,
        "s4_a_missing_index_under_strict_mode_holds_the_points",
    )
}

#[tokio::test]
async fn a_missing_index_without_strict_mode_only_takes_longer() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let qdrant = &scene.installation.stores.qdrant;
    strict(&scene, StrictModeConfigBuilder::default().enabled(false)).await?;
    qdrant
        .delete_field_index(DeleteFieldIndexCollectionBuilder::new(collection(&scene), "course_id").wait(true))
        .await?;
    scene.recovers().await?;
    documented(
        "no index on `course_id`, without strict mode",
        "done: every point is read instead",
        "a_missing_index_without_strict_mode_only_takes_longer",
    )
}

#[tokio::test]
async fn the_tightest_strict_mode_is_obeyed_and_holds_nothing() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let tight = StrictModeConfigBuilder::default().enabled(true).max_query_limit(1).condition_max_size(1);
    strict(&scene, tight).await?;
    // The snapshots read pages themselves.
    let (code, report) = run(&scene.installation).await?;
    assert_eq!((code, &report["verdict"]), (0, &"done".into()), "{report:#}");
    strict(&scene, StrictModeConfigBuilder::default().enabled(true).max_query_limit(100)).await?;
    scene.is_finished().await?;
    documented(
        "strict mode: one value a condition, one point a page",
        "done: in as many requests as it takes",
        "the_tightest_strict_mode_is_obeyed_and_holds_nothing",
    )
}

#[tokio::test]
async fn s4_strict_mode_without_exact_counts_holds_the_points() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    strict(&scene, StrictModeConfigBuilder::default().enabled(true).search_allow_exact(false)).await?;
    let report = activate(&scene, |_| ()).await?;
    let happened =
        holds_itself_only(&scene, "vectors", &report, "refuses exact counts, without which nothing is deleted").await?;
    strict(&scene, StrictModeConfigBuilder::default().enabled(true).search_allow_exact(true)).await?;
    scene.recovers().await?;
    documented("strict mode without exact counts", &happened, "s4_strict_mode_without_exact_counts_holds_the_points")
}

#[tokio::test]
async fn s7_a_collection_that_was_made_anew_is_held() -> Result<()> {
    let mut scene = Scene::with(|_| ()).await?;
    let qdrant = scene.installation.stores.qdrant.clone();
    qdrant.delete_collection(collection(&scene)).await?;
    // As whoever builds the index again does: with the points of the courses that it knows of, dead ones among them.
    let campus = Campus::plan(CAMPUS);
    campus.prepare(&scene.installation.stores).await?;
    let points = Campus { keys: Vec::new(), files: Vec::new(), ..campus };
    points.seed_resources(&scene.installation.stores).await?;
    let report = activate(&scene, |_| ()).await?;
    let happened = holds_itself_only(&scene, "vectors", &report, "its marker is gone").await?;
    let adopted = scene.installation.program(&["adopt", "--yes"]).await?;
    assert_eq!(adopted.code, Some(0), "{adopted:?}");
    scene.reconnect().await?;
    scene.recovers().await?;
    documented("a collection made anew behind its alias", &happened, "s7_a_collection_that_was_made_anew_is_held")
}

/// Between the inventory and the first batch: what is behind the alias by then holds points of the same dead courses.
#[tokio::test]
async fn s7_an_alias_that_is_swapped_in_mid_run_leads_nowhere() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let addresses = &scene.installation.addresses;
    let (qdrant, alias) = (scene.installation.stores.qdrant.clone(), addresses.alias.clone());
    let (old, new) = (collection(&scene), format!("{alias}_v2"));
    let vectors = VectorParamsBuilder::new(2, Distance::Cosine);
    qdrant.create_collection(CreateCollectionBuilder::new(&new).vectors_config(vectors)).await?;
    qdrant
        .create_field_index(CreateFieldIndexCollectionBuilder::new(&new, "course_id", FieldType::Keyword).wait(true))
        .await?;
    let doomed = Campus::plan(CAMPUS).doomed();
    let point = |(n, course): (usize, _)| -> Result<PointStruct> {
        let payload = Payload::try_from(json!({ "course_id": format!("{course}") }))?;
        Ok(PointStruct::new(n as u64, vec![1.0, 2.0], payload))
    };
    let points = doomed.iter().enumerate().map(point).collect::<Result<Vec<_>>>()?;
    qdrant.upsert_points(UpsertPointsBuilder::new(&new, points).wait(true)).await?;

    let (client, from, to) = (qdrant.clone(), old.clone(), new.clone());
    let name = alias.clone();
    let report = activate(&scene, |collector| {
        interpose(collector, "vectors", move |call, nth| {
            let (qdrant, name, to) = (client.clone(), name.clone(), to.clone());
            Box::pin(async move {
                if (call, nth) == (Call::Locate, 1) {
                    qdrant.delete_alias(&name).await.expect("it is there");
                    qdrant.create_alias(CreateAliasBuilder::new(to, name)).await.expect("it is free");
                }
            })
        });
    })
    .await?;
    let happened = holds_itself_only(&scene, "vectors", &report, "when its marker was read, and stands for").await?;
    let left = qdrant.count(CountPointsBuilder::new(&new).exact(true)).await?.result.map(|result| result.count);
    assert_eq!(left, Some(doomed.len() as u64), "nothing goes from what nobody adopted");

    // The next run finds no marker there; when the alias leads back, all is as it was.
    let report = activate(&scene, |_| ()).await?;
    assert!(entry(&report, "vectors").not_adopted.is_some(), "{report:?}");
    qdrant.delete_alias(&alias).await?;
    qdrant.create_alias(CreateAliasBuilder::new(from, alias)).await?;
    qdrant.delete_collection(new).await?;
    scene.recovers().await?;
    documented(
        "an alias that is swapped between the inventory and the first batch",
        &happened,
        "s7_an_alias_that_is_swapped_in_mid_run_leads_nowhere",
    )
}

#[tokio::test]
async fn s11_a_collection_that_vanishes_in_mid_sweep_is_left_for_the_next_run() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let (qdrant, name) = (scene.installation.stores.qdrant.clone(), collection(&scene));
    let report = activate(&scene, |collector| {
        interpose(collector, "vectors", move |call, nth| {
            let (qdrant, name) = (qdrant.clone(), name.clone());
            Box::pin(async move {
                if (call, nth) == (Call::Delete, 1) {
                    qdrant.delete_collection(name).await.expect("it is there");
                }
            })
        });
    })
    .await?;
    assert_eq!(report.verdict, Verdict::Partly, "{report:?}");
    let vectors = entry(&report, "vectors");
    assert!(vectors.swept().failed > 0 && vectors.swept().deleted == 0, "{vectors:?}");
    assert!(vectors.failures.iter().any(|failure| failure.contains("does not exist")), "{vectors:?}");
    documented(
        "a collection that vanishes when its first points are about to go",
        "partly: does not exist; the others did their share",
        "s11_a_collection_that_vanishes_in_mid_sweep_is_left_for_the_next_run",
    )
}
