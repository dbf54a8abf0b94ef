//! A set of collections by a pattern: one that comes later is held until somebody adopts it, one that goes in a run takes nothing of
//! the others along, and each point comes back into the collection that it was in.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use course_gc::domain::report::{Mode, RunReport, SourceReport, Tally, Verdict};
use course_gc::reconcile::reconcile;
use qdrant_client::Payload;
use qdrant_client::qdrant::{
    CountPointsBuilder, CreateAliasBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, Distance,
    FieldType, PointStruct, UpsertPointsBuilder, VectorParamsBuilder,
};
use sandbox::World;
use sandbox::campus::CampusSize;
use sandbox::config::Settings;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::interposed::{Call, interpose};
use crate::support::Installation;

/// Each collection has as many points of each course.
const EACH: u64 = 2;

/// Adds a store of the sets `{prefix}*` to the configuration.
fn configure(installation: &Installation, prefix: &str) -> Result<()> {
    let text = std::fs::read_to_string(installation.path())?;
    let (before, after) = text.split_once("quarantine:\n").context("no quarantine")?;
    let url = &installation.addresses.qdrant;
    let key = installation.addresses.qdrant_api_key.as_ref().map(|key| format!("    api_key: {key}\n"));
    let key = key.unwrap_or_default();
    let sets = format!("  sets:\n    kind: qdrant\n    url: {url}\n{key}    collections: [\"{prefix}*\"]\n");
    Ok(std::fs::write(installation.path(), format!("{before}{sets}quarantine:\n{after}"))?)
}

/// A collection with points of these courses, whose ids are the same in each collection.
async fn create(installation: &Installation, name: &str, courses: &[String]) -> Result<()> {
    let qdrant = &installation.stores.qdrant;
    let vectors = VectorParamsBuilder::new(2, Distance::Cosine);
    qdrant.create_collection(CreateCollectionBuilder::new(name).vectors_config(vectors)).await?;
    let index = CreateFieldIndexCollectionBuilder::new(name, "course_id", FieldType::Keyword).wait(true);
    qdrant.create_field_index(index).await?;
    let mut points = Vec::new();
    for course in courses {
        for _ in 0..EACH {
            let payload = Payload::try_from(json!({ "course_id": course, "of": name }))?;
            points.push(PointStruct::new(points.len() as u64, vec![1.0, points.len() as f32], payload));
        }
    }
    qdrant.upsert_points(UpsertPointsBuilder::new(name, points).wait(true)).await?;
    Ok(())
}

async fn count(installation: &Installation, name: &str) -> Result<u64> {
    let count = installation.stores.qdrant.count(CountPointsBuilder::new(name).exact(true)).await?;
    Ok(count.result.context("no count")?.count)
}

fn sets(report: &RunReport) -> Result<&SourceReport> {
    let store = report.stores.iter().find(|store| store.name == "sets").context("no such store")?;
    store.sources.first().with_context(|| format!("{store:?}"))
}

#[tokio::test]
async fn s7_s12_what_a_pattern_matches_goes_once_it_is_adopted_and_comes_back_where_it_was() -> Result<()> {
    let world = World::create().await?;
    let settings = Settings { departed: "0s".to_owned(), ..Settings::default() };
    let (installation, campus) = Installation::over(world.addresses(), &settings, CampusSize::default()).await?;
    let prefix = format!("{}-set-", installation.addresses.collection());
    configure(&installation, &prefix)?;
    let live: Vec<String> =
        sqlx::query_scalar("SELECT id::text FROM public.courses").fetch_all(&installation.stores.postgres).await?;
    let [a, b, brief, later] = ["a", "b", "brief", "later"].map(|name| format!("{prefix}{name}"));
    let other = format!("{}-other", installation.addresses.collection());
    for name in [&a, &b, &brief, &other] {
        create(&installation, name, &live).await?;
    }
    let alias = CreateAliasBuilder::new(&b, format!("{prefix}now"));
    installation.stores.qdrant.create_alias(alias).await?;
    assert_eq!(installation.program(&["adopt", "--yes"]).await?.code, Some(0));
    assert_eq!(installation.run().await?.verdict, Verdict::Clean);

    campus.delete_doomed(&installation.stores).await?;
    create(&installation, &later, &live).await?;
    let all = live.len() as u64 * EACH;
    let dead = campus.doomed().len() as u64 * EACH;
    let mut collector = installation.collector()?;
    let (qdrant, goes) = (installation.stores.qdrant.clone(), brief.clone());
    interpose(&mut collector, "sets", move |call, nth| {
        let (qdrant, goes) = (qdrant.clone(), goes.clone());
        Box::pin(async move {
            // Of one, of ten, and of all others: by then each collection has been searched.
            if (call, nth) == (Call::Delete, 3) {
                qdrant.delete_collection(goes).await.expect("it is there");
            }
        })
    });
    let report = reconcile(&collector, Mode::Run, &CancellationToken::new()).await?;
    assert_eq!(report.verdict, Verdict::Done, "{report:?}");
    let seen = sets(&report)?;
    let Tally { deleted, failed, unattempted, .. } = seen.swept;
    assert_eq!((deleted, failed, unattempted), (2 * dead, 0, 0), "{seen:?}");
    assert_eq!(seen.swept.absent, campus.doomed().len() as u64, "its handles: {seen:?}");
    assert_eq!(seen.unrecognised.count, all);
    let told = format!("(collection {later}, which is not adopted: adopt the store again)");
    assert_eq!(seen.unrecognised.samples, [told]);
    let mut counts = BTreeSet::new();
    for name in [&a, &b, &other, &later] {
        counts.insert((name.clone(), count(&installation, name).await?));
    }
    let expected = [(&a, all - dead), (&b, all - dead), (&other, all), (&later, all)];
    assert_eq!(counts, expected.map(|(name, count)| (name.clone(), count)).into());

    assert!(installation.program(&["adopt"]).await?.stdout.contains("--yes"));
    assert_eq!(installation.program(&["adopt", "--yes"]).await?.code, Some(0));
    let report = installation.run().await?;
    let seen = sets(&report)?;
    assert_eq!((seen.swept.deleted, seen.unrecognised.count), (dead, 0), "{seen:?}");

    // Another one goes: its points say why they do not come back, and the others do.
    installation.stores.qdrant.delete_collection(&b).await?;
    let course = campus.doomed().first().context("nobody is doomed")?.to_string();
    let restored = installation.program(&["restore", "--store", "sets", "--course", &course]).await?;
    assert_ne!(restored.code, Some(0), "{restored:?}");
    let said = format!("{}{}", restored.stdout, restored.stderr);
    assert!(said.contains(&format!("collection `{b}` does not exist")), "{said}");
    for name in [&a, &later] {
        assert_eq!(count(&installation, name).await?, all - dead + EACH, "{name}");
    }
    Ok(())
}
