//! S10 with three replicas of `serve`, which are real processes: whichever works is killed, frozen past its lock, robbed of its sessions, cut
//! off, not heard any more, or loses its database to a restart; at random, again and again.
//!
//! What each of them sends to the stores is seen there, and who holds the locks is asked of Postgres; none of them is believed.

mod blow;
mod replica;
mod sightings;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use course_gc::clock::wall;
use rustix::process::Signal;
use sandbox::campus::{Campus, CampusSize, CourseId};
use sandbox::config::Settings;
use sandbox::{Addresses, Difference, Postgres, Qdrant, Redis, Resource, Snapshot, World};
use tokio::time::{Instant, sleep, timeout};

use crate::support::Installation;
use crate::tables::TABLE;
use blow::{Blow, Moment};
use replica::{Replica, Servers};
use sightings::{Holder, Sightings, Watch};

/// How long a confirmation is good, and how long one call may take: what may pass between the loss of a lock and the last delete.
const CONFIRMATION: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_secs(3);
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long one that was frozen is awake while another still sweeps.
const AWAKE: Duration = Duration::from_secs(2);

/// How many courses may wait to be swept before more are deleted.
const BEHIND: i64 = 30;

/// How many courses are deleted before each blow.
const DYING: usize = 3;
/// A blow, and the end of all, is waited for so long, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The campus, its replicas, and who watches them.
struct Scene {
    installation: Installation,
    campus: Campus,
    replicas: Vec<Replica>,
    watch: Watch,
    servers: Servers,
    /// What lay in the stores at first.
    before: Snapshot,
    /// Who is going to be deleted.
    doomed: Vec<CourseId>,
    deleted: BTreeSet<CourseId>,
    _world: World,
}

impl Scene {
    async fn set(rounds: usize) -> Result<Self> {
        let (world, postgres, redis, qdrant) =
            tokio::try_join!(World::create(), Postgres::start(), Redis::start(), Qdrant::start())?;
        let servers = Servers { postgres, redis, qdrant };
        let addresses = Addresses {
            postgres: servers.postgres.create_database("campus").await?,
            redis: servers.redis.url(),
            qdrant: servers.qdrant.url(),
            qdrant_api_key: None,
            alias: "course_embeddings".to_owned(),
            ..world.addresses()
        };
        let seconds = |name: &str, of: Duration| format!("{name}: {}s", of.as_secs());
        let limits = vec![
            seconds("confirmation", CONFIRMATION),
            seconds("call_timeout", CALL),
            seconds("lock_timeout", LOCK_TIMEOUT),
            "refuse_drop: 50%".to_owned(),
        ];
        let settings = Settings {
            cron: "* * * * * *".to_owned(),
            departed: "0s".to_owned(),
            limits,
            tables: vec![TABLE.to_owned()],
            ..Settings::default()
        };
        let doomed = rounds * DYING;
        let size = CampusSize { courses: 2 * doomed + 40, doomed, points: 2, ..CampusSize::default() };
        let (installation, campus) = Installation::over(addresses, &settings, size).await?;
        // Some keys expire by themselves after ten minutes, and a hundred blows take longer.
        let mut redis = installation.stores.redis.clone();
        let persist = "for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('PERSIST', key) end";
        let () = redis::cmd("EVAL").arg(persist).arg(0).query_async(&mut redis).await?;
        let before = Snapshot::take(&installation.stores).await?;
        let watch = Watch::begin(&installation, replica::NAMES).await?;
        let replicas = replica::NAMES.map(|name| Replica::start(name, &installation, &servers));
        let doomed = campus.doomed().into_iter().collect();
        let deleted = BTreeSet::new();
        let replicas = replicas.into_iter().collect::<Result<_>>()?;
        Ok(Self { installation, campus, replicas, watch, servers, before, doomed, deleted, _world: world })
    }

