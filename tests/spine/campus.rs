//! A whole campus, its leaks, and its traps: what goes, and what stays byte for byte.

use crate::support::Installation;
use anyhow::Result;
use course_gc::domain::report::Verdict;
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Snapshot, World};

#[tokio::test]
async fn exactly_the_leaks_go() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &Settings::default()).await?;
    let campus = Campus::plan(CampusSize::default());
    campus.seed(&installation.stores).await?;
    assert_eq!(installation.run().await?.verdict, Verdict::Clean);

    let deleted = campus.delete_doomed(&installation.stores).await?;
    let before = Snapshot::take(&installation.stores).await?;
    let seen = installation.plan().await?;
    assert_eq!(seen.verdict, Verdict::Clean, "all of it is in its grace");
    assert_eq!(before.diff(&Snapshot::take(&installation.stores).await?), Default::default());

    installation.age("1 minute").await?;
    let report = installation.run().await?;
    println!("{report:#?}");
    assert_eq!(report.verdict, Verdict::Done);
    let difference = before.diff(&Snapshot::take(&installation.stores).await?);
    let gone = campus.gone(&deleted).into_iter().filter(|resource| before.contains(resource)).collect();
    assert_eq!(difference.gone, gone);
    assert!(difference.changed.is_empty() && difference.added.is_empty(), "{difference:?}");
    Ok(())
}
