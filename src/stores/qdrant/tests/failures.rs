//! What is missing, changed, forbidden or out of reach.

use bytes::Bytes;
use sandbox::{Qdrant, QdrantOptions};
use secrecy::SecretString;

use super::super::{QdrantCollection, QdrantSettings, QdrantStore};
use super::*;

/// An error with its causes, as it would be logged.
fn words(error: &StoreError) -> String {
    let mut words = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(&format!(": {error} {error:?}"));
        cause = error.source();
    }
    words
}

/// All calls of a store, each of which must fail; returns what they say.
async fn all_fail(store: &QdrantStore) -> Vec<String> {
    let wanted = targets(NOTES, [uuid(1)]);
    let (sender, _receiver) = tokio::sync::mpsc::channel(1);
    let errors = [
        store.identity().await.unwrap_err(),
        inventory(store, &[]).await.unwrap_err(),
        store.locate(&wanted, sender).await.unwrap_err(),
        store.remaining(&wanted).await.unwrap_err(),
    ];
    errors.iter().map(words).collect()
}

#[tokio::test]
async fn a_missing_collection_is_named() {
    let world = Plan::new(IdType::Uuid, Some(FieldType::Keyword)).build().await;
    let store = open(&world.place, IdType::Uuid, &["notes", "nowhere"]).unwrap();
    for error in all_fail(&store).await {
        let name = world.place.name("nowhere");
        assert!(error.contains(&format!("store `vectors`: collection `{name}` does not exist")), "{error}");
    }
}

#[tokio::test]
async fn two_names_of_one_collection_are_refused() {
    let world = Plan::new(IdType::Uuid, Some(FieldType::Keyword)).build().await;
    let store = open(&world.place, IdType::Uuid, &["chunks", "chunks_v1"]).unwrap();
    for error in all_fail(&store).await {
        assert!(error.contains("both stand for collection"), "{error}");
    }
}

#[tokio::test]
async fn keys_that_lead_to_several_places_are_refused() {
    let world = Plan::new(IdType::Uuid, None).build().await;
    let mut settings = bench::settings(&world.place, IdType::Uuid, &["notes"]);
    settings.collections[0].key = "docs[].course_id".to_owned();
    let Err(error) = QdrantStore::new(settings) else { panic!("S5: the key is accepted") };
    assert!(error.to_string().contains("the key `docs[].course_id`"), "{error}");
}

/// A world with a course of two points in both collections, and its handles.
async fn with_handles(plan: Plan) -> (World, Vec<Handle>) {
    let world = plan.build().await;
    for source in [NOTES, CHUNKS] {
        world.write_all(source, vec![json!({ KEY: uuid(1).to_string() }); 2]).await;
    }
    let mut wanted = targets(CHUNKS, [uuid(1)]);
    wanted.insert(NOTES, uuid(1));
    let handles = located(&world.store, &wanted).await;
    assert_eq!(handles.len(), 2);
    (world, handles)
}

#[tokio::test]
async fn an_alias_that_moved_since_locate_fails_the_batch_and_sends_nothing() {
    let plan = Plan::new(IdType::Uuid, Some(FieldType::Keyword));
    let (world, handles) = with_handles(plan.clone()).await;
    let before = world.contents().await;
    create(&world.client, &world.place.name("chunks_v2"), &plan).await;
    world.client.delete_alias(world.place.name("chunks")).await.unwrap();
    alias(&world.client, &world.place.name("chunks_v2"), &world.place.name("chunks")).await;
    for outcome in delete(&world.store, handles).await {
        let Outcome::Failed(cause) = outcome else { panic!("{outcome:?}") };
        assert!(cause.contains("chunks_v1") && cause.contains("chunks_v2"), "{cause}");
    }
    assert_eq!(world.contents().await, before);
    // The next look goes to the new collection, and may delete there again.
    world.store.marker().await.unwrap();
    assert_eq!(located(&world.store, &targets(CHUNKS, [uuid(1)])).await, []);
    assert!(world.store.identity().await.unwrap().contains("chunks_v2"));
}

#[tokio::test]
async fn s7_what_is_behind_an_alias_after_its_marker_was_read_is_neither_listed_nor_located() {
    let plan = Plan::new(IdType::Uuid, Some(FieldType::Keyword));
    let (world, _) = with_handles(plan.clone()).await;
    world.store.marker().await.unwrap();
    super::inventory(&world.store, &[]).await.unwrap();
    create(&world.client, &world.place.name("chunks_v2"), &plan).await;
    world.client.delete_alias(world.place.name("chunks")).await.unwrap();
    alias(&world.client, &world.place.name("chunks_v2"), &world.place.name("chunks")).await;
    let (sender, _receiver) = tokio::sync::mpsc::channel(10);
    for error in [
        super::inventory(&world.store, &[]).await.unwrap_err(),
        world.store.locate(&targets(CHUNKS, [uuid(1)]), sender).await.unwrap_err(),
    ] {
        let words = words(&error);
        assert!(words.contains("chunks_v1` when its marker was read") && words.contains("chunks_v2` now"), "{words}");
    }
    world.store.marker().await.unwrap();
    super::inventory(&world.store, &[]).await.unwrap();
}

