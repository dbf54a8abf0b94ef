//! Rows that name a course without a foreign key, from the configuration to `restore`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use course_gc::domain::report::Verdict;
use sandbox::World;
use sandbox::campus::CampusSize;
use sandbox::config::Settings;
use sqlx::Row;

use crate::support::Installation;

pub const TABLE: &str = "public.rag_context_cache";

/// All rows, by their text, with the course that they name.
pub async fn rows(installation: &Installation) -> Result<BTreeMap<String, String>> {
    let query = "SELECT t::text, t.course_id::text FROM public.rag_context_cache AS t";
    let rows = sqlx::query(query).fetch_all(&installation.stores.postgres).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

#[tokio::test]
async fn s1_s12_rows_of_dead_courses_go_alone_and_come_back_byte_for_byte() -> Result<()> {
    let world = World::create().await?;
    let settings = Settings { departed: "0s".to_owned(), tables: vec![TABLE.to_owned()], ..Settings::default() };
    let (installation, campus) = Installation::over(world.addresses(), &settings, CampusSize::default()).await?;
    let before = rows(&installation).await?;
    campus.delete_doomed(&installation.stores).await?;
    assert_eq!(rows(&installation).await?, before, "no foreign key takes them");
    let doomed: Vec<String> = campus.doomed().iter().map(ToString::to_string).collect();

    let planned = installation.plan().await?;
    assert_eq!(
        (planned.verdict, rows(&installation).await?),
        (Verdict::Done, before.clone()),
        "S14: a plan changes nothing"
    );
    let report = installation.run().await?;
    assert_eq!(report.verdict, Verdict::Done, "{report:?}");
    let store = report.stores.iter().find(|store| store.name == "rows").context("no rows")?;
    let gone = before.values().filter(|course| doomed.contains(course)).count() as u64;
    assert_eq!((store.kind, store.swept().deleted), ("table", gone), "{store:?}");
    let mut left = before.clone();
    left.retain(|_, course| !doomed.contains(course));
    assert_eq!(rows(&installation).await?, left, "S1: what lives is as it was");

    let run = report.run.to_string();
    let restored = installation.program(&["restore", "--run", &run, "--store", "rows"]).await?;
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert_eq!(rows(&installation).await?, before, "S12: byte for byte");
    let next = installation.run().await?;
    assert_eq!((next.verdict, next.swept().deleted), (Verdict::Clean, 0), "{next:?}");
    Ok(())
}
