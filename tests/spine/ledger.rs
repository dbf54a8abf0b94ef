//! The ledger on a real Postgres: its versions, its clocks, and what it forgets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use course_gc::domain::approvals::{HoldKind, Terms, digest_of_orphans};
use course_gc::domain::breakers::Recent;
use course_gc::domain::holds::Covered;
use course_gc::domain::ids::{CourseId, IdType};
use course_gc::domain::inventory::SourceIndex;
use course_gc::domain::live_set::LiveSet;
use course_gc::domain::pins::{Position, SourcePin};
use course_gc::domain::report::{Mode, RunReport, Tally, Verdict};
use course_gc::ledger::{
    AcceptedSize, Adoptions, Approvals, AskedAgain, BatchOutcome, Intent, Intents, Known, Ledger, LedgerError, Orphans,
    Pauses, Place, PostgresLedger, Runs,
};
use course_gc::postgres::{IDLE_TIMEOUT, Postgres};
use course_gc::reconcile::reconcile;
use futures::future::join_all;
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Database, World};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::interposed::{Call, interpose};
use crate::support::Installation;

fn ledger(database: &Database) -> Result<PostgresLedger, LedgerError> {
    ledger_of(database, IdType::Uuid)
}

fn ledger_of(database: &Database, id_type: IdType) -> Result<PostgresLedger, LedgerError> {
    let postgres = Postgres {
        what: "the ledger".into(),
        url: database.url().to_owned().into(),
        call_timeout: Duration::from_secs(10),
        idle_timeout: IDLE_TIMEOUT,
        application: "course-gc/campus".into(),
    };
    PostgresLedger::new(postgres, id_type)
}

async fn execute(pool: &PgPool, statements: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await?;
    Ok(())
}

#[tokio::test]
async fn tables_that_are_not_this_program_s_are_refused_with_what_to_do() -> Result<()> {
    let database = Database::create().await?;
    let (ledger, pool) = (ledger(&database)?, PgPool::connect(database.url()).await?);
    let missing = ledger.check_version().await.expect_err("there are no tables");
    assert!(matches!(missing, LedgerError::Old { found: 0, .. }), "{missing:?}");
    assert!(missing.to_string().contains("run `course-gc migrate`"), "{missing}");

    ledger.migrate().await?;
    ledger.check_version().await?;

    execute(
        &pool,
        "INSERT INTO course_gc._sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99999999, 'of a later program', true, '', 0)",
    )
    .await?;
    for newer in [ledger.check_version().await, ledger.migrate().await] {
        let newer = newer.expect_err("the tables are newer");
        assert!(matches!(newer, LedgerError::New { found: 99_999_999, .. }), "{newer:?}");
        assert!(newer.to_string().contains("use the newer program"), "{newer}");
    }
    Ok(())
}

#[tokio::test]
async fn many_may_migrate_at_once_and_again() -> Result<()> {
    let database = Database::create().await?;
    let ledgers = (0..8).map(|_| ledger(&database)).collect::<Result<Vec<_>, _>>()?;
    for ended in join_all(ledgers.iter().map(PostgresLedger::migrate)).await {
        ended?;
    }
    let pool = PgPool::connect(database.url()).await?;
    execute(&pool, "INSERT INTO course_gc.known_ids VALUES ('kept')").await?;
    ledgers[0].migrate().await?;
    ledgers[0].check_version().await?;
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM course_gc.known_ids").fetch_one(&pool).await?;
    assert_eq!(kept, 1);
    Ok(())
}

