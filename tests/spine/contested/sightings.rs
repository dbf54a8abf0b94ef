//! Who held the locks, and who deleted, as Postgres and the stores tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirEntry;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use course_gc::clock::wall;
use course_gc::postgres::{AdvisoryLock, LOCK_CLASS};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::replica::Replica;
use crate::support::Installation;
use crate::tables::TABLE;

/// How often Postgres is asked who holds the locks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Who held them between two looks that are further apart is not known.
const BLIND: Duration = Duration::from_secs(1);

/// What is sent so soon after its sender was woken had left it in all but fact.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Notes which replica began each run, and which deleted each row; each has a role of its own.
fn notes(names: &[&str]) -> String {
    let roles: String = names.iter().map(|name| format!("CREATE ROLE {name} LOGIN SUPERUSER;")).collect();
    format!(
        "{roles}
         CREATE SCHEMA noted;
         CREATE TABLE noted.runs (run uuid, who text);
         CREATE TABLE noted.deletes (who text, at timestamptz);
         CREATE FUNCTION noted.run() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO noted.runs VALUES (NEW.id, session_user); RETURN NULL; END $$;
         CREATE FUNCTION noted.delete() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO noted.deletes VALUES (session_user, clock_timestamp()); RETURN NULL; END $$;
         CREATE TRIGGER noted AFTER INSERT ON course_gc.runs FOR EACH ROW EXECUTE FUNCTION noted.run();
         CREATE TRIGGER noted AFTER DELETE ON {TABLE} FOR EACH STATEMENT EXECUTE FUNCTION noted.delete();"
    )
}

/// Who holds all locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Which replica.
    pub name: &'static str,
    /// Its server processes: another time it has others.
    sessions: Vec<i32>,
}

/// Who held them at a moment.
type Look = (Instant, Option<Holder>);

/// Asks who holds the locks, again and again.
pub struct Watch {
    looks: Arc<Mutex<Vec<Look>>>,
    woken: Mutex<Vec<(&'static str, Instant)>>,
    looking: JoinHandle<()>,
}

impl Watch {
    pub async fn begin(installation: &Installation, names: [&'static str; 3]) -> Result<Self> {
        sqlx::raw_sql(AssertSqlSafe(notes(&names))).execute(&installation.stores.postgres).await?;
        let (looks, url) = (Arc::new(Mutex::new(Vec::new())), installation.addresses.postgres.clone());
        let seen = Arc::clone(&looks);
        let looking = tokio::spawn(async move {
            let mut connection = None;
            loop {
                let holder = timeout(BLIND, holder(&url, names, &mut connection)).await;
                let holder = holder.unwrap_or_else(|late| Err(late.into())).unwrap_or_else(|_| {
                    // Where nobody answers, nobody holds a lock.
                    connection = None;
                    None
                });
                seen.lock().unwrap().push((Instant::now(), holder));
                sleep(LOOK_EVERY).await;
            }
        });
        Ok(Self { looks, woken: Mutex::default(), looking })
    }

    /// Who holds the locks now.
    pub fn leads(&self) -> Option<Holder> {
        self.looks.lock().unwrap().last().and_then(|(_, holder)| holder.clone())
    }

    /// When anybody was first seen with the locks after `since` in sessions that are not `struck`: another one, or the same that came back.
    pub fn led_after(&self, since: Instant, struck: &Holder) -> Option<Instant> {
        let looks = self.looks.lock().unwrap();
        let after = looks.iter().rev().take_while(|(at, _)| *at > since);
        after.filter(|(_, holder)| holder.as_ref().is_some_and(|holder| holder != struck)).map(|(at, _)| *at).last()
    }

    /// One that was frozen goes on now.
    pub fn wakes(&self, replica: &'static str) {
        self.woken.lock().unwrap().push((replica, Instant::now()));
    }

    /// Looks no more, and collects what was seen.
    pub async fn end(self, installation: &Installation, replicas: &[Replica]) -> Result<Sightings> {
        self.looking.abort();
        let mut deletes = Vec::new();
        for replica in replicas {
            deletes.extend(replica.deletes().map(|(store, at)| Delete { store, replica: replica.name.to_owned(), at }));
        }
        let when = moments();
        let pool = &installation.stores.postgres;
        let rows: Vec<(String, DateTime<Utc>)> =
            sqlx::query_as("SELECT who, at FROM noted.deletes").fetch_all(pool).await?;
        deletes.extend(rows.into_iter().map(|(replica, at)| Delete { store: "rows", replica, at: when(at) }));
        let runs: Vec<(String, String)> =
            sqlx::query_as("SELECT run::text, who FROM noted.runs").fetch_all(pool).await?;
        let runs = BTreeMap::from_iter(runs);
        for store in ["uploads", "enrichments"] {
            let quarantine = installation.addresses.files.join(store).join(".course-gc/quarantine");
            for (run, at) in moved(&quarantine)? {
                let replica = runs.get(&run).with_context(|| format!("run {run} is nobody's"))?.clone();
                deletes.push(Delete { store, replica, at: when(at) });
            }
        }
        let looks = self.looks.lock().unwrap().clone();
        Ok(Sightings { looks, woken: self.woken.into_inner().unwrap(), deletes })
    }
}

/// Whose sessions hold the locks of the ledger and of the liveness source.
async fn holder(url: &str, names: [&'static str; 3], connection: &mut Option<PgConnection>) -> Result<Option<Holder>> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(PgConnection::connect(url).await?),
    };
    let both = "SELECT usename::text, array_agg(pid ORDER BY pid) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                WHERE locktype = 'advisory' AND granted AND classid::bigint = $1 AND objid::bigint = ANY($2) \
                GROUP BY usename HAVING count(DISTINCT objid) = 2";
    let locks = [AdvisoryLock::Ledger, AdvisoryLock::Liveness].map(|lock| i64::from(lock.object()));
    let both = sqlx::query_as::<_, (String, Vec<i32>)>(both).bind(i64::from(LOCK_CLASS)).bind(locks);
    let found = both.fetch_optional(open).await?;
    Ok(found.and_then(|(holder, sessions)| {
        let name = names.into_iter().find(|name| *name == holder)?;
        Some(Holder { name, sessions })
    }))
}

/// The runs that moved something into a quarantine of files, and when: a rename changes the time of what is renamed.
fn moved(quarantine: &Path) -> Result<Vec<(String, DateTime<Utc>)>> {
    let mut moved = Vec::new();
    for run in std::fs::read_dir(quarantine).with_context(|| quarantine.display().to_string())? {
        let run = run?;
        for batch in std::fs::read_dir(run.path())? {
            // Beside each shelf lies what describes it.
            let shelves = std::fs::read_dir(batch?.path())?.collect::<std::io::Result<Vec<_>>>()?;
            for shelf in shelves.iter().map(DirEntry::path).filter(|path| path.is_dir()) {
                for copy in std::fs::read_dir(shelf)? {
                    let copy = copy?.metadata()?;
                    let nanoseconds = u32::try_from(copy.ctime_nsec())?;
                    let at = DateTime::from_timestamp(copy.ctime(), nanoseconds).context("a time")?;
                    moved.push((run.file_name().to_string_lossy().into_owned(), at));
                }
            }
        }
    }
    Ok(moved)
}

/// Which moment a time of this machine was.
fn moments() -> impl Fn(DateTime<Utc>) -> Instant {
    let (now, wall) = (Instant::now(), wall());
    move |at| now - (wall - at).to_std().unwrap_or_default()
}

/// A delete that a store was sent.
#[derive(Debug, Clone)]
pub struct Delete {
    store: &'static str,
    replica: String,
    at: Instant,
}

/// All that was seen.
pub struct Sightings {
    looks: Vec<Look>,
    woken: Vec<(&'static str, Instant)>,
    deletes: Vec<Delete>,
}

impl Sightings {
    /// The deletes that came later than this after their sender had lost the locks, each with how much later it lost them.
    pub fn later_than(&self, bound: Duration) -> Vec<(Delete, Duration)> {
        let late = |delete: &Delete| Some((delete.clone(), self.since_lost(delete)?)).filter(|(_, late)| *late > bound);
        self.deletes.iter().filter_map(late).collect()
    }