    /// The platform deletes some courses, and everything that they have stays behind. First the collectors catch up, if they were struck too often to
    /// sweep: a breaker would hold so many.
    async fn leak(&mut self) -> Result<()> {
        let behind = "SELECT count(*) FROM course_gc.orphans WHERE store = 'cache' AND evidence = 'departed'";
        let caught_up = async {
            while sqlx::query_scalar::<_, i64>(behind).fetch_one(&self.installation.stores.postgres).await? > BEHIND {
                sleep(Duration::from_millis(100)).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, caught_up).await.context("nobody catches up")??;
        let dying: Vec<CourseId> = self.doomed.drain(..DYING.min(self.doomed.len())).collect();
        for course in dying {
            self.campus.delete_row(&self.installation.stores, course).await?;
            self.deleted.insert(course);
        }
        Ok(())
    }

    /// Waits for the moment at which somebody is struck, and returns who it is.
    async fn comes_to(&self, moment: Moment) -> Result<Holder> {
        let waiting = async {
            loop {
                let leader = self.watch.leads();
                let is_it = match moment {
                    Moment::Leading { .. } => leader.is_some(),
                    Moment::Sweeping { .. } => leader.is_some() && self.sweeps().await?,
                };
                if let (true, Some(leader)) = (is_it, leader) {
                    sleep(moment.delay()).await;
                    if self.watch.leads().as_ref() == Some(&leader) {
                        return Ok(leader);
                    }
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waiting).await.context("nobody works")?
    }

    /// Whether the latest run is in the middle of a batch.
    async fn sweeps(&self) -> Result<bool> {
        let open = "SELECT EXISTS (SELECT FROM course_gc.intents WHERE closed_at IS NULL \
                    AND run_id = (SELECT id FROM course_gc.runs ORDER BY ordinal DESC LIMIT 1))";
        Ok(sqlx::query_scalar(open).fetch_one(&self.installation.stores.postgres).await?)
    }

    /// Waits until the locks are held by other sessions than those that were struck at `since`. Returns how long that took.
    async fn taken_over(&self, since: Instant, (blow, struck): (Blow, &Holder)) -> Result<Duration> {
        let waiting = async {
            loop {
                if let Some(at) = self.watch.led_after(since, struck) {
                    return at.saturating_duration_since(since);
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(blow.bound(), waiting).await.context("nobody takes over")
    }

    /// Strikes whoever works; returns how long it took until somebody worked: another one, or the same that has made itself new sessions.
    async fn strike(&mut self, blow: Blow, leader: &Holder) -> Result<Duration> {
        let at = self.replicas.iter().position(|replica| replica.name == leader.name).context("one of them")?;
        let (since, struck) = (Instant::now(), (blow, leader));
        match blow {
            Blow::Killed => {
                self.replicas[at].kill().await?;
                let took = self.taken_over(since, struck).await?;
                self.replicas[at].start_again(&self.installation)?;
                Ok(took)
            }
            Blow::Frozen { longer } => {
                self.replicas[at].signal(Signal::STOP)?;
                // Who takes over must not be done when it wakes, or nothing would be left that it could delete wrongly.
                self.slow_all_but(at, true);
                let took = self.taken_over(since, struck).await?;
                // Whatever it meant to send is out of date when it wakes.
                sleep(CONFIRMATION + CALL + longer).await;
                self.watch.wakes(leader.name);
                self.replicas[at].signal(Signal::CONT)?;
                sleep(AWAKE).await;
                self.slow_all_but(at, false);
                Ok(took)
            }
            Blow::Terminated => {
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";
                sqlx::query(end).bind(leader.name).execute(&self.installation.stores.postgres).await?;
                self.taken_over(since, struck).await
            }
            Blow::CutOff => {
                self.replicas[at].cut_off();
                self.taken_over(since, struck).await
            }
            Blow::Unheard => {
                self.replicas[at].unheard();
                let took = self.taken_over(since, struck).await;
                self.replicas[at].heard_again();
                took
            }
            Blow::Restarted => {
                self.servers.postgres.restart().await?;
                self.taken_over(Instant::now(), struck).await
            }
        }
    }

    fn slow_all_but(&self, one: usize, slow: bool) {
        let others = self.replicas.iter().enumerate().filter(|(at, _)| *at != one);
        others.for_each(|(_, replica)| replica.slow(slow));
    }

    /// Waits until nothing is left of who was deleted, and lets everybody end in order. Returns what was seen, and what is not as it should be.
    async fn ends(mut self) -> Result<(Sightings, Vec<String>)> {
        let leaks = self.campus.gone(&self.deleted).into_iter().filter(|resource| self.before.contains(resource));
        let leaks: BTreeSet<Resource> = leaks.collect();
        let finished = async {
            loop {
                // What goes while it is read is an error.
                let now = Snapshot::take(&self.installation.stores).await.ok();
                let is_done = now.is_some_and(|now| self.before.diff(&now).gone.is_superset(&leaks));
                if is_done && !self.is_open().await? {
                    return anyhow::Ok(());
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        // What is left then is seen below.
        timeout(PATIENCE, finished).await.unwrap_or(Ok(()))?;
        for replica in &mut self.replicas {
            replica.end().await?;
        }
        let mut wrong = Vec::new();
        let mut none = |what: &str, found: &BTreeSet<Resource>| {
            if !found.is_empty() {
                wrong.push(format!("{} {what}: {found:#?}", found.len()));
            }
        };
        let Difference { gone, added, changed } = self.before.diff(&Snapshot::take(&self.installation.stores).await?);
        none("leaks are left", &leaks.difference(&gone).cloned().collect());
        none("resources of who lives are gone", &gone.difference(&leaks).cloned().collect());
        none("resources are there that were not", &added);
        none("resources have changed", &changed);
        let alive = "SELECT count(*) FROM course_gc.runs \
                     WHERE jsonb_path_exists(report, '$.stores[*].live_after_delete[*]')";
        let alive: i64 = sqlx::query_scalar(alive).fetch_one(&self.installation.stores.postgres).await?;
        if alive > 0 || self.is_open().await? {
            wrong.push(format!("{alive} runs took somebody for dead who lives, or a batch has no outcome"));
        }
        Ok((self.watch.end(&self.installation, &self.replicas).await?, wrong))
    }

    async fn is_open(&self) -> Result<bool> {
        let open = "SELECT EXISTS (SELECT FROM course_gc.intents WHERE closed_at IS NULL)";
        Ok(sqlx::query_scalar(open).fetch_one(&self.installation.stores.postgres).await?)
    }
}

async fn contested(rounds: usize, seed: u64) -> Result<()> {
    println!("{rounds} rounds; again with SEED={seed} ROUNDS={rounds}; logs are in {}", env!("CARGO_TARGET_TMPDIR"));
    let mut scene = Scene::set(rounds).await?;
    let mut takeovers = Vec::new();
    for (number, (blow, moment)) in (1..).zip(blow::all(rounds, seed)) {
        scene.leak().await?;
        let leader = scene.comes_to(moment).await.with_context(|| format!("round {number}, before {blow:?}"))?;
        let took = scene.strike(blow, &leader).await.with_context(|| format!("round {number}: {blow:?}"))?;
        println!(
            "{number:>3} {} {:<6} {moment:?}: {blow:?}; taken over after {:.1} s",
            wall().format("%T"),
            leader.name,
            took.as_secs_f64()
        );
        takeovers.push((blow, took));
    }
    let (sightings, mut wrong) = scene.ends().await?;
    println!("{}\n{}", sightings.summary(), blow::summary(&takeovers));
    // Nobody can exclude that a process is frozen between its last look at the clock and the send (S1).
    let (woken, late): (Vec<_>, Vec<_>) =
        sightings.later_than(CONFIRMATION + CALL).into_iter().partition(|(delete, _)| sightings.is_of_who_woke(delete));
    if !late.is_empty() {
        wrong.push(format!("{} deletes of who had lost the lock: {late:#?}", late.len()));
    }
    if woken.len() > 1 + rounds / 50 {
        wrong.push(format!("more than chance was sent by who had just been woken: {woken:#?}"));
    }
    let stores = ["vectors", "cache", "rows", "uploads", "enrichments"];
    wrong.extend(
        stores
            .into_iter()
            .filter(|store| sightings.of(store) == 0)
            .map(|store| format!("no delete was seen in {store}")),
    );
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("as it should be; {} deletes were in flight when their sender froze", woken.len());
    Ok(())
}

fn number<T: std::str::FromStr>(variable: &str, default: T) -> T {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Each blow once or twice; `make deep ONLY=contested` strikes a hundred times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s10_whoever_loses_the_lock_deletes_no_more_and_another_goes_on() -> Result<()> {
    contested(number("ROUNDS", 10), number("SEED", 1)).await
}