#[tokio::test]
async fn what_nothing_decides_upon_is_forgotten_after_90_days() -> Result<()> {
    let database = Database::create().await?;
    let (ledger, pool) = (ledger(&database)?, PgPool::connect(database.url()).await?);
    ledger.migrate().await?;
    execute(
        &pool,
        "INSERT INTO course_gc.runs (id, mode, started_at) SELECT gen_random_uuid(), 'run', now() - age * interval '1 day' \
             FROM unnest(array[0, 89, 91]) AS age; \
         INSERT INTO course_gc.populations SELECT id, 'union', 5 FROM course_gc.runs; \
         INSERT INTO course_gc.intents (run_id, store, courses, handles, opened_at, closed_at) \
             SELECT gen_random_uuid(), 'cache', array['x'], 1, opened, CASE WHEN closed THEN opened END \
             FROM (VALUES (now() - interval '91 days', true), (now() - interval '91 days', false), \
                          (now() - interval '89 days', true)) AS old (opened, closed)",
    )
    .await?;
    execute(
        &pool,
        "INSERT INTO course_gc.approvals (digest, kind, reason, approved_by, approved_at, until) \
             SELECT 'x', 'halt', 'why', 'who', now() - interval '99 days', now() - age * interval '1 day' \
             FROM unnest(array[89, 91]) AS age; \
         INSERT INTO course_gc.accepted_sizes SELECT id, 'union', 5 FROM course_gc.approvals",
    )
    .await?;
    ledger.forget_old().await?;
    let left = |table: &str| {
        let query = format!("SELECT count(*) FROM course_gc.{table}");
        let pool = pool.clone();
        async move { sqlx::query_scalar::<_, i64>(AssertSqlSafe(query)).fetch_one(&pool).await }
    };
    assert_eq!(left("runs").await?, 2);
    assert_eq!(left("populations").await?, 2, "they go with their run");
    assert_eq!(left("intents WHERE closed_at IS NULL").await?, 1, "an open intent is never forgotten");
    assert_eq!(left("intents").await?, 2);
    assert_eq!((left("approvals").await?, left("accepted_sizes").await?), (1, 1), "90 days after they expired");
    Ok(())
}

#[tokio::test]
async fn s3_the_last_believed_run_is_compared_with_however_long_ago_it_was() -> Result<()> {
    let database = Database::create().await?;
    let (ledger, pool) = (ledger(&database)?, PgPool::connect(database.url()).await?);
    ledger.migrate().await?;
    // Weekly runs, the last of which was believed 100 days ago; whatever came since halted.
    execute(
        &pool,
        "INSERT INTO course_gc.runs (id, mode, started_at) SELECT gen_random_uuid(), 'run', now() - age * interval '1 day' \
             FROM unnest(array[0, 7, 100, 107]) AS age; \
         INSERT INTO course_gc.populations SELECT id, 'campus', CASE WHEN started_at < now() - interval '101 days' \
             THEN 2000 ELSE 1000 END FROM course_gc.runs WHERE started_at < now() - interval '99 days'",
    )
    .await?;
    ledger.forget_old().await?;
    assert_eq!(ledger.highest_populations().await?.get("campus"), Some(&1000));
    Ok(())
}

#[tokio::test]
async fn s3_an_accepted_size_shadows_what_was_before_while_it_is_in_force_or_was_believed() -> Result<()> {
    let database = Database::create().await?;
    let (ledger, pool) = (ledger(&database)?, PgPool::connect(database.url()).await?);
    ledger.migrate().await?;
    let saw = async |hours: u32, live: u32| {
        let run = format!(
            "WITH run AS (INSERT INTO course_gc.runs (id, mode, started_at) \
                 VALUES (gen_random_uuid(), 'run', now() - interval '{hours} hours') RETURNING id) \
             INSERT INTO course_gc.populations SELECT id, 'campus', {live} FROM run"
        );
        execute(&pool, &run).await
    };
    let lasts = async |from: &str, to: &str| {
        execute(&pool, &format!("UPDATE course_gc.approvals SET approved_at = now() - interval '{from}', until = {to}"))
            .await
    };
    let highest = async || -> Result<Option<u64>> { Ok(ledger.highest_populations().await?.get("campus").copied()) };
    saw(72, 100).await?;
    let terms = Terms::new("a term ended", Duration::from_secs(3600))?;
    let digest = digest_of_orphans(HoldKind::Halt, []);
    let covered = Covered::Sizes(vec![("campus", 70)]);
    let approval = ledger.approve(digest, HoldKind::Halt, &covered, &terms).await?;
    assert_eq!((approval.until - approval.approved_at).num_seconds(), 3600);
    assert_eq!(highest().await?, Some(70), "in force");
    assert_eq!(ledger.accepted_sizes().await?["campus"], AcceptedSize { digest, live: 70 });

    lasts("48 hours", "now() - interval '24 hours'").await?;
    assert_eq!(highest().await?, Some(100), "it expired, and no run ever believed it");
    assert!(ledger.accepted_sizes().await?.is_empty());
    saw(12, 90).await?;
    assert_eq!(highest().await?, Some(100), "nor does a run after it carry it");
    saw(36, 75).await?;
    assert_eq!(highest().await?, Some(90), "a run believed it: what was before counts no more");
    execute(&pool, "DELETE FROM course_gc.runs WHERE started_at > now() - interval '13 hours'").await?;
    assert_eq!(highest().await?, Some(75));

    execute(&pool, "UPDATE course_gc.runs SET started_at = started_at - interval '9 days'").await?;
    lasts("11 days", "now() - interval '9 days'").await?;
    assert_eq!(highest().await?, Some(75), "the last that was believed, however long ago");
    saw(1, 60).await?;
    assert_eq!(highest().await?, Some(60), "after seven days an accepted size is history as any other");
    Ok(())
}

