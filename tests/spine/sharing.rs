//! S7: two campuses in the same stores. Neither takes the other's courses for strangers, or they do not share.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use course_gc::adopt::{Adopted, adopt};
use course_gc::domain::ids::IdType;
use course_gc::domain::report::{Mode, Verdict};
use course_gc::ledger::{Adoptions, PostgresLedger};
use course_gc::postgres::Postgres as Connection;
use course_gc::reconcile::reconcile;
use course_gc::stores::Marker;
use sandbox::campus::{Campus, CampusSize, CourseId, Fate};
use sandbox::config::Settings;
use sandbox::{Addresses, Database, Postgres, Resource, Snapshot, World};
use tokio_util::sync::CancellationToken;

use crate::support::{Answer, Installation};

const SIZE: CampusSize = CampusSize {
    seed: 1,
    ids: sandbox::campus::IdKind::Uuid,
    organizations: 3,
    courses: 20,
    doomed: 4,
    foreign: 2,
    points: 2,
    vector_size: 4,
};

/// What every installation is told: strangers go at once, and no breaker saves a third of a store.
fn settings(neighbours: &[(&str, &str)]) -> Settings {
    Settings {
        departed: "0s".to_owned(),
        stranger: "0s".to_owned(),
        exclusive: true,
        limits: vec!["breaker_share: 50%".to_owned(), "breaker_share_strangers: 50%".to_owned()],
        neighbours: neighbours.iter().map(|(name, url)| ((*name).to_owned(), (*url).to_owned())).collect(),
        ..Settings::default()
    }
}

async fn adopts(installation: &Installation) -> Result<Answer> {
    installation.program(&["adopt", "--yes", "--exclusive"]).await
}

/// It is not adopted, in any store, and the answer says all of this.
async fn is_refused(installation: &Installation, said: &[&str]) -> Result<()> {
    let refused = adopts(installation).await?;
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(!refused.stdout.contains(": adopted"), "{refused:?}");
    for said in said {
        assert!(refused.stdout.contains(said), "{said}: {refused:?}");
    }
    Ok(())
}

async fn is_adopted(installation: &Installation) -> Result<()> {
    let adopted = adopts(installation).await?;
    assert_eq!(adopted.code, Some(0), "{adopted:?}");
    Ok(())
}

/// The report of a run by the program: nothing is adopted on the way.
async fn run(installation: &Installation) -> Result<serde_json::Value> {
    installation.program(&["run", "--output", "json"]).await?.json()
}

/// One run, which nothing holds as a whole. (A source of lookalikes alone trips its breaker, whoever runs.)
async fn goes_on(installation: &Installation) -> Result<()> {
    let report = run(installation).await?;
    assert!(report["halt"].is_null() && report["paused"].is_null(), "{report:#}");
    for store in report["stores"].as_array().unwrap() {
        assert!(store["not_adopted"].is_null() && store["error"].is_null(), "{store:#}");
    }
    Ok(())
}

/// How often each owner used Redis, by what its entry says.
async fn counts(installation: &Installation) -> Result<Vec<u64>> {
    let ours = installation.ledger()?.adoption().await?.map(|adoption| adoption.installation);
    let marker: Marker = installation.collector()?.stores[1].store.marker().await?.expect("a marker");
    let (ours, others): (Vec<_>, Vec<_>) = marker.owners().iter().partition(|owner| Some(owner.installation) == ours);
    Ok(ours.into_iter().chain(others).map(|owner| owner.counter).collect())
}

/// Two campuses of one world: each has a database of its own; all else is shared.
struct Town {
    world: World,
    _elsewhere: Database,
    south: Installation,
    north: Installation,
    campuses: [Campus; 2],
}

impl Town {
    /// South has adopted the stores for itself, and knows nothing of north.
    async fn set() -> Result<Self> {
        let world = World::create().await?;
        let elsewhere = Database::create().await?;
        let addresses = Addresses { postgres: elsewhere.url().to_owned(), ..world.addresses() };
        let south = Installation::new(world.addresses(), &settings(&[])).await?;
        let north = Installation::new(addresses, &settings(&[])).await?;
        let campuses = [CampusSize { courses: 40, ..SIZE }, CampusSize { seed: 2, ..SIZE }].map(Campus::plan);
        campuses[0].seed(&south.stores).await?;
        is_adopted(&south).await?;
        Ok(Self { world, _elsewhere: elsewhere, south, north, campuses })
    }

    fn url_of_south(&self) -> String {
        self.world.addresses().postgres
    }

    fn url_of_north(&self) -> String {
        self.north.addresses.postgres.clone()
    }