    /// Whether it was the first thing that its sender did when it was woken.
    pub fn is_of_who_woke(&self, delete: &Delete) -> bool {
        let just = |at: Instant| delete.at.saturating_duration_since(at) < AT_ONCE && delete.at >= at;
        self.woken.iter().any(|(replica, at)| *replica == delete.replica && just(*at))
    }

    /// How long before a delete its sender was last seen with the locks, or could have had them; none if it had them.
    fn since_lost(&self, delete: &Delete) -> Option<Duration> {
        let is_its = |holder: &Option<Holder>| holder.as_ref().is_some_and(|holder| holder.name == delete.replica);
        let mut lost = None;
        for pair in self.looks.windows(2) {
            let ((from, before), (to, after)) = (&pair[0], &pair[1]);
            if *from > delete.at {
                break;
            }
            if is_its(before) || is_its(after) || *to - *from > BLIND {
                lost = Some(*to);
            }
        }
        // Who was never seen with them has been without since the first look.
        let lost = lost.or(self.looks.first().map(|(at, _)| *at))?;
        Some(delete.at.saturating_duration_since(lost)).filter(|late| !late.is_zero())
    }

    /// How many deletes a store was sent.
    pub fn of(&self, store: &str) -> usize {
        self.deletes.iter().filter(|delete| delete.store == store).count()
    }

    /// What was seen, in a few words.
    pub fn summary(&self) -> String {
        let stores: BTreeSet<&str> = self.deletes.iter().map(|delete| delete.store).collect();
        let counts = stores.into_iter().map(|store| format!("{store} {}", self.of(store)));
        let late = self.deletes.iter().filter_map(|delete| self.since_lost(delete));
        let (late, latest) = late.fold((0, Duration::ZERO), |(count, most), late| (count + 1, most.max(late)));
        let blind = self.looks.windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|gap| *gap > BLIND).count();
        format!(
            "deletes seen: {}; {late} after the lock was lost, the latest {:.3} s; looks at the locks: {}, {blind} of them late",
            counts.collect::<Vec<_>>().join(", "),
            latest.as_secs_f64(),
            self.looks.len()
        )
    }
}