#[tokio::test]
async fn s8_what_went_by_approval_is_left_out_of_the_sliding_counts() -> Result<()> {
    let database = Database::create().await?;
    let ledger = ledger(&database)?;
    ledger.migrate().await?;
    let [meant, other, spared, cut_off] = [1, 2, 3, 4].map(|n| CourseId::Uuid(uuid::Uuid::from_u128(n)));
    let run = uuid::Uuid::nil();
    let intent = |courses: &[CourseId], counting: &[CourseId]| Intent {
        courses: courses.iter().copied().collect(),
        counting: counting.iter().copied().collect(),
        handles: courses.len(),
    };
    let whole = ledger.open_intent(run, "cache", &intent(&[meant, other, spared], &[other, spared])).await?;
    let before: BTreeSet<CourseId> = ledger.recent().await?.courses;
    assert_eq!(before, BTreeSet::from([other, spared]), "until its outcome is written, all that counts may have gone");
    let outcome = BatchOutcome {
        tally: Tally { deleted: 2, bytes: 30, ..Tally::default() },
        deleted: BTreeSet::from([meant, other]),
        counting: Recent { courses: BTreeSet::from([other]), bytes: 10 },
    };
    ledger.close_intent(&whole.context("nobody paused")?, &outcome, AskedAgain::Answered).await?;
    ledger.open_intent(run, "cache", &intent(&[meant, cut_off], &[cut_off])).await?;
    ledger.settle_intents("cache").await?;
    assert_eq!(ledger.recent().await?, Recent { courses: BTreeSet::from([other, cut_off]), bytes: 10 });
    Ok(())
}

#[tokio::test]
async fn s11_an_outcome_whose_intent_a_failover_lost_is_written_anew_and_counts() -> Result<()> {
    let database = Database::create().await?;
    let (ledger, pool) = (ledger(&database)?, PgPool::connect(database.url()).await?);
    ledger.migrate().await?;
    let [gone, other] = [1, 2].map(|n| CourseId::Uuid(uuid::Uuid::from_u128(n)));
    let [run, promoted] = [1, 2].map(uuid::Uuid::from_u128);
    let intent = |course| Intent { courses: [course].into(), counting: [course].into(), handles: 1 };
    let lost = ledger.open_intent(run, "cache", &intent(gone)).await?.context("nobody paused")?;
    execute(&pool, "DELETE FROM course_gc.intents; ALTER TABLE course_gc.intents ALTER COLUMN id RESTART").await?;
    // Whoever works on the promoted one gets the same number.
    ledger.open_intent(promoted, "cache", &intent(other)).await?;
    let outcome = BatchOutcome {
        tally: Tally { deleted: 1, bytes: 20, ..Tally::default() },
        deleted: BTreeSet::from([gone]),
        counting: Recent { courses: BTreeSet::from([gone]), bytes: 20 },
    };
    ledger.close_intent(&lost, &outcome, AskedAgain::Unanswered).await?;
    assert_eq!(ledger.recent().await?, Recent { courses: BTreeSet::from([gone, other]), bytes: 20 });
    let open = ledger.open_intents().await?;
    assert_eq!(
        open["cache"].courses,
        BTreeSet::from([gone, other]),
        "nobody answered, and the other one's is as it was"
    );
    ledger.settle_intents("cache").await?;
    assert_eq!(ledger.open_intents().await?, BTreeMap::new());
    Ok(())
}