    /// Both ask both.
    async fn share(&self) -> Result<()> {
        self.south.configure(&settings(&[("north", &self.url_of_north())]))?;
        is_adopted(&self.south).await?;
        self.north.configure(&settings(&[("south", &self.url_of_south())]))?;
        is_adopted(&self.north).await
    }

    /// Waits until no lock of either is left.
    async fn unlocked(&self) -> Result<()> {
        self.south.unlocked().await?;
        self.north.unlocked().await
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(&self.south.stores).await
    }

    /// What must be there, or must not be, after these courses of south and of north were deleted.
    fn fates(&self, deleted: [&BTreeSet<CourseId>; 2], fate: Fate) -> BTreeSet<Resource> {
        let each = self.campuses.iter().zip(deleted).flat_map(|(campus, deleted)| campus.fates(deleted));
        each.filter(|(_, of)| *of == fate).map(|(resource, _)| resource).collect()
    }
}

#[tokio::test]
async fn s7_two_campuses_share_their_stores_once_each_names_both() -> Result<()> {
    let town = Town::set().await?;
    let Town { south, north, campuses, .. } = &town;
    campuses[1].seed(&north.stores).await?;
    let before = town.snapshot().await?;

    // North asks north only, then both: south does not name it yet.
    let name = |url: &str| url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    let (of_south, of_north) = (format!("/{}", name(&town.url_of_south())), format!("/{}", name(&town.url_of_north())));
    is_refused(north, &["belongs to installation", "we do not name", &of_south, "it does not name", &of_north]).await?;
    let told = run(north).await?;
    assert!(told["stores"].as_array().unwrap().iter().all(|store| store["not_adopted"].is_string()), "{told:#}");
    north.configure(&settings(&[("south", &town.url_of_south())]))?;
    is_refused(north, &["it does not name", &of_north, "adopt there first"]).await?;
    assert_eq!(counts(south).await?, [0], "who is refused leaves nothing");
    assert_eq!(before.diff(&town.snapshot().await?), Default::default());

    south.configure(&settings(&[("north", &town.url_of_north())]))?;
    is_adopted(south).await?;
    is_adopted(north).await?;
    let (of_both, nobody) = (before, BTreeSet::new());
    goes_on(south).await?;
    goes_on(north).await?;
    let live = town.fates([&nobody, &nobody], Fate::Live);
    let there = town.snapshot().await?;
    assert!(!live.is_empty() && live.iter().all(|resource| there.contains(resource)), "no course is a stranger");
    assert!(of_both.diff(&there).changed.is_empty());

    // Whoever runs next sweeps what is dead in both, and each sees the other's deletes.
    let of_south = campuses[0].delete_doomed(&south.stores).await?;
    goes_on(north).await?;
    let of_north = campuses[1].delete_doomed(&north.stores).await?;
    goes_on(south).await?;
    let after = town.snapshot().await?;
    let deleted = [&of_south, &of_north];
    for gone in town.fates(deleted, Fate::Gone) {
        assert!(!after.contains(&gone), "{gone:?} is left");
    }
    for live in town.fates(deleted, Fate::Live) {
        assert!(after.contains(&live) || !there.contains(&live), "{live:?} is gone");
    }
    // However often the other one runs.
    for (installation, expected) in [(north, [3, 3]), (north, [4, 3]), (south, [4, 4]), (north, [5, 4])] {
        goes_on(installation).await?;
        assert_eq!(counts(installation).await?, expected, "its own count moves, and nobody else's");
    }
    assert_eq!(after.diff(&town.snapshot().await?), Default::default());
    Ok(())
}

#[tokio::test]
async fn s7_who_drops_the_others_source_is_held_and_the_other_goes_on() -> Result<()> {
    let town = Town::set().await?;
    let Town { south, north, campuses, .. } = &town;
    campuses[1].seed(&north.stores).await?;
    town.share().await?;
    goes_on(north).await?;
    let before = town.snapshot().await?;

    south.configure(&settings(&[]))?;
    let halted = run(south).await?;
    assert!(halted["halt"].as_str().is_some_and(|halt| halt.contains("no longer configured")), "{halted:#}");
    is_refused(south, &["we do not name", "`liveness` on both sides"]).await?;
    let held = run(south).await?;
    assert_eq!(held["verdict"], "held", "{held:#}");
    assert!(
        held["stores"]
            .as_array()
            .unwrap()
            .iter()
            .all(|store| { store["not_adopted"].as_str().is_some_and(|reason| reason.contains("we do not name")) })
    );
    assert_eq!(before.diff(&town.snapshot().await?), Default::default());

    // The other one names all that south names.
    let deleted = campuses[1].delete_doomed(&north.stores).await?;
    goes_on(north).await?;
    let after = town.snapshot().await?;
    assert!(town.fates([&BTreeSet::new(), &deleted], Fate::Gone).iter().all(|gone| !after.contains(gone)));

    south.configure(&settings(&[("north", &town.url_of_north())]))?;
    is_adopted(south).await?;
    goes_on(south).await?;
    goes_on(north).await?;
    Ok(())
}