#[tokio::test]
async fn a_collection_that_vanished_since_locate_fails_the_batch() {
    let (world, handles) = with_handles(Plan::new(IdType::Uuid, Some(FieldType::Keyword))).await;
    world.client.delete_collection(DeleteCollectionBuilder::new(world.place.name("notes"))).await.unwrap();
    for outcome in delete(&world.store, handles).await {
        let Outcome::Failed(cause) = outcome else { panic!("{outcome:?}") };
        assert!(cause.contains("does not exist"), "{cause}");
    }
}

#[tokio::test]
async fn nothing_is_deleted_from_where_nothing_was_located() {
    let (world, handles) = with_handles(Plan::new(IdType::Uuid, Some(FieldType::Keyword))).await;
    let before = world.contents().await;
    for key in [Bytes::new(), world.physical(CHUNKS).into()] {
        let astray: Vec<Handle> = handles.iter().map(|handle| Handle { key: key.clone(), ..handle.clone() }).collect();
        for outcome in delete(&world.store, astray).await {
            let Outcome::Failed(cause) = outcome else { panic!("{outcome:?}") };
            assert!(cause.contains("nothing was deleted"), "{cause}");
        }
    }
    assert_eq!(world.contents().await, before);
}

#[tokio::test]
async fn strict_mode_without_an_index_is_listed_but_not_searched() {
    let world = Plan::new(IdType::Uuid, None).strict().build().await;
    world.write_all(NOTES, (0..150).map(|n| json!({ KEY: uuid(n).to_string() })).collect()).await;
    assert_eq!(inventory(&world.store, &[uuid(0)]).await.unwrap().sources[0].dead.len(), 149);
    let wanted = targets(NOTES, [uuid(1)]);
    let (sender, _receiver) = tokio::sync::mpsc::channel(1);
    for result in [world.store.locate(&wanted, sender).await, world.store.remaining(&wanted).await.map(drop)] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("no index on `course_id`") && error.contains("create a keyword"), "{error}");
    }
}

#[tokio::test]
async fn strict_mode_without_exact_counts_is_listed_but_not_searched() {
    let strict = StrictModeConfig { search_allow_exact: Some(false), ..strict() };
    let plan = Plan { strict: Some(strict), ..Plan::new(IdType::Uuid, Some(FieldType::Keyword)) };
    let world = plan.build().await;
    world.write(NOTES, json!({ KEY: uuid(1).to_string() })).await;
    assert_eq!(inventory(&world.store, &[]).await.unwrap().sources[0].dead[&uuid(1)].amount.resources, 1);
    let error = world.store.remaining(&targets(NOTES, [uuid(1)])).await.unwrap_err().to_string();
    assert!(error.contains("search_allow_exact"), "{error}");
}

/// A store over a server of one's own, which asks for `key`.
async fn own_server(key: Option<&str>, given: Option<&str>, call_timeout: Duration) -> (Qdrant, QdrantStore) {
    let server = Qdrant::start_with(QdrantOptions { api_key: key.map(str::to_owned) }).await.expect("a server");
    let client = bench::connect(&server.url(), key);
    create(&client, "notes", &Plan::new(IdType::Uuid, Some(FieldType::Keyword))).await;
    let settings = QdrantSettings {
        name: "vectors".to_owned(),
        url: server.url(),
        api_key: given.map(SecretString::from),
        collections: vec![QdrantCollection { name: "notes".to_owned(), key: KEY.to_owned() }],
        id_type: IdType::Uuid,
        batch_limit: 100,
        call_timeout,
    };
    (server, QdrantStore::new(settings).unwrap())
}

#[tokio::test]
async fn a_wrong_api_key_is_an_error_that_does_not_show_it() {
    let (_server, store) = own_server(Some("right-key"), Some("hunter2"), FRESH).await;
    for error in all_fail(&store).await {
        assert!(error.contains("store `vectors`: could not") && error.contains("check the api key"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let (_server, store) = own_server(Some("right-key"), Some("right-key"), FRESH).await;
    assert!(store.identity().await.unwrap().starts_with("qdrant 1."));
}

#[tokio::test]
async fn a_server_that_is_down_or_frozen_is_an_error_and_comes_back() {
    let (server, store) = own_server(None, None, Duration::from_secs(1)).await;
    assert_eq!(inventory(&store, &[]).await.unwrap().sources[0].live_courses, 0);
    server.pause().unwrap();
    for error in all_fail(&store).await {
        assert!(error.contains("store `vectors`: could not") && error.contains("no answer within 1 s"), "{error}");
    }
    server.resume().unwrap();
    inventory(&store, &[]).await.unwrap();
    server.crash().await.unwrap();
    for error in all_fail(&store).await {
        assert!(error.contains("check that it runs and that the url names its gRPC port"), "{error}");
    }
    server.restart().await.unwrap();
    inventory(&store, &[]).await.unwrap();
}