#[tokio::test]
async fn s6_whoever_is_live_again_starts_its_clocks_anew_though_its_store_does_not_answer() -> Result<()> {
    let database = Database::create().await?;
    let (ledger, pool) = (ledger(&database)?, PgPool::connect(database.url()).await?);
    ledger.migrate().await?;
    let [back, gone] = [1, 2].map(|n| CourseId::Uuid(uuid::Uuid::from_u128(n)));
    execute(
        &pool,
        &format!(
            "INSERT INTO course_gc.known_ids (course_id, departed_at) VALUES ('{back}', now()), ('{gone}', now()); \
             INSERT INTO course_gc.orphans (store, source, course_id, evidence, resources, fingerprint, entangled, first_seen, \
                 seen_run, seen_at, accrued_ms, pending_ms, counted_at, latched) \
                 SELECT 'uploads', 'x', course_id, 'departed', 1, 0, 0, now(), gen_random_uuid(), now(), 60000, 60000, now(), \
                     'bytes' \
                 FROM course_gc.known_ids"
        ),
    )
    .await?;
    let run = begin(&ledger).await?;
    ledger.learn(run, &LiveSet::from_ids(IdType::Uuid, [back]), false).await?;
    ledger.learn(run, &LiveSet::empty(IdType::Uuid), false).await?;
    assert_clocks_and_holds(&ledger, &pool, back, gone).await?;

    // The same, where a question found it live, in a run that has recorded its orphans and finishes.
    execute(
        &pool,
        "UPDATE course_gc.orphans SET seen_run = '00000000-0000-0000-0000-000000000001', accrued_ms = 60000, \
             pending_ms = 60000, counted_at = now(), latched = 'bytes'",
    )
    .await?;
    ledger.found_live(&LiveSet::from_ids(IdType::Uuid, [back])).await?;
    let run = uuid::Uuid::from_u128(1);
    let started_at = ledger.begin(run, Mode::Run).await?;
    ledger.finish(&RunReport::begin(run, Mode::Run, "campus", started_at), true).await?;
    let counts: Vec<(String, bool)> =
        sqlx::query_as("SELECT course_id, counted_at IS NOT NULL FROM course_gc.orphans ORDER BY course_id")
            .fetch_all(&pool)
            .await?;
    assert_eq!(counts, [(back.to_string(), false), (gone.to_string(), true)], "what was seen before adds nothing");
    assert_clocks_and_holds(&ledger, &pool, back, gone).await
}

async fn assert_clocks_and_holds(ledger: &PostgresLedger, pool: &PgPool, back: CourseId, gone: CourseId) -> Result<()> {
    let clocks: Vec<(String, i64)> =
        sqlx::query_as("SELECT course_id, accrued_ms FROM course_gc.orphans ORDER BY course_id")
            .fetch_all(pool)
            .await?;
    assert_eq!(clocks, [(back.to_string(), 0), (gone.to_string(), 60_000)]);
    let held: Vec<CourseId> = ledger.held().await?.into_iter().map(|held| held.item.course).collect();
    assert_eq!(held, [gone], "who was live is not what a breaker held (S8)");
    Ok(())
}