#[tokio::test]
async fn s7_a_new_source_holds_whoever_does_not_name_it_yet() -> Result<()> {
    let town = Town::set().await?;
    let Town { south, north, campuses, .. } = &town;
    campuses[1].seed(&north.stores).await?;
    town.share().await?;
    goes_on(north).await?;
    let east = Database::create().await?;
    let addresses = Addresses { postgres: east.url().to_owned(), ..town.world.addresses() };
    let of_east = Campus::plan(CampusSize { seed: 3, ..SIZE });
    of_east.seed(&sandbox::Stores::connect(&addresses).await?).await?;

    // South names it before north does. What is east's looks dead to north only.
    south.configure(&settings(&[("north", &town.url_of_north()), ("east", east.url())]))?;
    is_adopted(south).await?;
    goes_on(south).await?;
    let before = town.snapshot().await?;
    let held = run(north).await?;
    assert_eq!(held["verdict"], "held", "{held:#}");
    assert_eq!(before.diff(&town.snapshot().await?), Default::default());

    north.configure(&settings(&[("south", &town.url_of_south()), ("east", east.url())]))?;
    is_adopted(north).await?;
    goes_on(north).await?;
    goes_on(south).await?;
    let there = town.snapshot().await?;
    let live = of_east.fates(&BTreeSet::new()).into_iter().filter(|(_, fate)| *fate == Fate::Live);
    assert!(live.into_iter().all(|(resource, _)| there.contains(&resource)));
    Ok(())
}

/// Each calls its own source `campus`, so by name they would lock the databases in opposite orders.
#[tokio::test]
async fn s10_of_two_that_start_at_the_same_moment_one_works() -> Result<()> {
    let town = Town::set().await?;
    let Town { south, north, campuses, .. } = &town;
    campuses[1].seed(&north.stores).await?;
    town.share().await?;
    let (one, other) = (south.collector()?, north.collector()?);
    for _ in 0..20 {
        let (one, other) = tokio::join!(one.liveness.lock(), other.liveness.lock());
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        for locked in [one, other].into_iter().flatten() {
            locked.release().await;
        }
        town.unlocked().await?;
    }
    Ok(())
}

/// What staging is, where it is made from a copy of production's server: its database has the same identifier and name.
#[tokio::test]
async fn s7_a_copy_of_the_truth_does_not_join() -> Result<()> {
    let server = Postgres::start().await?;
    server.create_database("campus").await?;
    let world = World::create().await?;
    let addresses = Addresses { postgres: server.url_of("campus"), ..world.addresses() };
    let production = Installation::new(addresses.clone(), &settings(&[])).await?;
    let campus = Campus::plan(SIZE);
    campus.seed(&production.stores).await?;
    is_adopted(&production).await?;

    let copy = server.standby().await?;
    sqlx::query("SELECT pg_promote()").execute(&sqlx::PgPool::connect(&copy.url_of("campus")).await?).await?;
    // Its ledger is new: with production's it would be a clone, which the counter tells.
    copy.create_database("ledger").await?;
    let staging = Installation::new(Addresses { postgres: copy.url_of("campus"), ..addresses }, &settings(&[])).await?;
    let mut collector = staging.collector()?;
    let postgres = Connection { url: copy.url_of("ledger").into(), ..staging.source()?.postgres };
    let ledger = PostgresLedger::new(postgres, IdType::Uuid)?;
    ledger.migrate().await?;
    collector.ledger = Arc::new(ledger);
    let refused: Adopted = adopt(&collector, true).await?;
    assert!(!refused.is_empty());
    for (store, reason) in refused {
        assert!(reason.as_deref().is_some_and(|reason| reason.contains("another server")), "{store}: {reason:?}");
    }
    campus.delete_doomed(&staging.stores).await?;
    let before = Snapshot::take(&production.stores).await?;
    let report = reconcile(&collector, Mode::Run, &CancellationToken::new()).await?;
    assert!(report.stores.iter().all(|store| store.not_adopted.is_some()), "{report:?}");
    assert_eq!(report.verdict, Verdict::Held);
    assert_eq!(before.diff(&Snapshot::take(&production.stores).await?), Default::default());
    goes_on(&production).await?;
    Ok(())
}