#[tokio::test]
async fn s7_an_id_is_known_for_as_long_as_something_of_it_is_there_or_waits_for_a_person() -> Result<()> {
    let database = Database::create().await?;
    let (ledger, pool) = (ledger(&database)?, PgPool::connect(database.url()).await?);
    ledger.migrate().await?;
    let [gone, held, across] = [1, 2, 3].map(|n| CourseId::Uuid(uuid::Uuid::from_u128(n)));
    execute(
        &pool,
        &format!(
            "INSERT INTO course_gc.known_ids (course_id, departed_at, across_break) VALUES \
                 ('{gone}', now() - interval '91 days', false), ('{held}', now() - interval '91 days', false), \
                 ('{across}', now() - interval '91 days', true); \
             INSERT INTO course_gc.orphans (store, source, course_id, evidence, resources, fingerprint, entangled, first_seen, \
                 seen_run, seen_at) VALUES ('uploads', 'x', '{held}', 'departed', 1, 0, 0, now(), gen_random_uuid(), now())"
        ),
    )
    .await?;
    ledger.learn(begin(&ledger).await?, &LiveSet::empty(IdType::Uuid), false).await?;
    let known = ledger.known_among(&BTreeSet::from([gone, held, across])).await?;
    assert_eq!(known.all, BTreeSet::from([held, across]), "else they were strangers");
    assert_eq!(known.across_break, BTreeSet::from([across]));
    Ok(())
}

/// A stream of ids that is not read to its end must not be taken for the answer to what is asked next.
#[tokio::test]
async fn s4_ids_that_are_given_up_half_way_are_nobody_elses_answer() -> Result<()> {
    let database = Database::create().await?;
    let id_type: IdType = "text:c[0-9]{5}".parse()?;
    let (ledger, pool) = (ledger_of(&database, id_type)?, PgPool::connect(database.url()).await?);
    ledger.migrate().await?;
    ledger.pause("nothing goes today").await?;
    let course = |n: u32| id_type.parse(format!("c{n:05}").as_bytes()).context("an id");
    let ids = (0..4).map(course).collect::<Result<BTreeSet<_>>>()?;
    let ask = async || {
        // On whichever connection; each of them has been asked before.
        for _ in 0..20 {
            assert_eq!(ledger.paused().await?.context("no pause")?.reason, "nothing goes today");
            assert_eq!(ledger.known_among(&ids).await?.all, ids);
        }
        anyhow::Ok(())
    };
    // By an earlier pattern the first one was an id.
    execute(
        &pool,
        "INSERT INTO course_gc.known_ids VALUES ('d00000'); \
         INSERT INTO course_gc.known_ids SELECT 'c' || lpad(n::text, 5, '0') FROM generate_series(0, 50000) AS n",
    )
    .await?;
    ask().await?;
    let run = begin(&ledger).await?;
    let live = LiveSet::from_ids(id_type, ids.iter().copied());
    let error = ledger.learn(run, &live, false).await.expect_err("it is none by this one");
    assert!(error.to_string().contains("no id"), "{error}");
    ask().await
}

/// The clocks of a store's orphans in the ledger, in whole minutes: what they have, and what the last run that saw them would
/// make of them.
async fn clocks(installation: &Installation, store: &str) -> Result<(BTreeSet<i64>, BTreeSet<i64>)> {
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT accrued_ms / 60000, pending_ms / 60000 FROM course_gc.orphans WHERE store = $1")
            .bind(store)
            .fetch_all(&installation.stores.postgres)
            .await?;
    Ok(rows.into_iter().unzip())
}

#[tokio::test]
async fn s6_clocks_gain_between_finished_runs_and_at_most_two_intervals() -> Result<()> {
    let world = World::create().await?;
    let settings = Settings { departed: "2h".into(), ..Settings::default() };
    let installation = Installation::new(world.addresses(), &settings).await?;
    let campus = Campus::plan(CampusSize::default());
    campus.seed(&installation.stores).await?;
    installation.run().await?;
    campus.delete_doomed(&installation.stores).await?;
    let zero = || BTreeSet::from([0]);
    installation.plan().await?;
    assert_eq!(clocks(&installation, "cache").await?, (zero(), zero()), "the clock starts when it is first seen");

    // A run that is killed after it wrote what it saw.
    installation.age("10 minutes").await?;
    let mut collector = installation.collector()?;
    let reached = Arc::new(Notify::new());
    let hang = Arc::clone(&reached);
    interpose(&mut collector, "uploads", move |call, _| {
        let hang = Arc::clone(&hang);
        Box::pin(async move {
            if call == Call::Referenced {
                hang.notify_one();
                std::future::pending().await
            }
        })
    });
    let stop = CancellationToken::new();
    tokio::select! {
        ended = reconcile(&collector, Mode::Run, &stop) => panic!("it should hang: {ended:?}"),
        () = reached.notified() => {}
    }
    let (accrued, pending) = clocks(&installation, "cache").await?;
    assert_eq!((accrued, pending), (zero(), BTreeSet::from([10])), "it saw them, and nothing counts");

    // A run whose liveness source fails adds nothing either.
    let broken = installation.asking("SELECT id FROM public.nowhere")?;
    installation.unlocked().await?;
    reconcile(&broken, Mode::Run, &stop).await.expect_err("it cannot know what is live");
    installation.unlocked().await?;
    assert_eq!(clocks(&installation, "cache").await?.0, zero());

    assert_eq!(installation.plan().await?.verdict, Verdict::Clean);
    assert_eq!(clocks(&installation, "cache").await?.0, BTreeSet::from([10]), "time counts from the last finished run");

    // However long nobody looked, two intervals of the schedule are gained.
    installation.age("3 days").await?;
    installation.plan().await?;
    assert_eq!(clocks(&installation, "cache").await?.0, BTreeSet::from([10 + 2 * 15]));
    Ok(())
}

async fn begin(ledger: &PostgresLedger) -> Result<Uuid, LedgerError> {
    let run = Uuid::now_v7();
    ledger.begin(run, Mode::Run).await?;
    Ok(run)
}

/// Whoever stood still while another took over the lock must not write over what that one has seen.
#[tokio::test]
async fn s10_a_run_after_which_another_began_writes_nothing() -> Result<()> {
    let database = Database::create().await?;
    let (ledger, pool) = (ledger(&database)?, PgPool::connect(database.url()).await?);
    ledger.migrate().await?;
    let (frozen, id) = (begin(&ledger).await?, CourseId::Uuid(Uuid::from_u128(1)));
    ledger.learn(frozen, &LiveSet::from_ids(IdType::Uuid, [id]), false).await?;
    let current = begin(&ledger).await?;

    let (sources, live) = (["all".to_owned()], LiveSet::empty(IdType::Uuid));
    let place = Place { store: "cache", sources: &sources };
    let key = (SourceIndex(0), id);
    let mut report = RunReport::begin(frozen, Mode::Run, "campus", chrono::DateTime::UNIX_EPOCH);
    let pin = SourcePin {
        system: None,
        database: "campus".into(),
        id_type: "uuid".into(),
        query: String::new(),
        relations: Vec::new(),
    };
    let refused = [
        ledger.learn(frozen, &live, false).await,
        ledger.record_orphans(frozen, place, &[], &[key]).await,
        ledger.saw_source(frozen, "campus", &pin, &Position::default()).await,
        ledger.finish(&report, true).await,
    ];
    for refused in refused {
        assert!(matches!(refused, Err(LedgerError::Superseded)), "{refused:?}");
    }
    let present = "SELECT count(*) FROM course_gc.known_ids WHERE departed_at IS NULL";
    assert_eq!(sqlx::query_scalar::<_, i64>(present).fetch_one(&pool).await?, 1, "nothing was learned");
    report.run = current;
    ledger.learn(current, &live, false).await?;
    ledger.finish(&report, true).await?;
    assert_eq!(sqlx::query_scalar::<_, i64>(present).fetch_one(&pool).await?, 0);
    Ok(())
}

#[tokio::test]
async fn s10_a_clock_that_was_put_back_does_not_make_the_latest_run_an_old_one() -> Result<()> {
    let database = Database::create().await?;
    let (ledger, pool) = (ledger(&database)?, PgPool::connect(database.url()).await?);
    ledger.migrate().await?;
    let earlier = begin(&ledger).await?;
    execute(&pool, "UPDATE course_gc.runs SET started_at = started_at + interval '1 hour'").await?;
    let latest = begin(&ledger).await?;
    ledger.learn(latest, &LiveSet::empty(IdType::Uuid), false).await?;
    let refused = ledger.learn(earlier, &LiveSet::empty(IdType::Uuid), false).await;
    assert!(matches!(refused, Err(LedgerError::Superseded)), "{refused:?}");
    Ok(())
}
