//! S6: the trigger that records deaths, on a real Postgres. It records what dies and nothing else, and no delete ever fails because of it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use course_gc::clock::{Clock, MachineClock};
use course_gc::domain::ids::{CourseId, IdType};
use course_gc::postgres::{IDLE_TIMEOUT, Postgres};
use course_gc::tombstones::{Coverage, Tombstones};
use sandbox::Database;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::support::eventually;

/// A table, and where its deaths are recorded.
struct Bed {
    url: String,
    admin: PgConnection,
    tombstones: Tombstones,
}

fn tombstones(url: &str) -> Tombstones {
    Tombstones {
        postgres: Postgres {
            what: "liveness source campus".to_owned(),
            url: url.into(),
            call_timeout: Duration::from_secs(10),
            idle_timeout: IDLE_TIMEOUT,
            application: "course-gc/test".to_owned(),
        },
        schema: "public".to_owned(),
        table: "courses".to_owned(),
        column: "id".to_owned(),
        notify: false,
    }
}

impl Bed {
    /// Sets up the tables and installs the trigger.
    async fn new(url: &str, tables: &str) -> Result<Self> {
        let mut bed =
            Self { url: url.to_owned(), admin: PgConnection::connect(url).await?, tombstones: tombstones(url) };
        bed.sql(tables).await?;
        let status = bed.tombstones.status().await?;
        assert!(!status.table && !status.is_whole() && status.tombstones.is_none(), "{status:?}");
        bed.install().await?;
        Ok(bed)
    }

    async fn install(&self) -> Result<()> {
        Ok(self.tombstones.install().await?.run().await?)
    }

    async fn sql(&mut self, statements: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut self.admin).await?;
        Ok(())
    }

    async fn count(&mut self, relation: &str) -> Result<i64> {
        let query = format!("SELECT count(*) FROM {relation}");
        Ok(sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut self.admin).await?)
    }

    /// Whose deaths were recorded, each once; forgets them.
    async fn integers(&mut self) -> Result<Vec<i64>> {
        let polled = self.tombstones.poll(IdType::Integer).await?;
        let mut ids = polled.iter().map(|it| it.course.to_string().parse()).collect::<Result<Vec<i64>, _>>()?;
        ids.sort_unstable();
        self.tombstones.remove_rows(&polled.iter().map(|tombstone| tombstone.row).collect::<Vec<_>>()).await?;
        assert_eq!(self.tombstones.poll(IdType::Integer).await?, []);
        Ok(ids)
    }

    async fn coverage(&self) -> Result<Vec<Coverage>> {
        Ok(self.tombstones.status().await?.relations.iter().map(|relation| relation.coverage).collect())
    }
}

const PLAIN: &str = "CREATE TABLE public.courses (id bigint PRIMARY KEY); \
    INSERT INTO public.courses SELECT generate_series(1, 9)";

/// Courses 1 to 9, the odd ones in one partition, the even ones in a partition of a partition.
const PARTITIONED: &str = "CREATE TABLE public.courses (id bigint, half int NOT NULL) PARTITION BY LIST (half); \
    CREATE TABLE public.odd PARTITION OF public.courses FOR VALUES IN (1); \
    CREATE TABLE public.rest PARTITION OF public.courses FOR VALUES IN (0) PARTITION BY RANGE (id); \
    CREATE TABLE public.even PARTITION OF public.rest DEFAULT; \
    INSERT INTO public.courses SELECT id, id % 2 FROM generate_series(1, 9) AS id";

#[tokio::test]
async fn s6_a_death_is_recorded_in_the_deleting_transaction() -> Result<()> {
    let database = Database::create().await?;
    let mut bed = Bed::new(database.url(), PLAIN).await?;
    bed.sql("BEGIN; DELETE FROM public.courses WHERE id = 1; ROLLBACK").await?;
    bed.sql("DELETE FROM public.courses WHERE id = 100; UPDATE public.courses SET id = 10 WHERE id = 9").await?;
    assert_eq!(bed.integers().await?, [0_i64; 0], "nobody died");
    bed.sql("BEGIN; DELETE FROM public.courses WHERE id IN (1, 2)").await?;
    assert_eq!(bed.integers().await?, [0_i64; 0], "nobody has died yet");
    bed.sql("DELETE FROM public.courses WHERE id = 3; COMMIT").await?;
    assert_eq!(bed.integers().await?, [1, 2, 3]);
    bed.sql("TRUNCATE public.courses").await?;
    assert_eq!(bed.integers().await?, [4, 5, 6, 7, 8, 10]);
    Ok(())
}

#[tokio::test]
async fn s6_uuids_are_recorded_whatever_the_column_s_type() -> Result<()> {
    for column in ["uuid", "text", "varchar(40)", "char(36)"] {
        let database = Database::create().await?;
        let id = Uuid::from_u128(0xA1B2_C3D4_0000_4000_8000_0000_0000_000A);
        let upper = id.to_string().to_uppercase();
        let table = format!("CREATE TABLE public.courses (id {column}); INSERT INTO public.courses VALUES ('{upper}')");
        let mut bed = Bed::new(database.url(), &table).await?;
        bed.sql("DELETE FROM public.courses").await?;
        let polled = bed.tombstones.poll(IdType::Uuid).await?;
        assert_eq!(polled.iter().map(|it| it.course).collect::<Vec<_>>(), [CourseId::Uuid(id)], "{column}");
        assert!(!polled[0].old);
        assert_eq!(bed.tombstones.poll(IdType::Integer).await?, [], "no id of that type");
    }
    Ok(())
}

#[tokio::test]
async fn s6_rows_that_move_between_partitions_are_no_deaths() -> Result<()> {
    let database = Database::create().await?;
    let mut bed = Bed::new(database.url(), PARTITIONED).await?;
    bed.sql("UPDATE public.courses SET half = 1 - half WHERE id IN (1, 2)").await?;
    assert_eq!(bed.integers().await?, [0_i64; 0]);
    bed.sql("DELETE FROM public.courses WHERE id IN (1, 2, 3)").await?;
    assert_eq!(bed.integers().await?, [1, 2, 3], "through the table, each once");
    bed.sql("DELETE FROM public.odd WHERE id = 5; DELETE FROM public.even WHERE id = 4; DELETE FROM public.rest WHERE id = 6")
        .await?;
    assert_eq!(bed.integers().await?, [4, 5, 6], "through a partition");
    bed.sql("TRUNCATE public.even").await?;
    assert_eq!(bed.integers().await?, [8]);
    bed.sql("TRUNCATE public.courses").await?;
    assert_eq!(bed.integers().await?, [7, 9]);
    Ok(())
}

#[tokio::test]
async fn s6_cascades_are_deaths_too() -> Result<()> {
    for courses in [
        "CREATE TABLE public.courses (id bigint, owner int REFERENCES public.owners ON DELETE CASCADE)",
        "CREATE TABLE public.courses (id bigint, owner int REFERENCES public.owners ON DELETE CASCADE) PARTITION BY HASH (id); \
         CREATE TABLE public.one PARTITION OF public.courses FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
         CREATE TABLE public.two PARTITION OF public.courses FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    ] {
        let database = Database::create().await?;
        let tables = format!(
            "CREATE TABLE public.owners (id int PRIMARY KEY); {courses}; INSERT INTO public.owners VALUES (1), (2), (3); \
             INSERT INTO public.courses SELECT id, 1 + id % 3 FROM generate_series(1, 9) AS id"
        );
        let mut bed = Bed::new(database.url(), &tables).await?;
        bed.sql("DELETE FROM public.owners WHERE id IN (1, 2)").await?;
        assert_eq!(bed.integers().await?, [1, 3, 4, 6, 7, 9]);
        bed.sql("TRUNCATE public.owners CASCADE").await?;
        assert_eq!(bed.integers().await?, [2, 5, 8]);
    }
    Ok(())
}

#[tokio::test]
async fn s6_no_delete_fails_because_of_the_trigger() -> Result<()> {
    // A server of its own, whose log shows the warnings.
    let server = sandbox::Postgres::start().await?;
    let mut bed = Bed::new(&server.create_database("campus").await?, PLAIN).await?;
    bed.tombstones.notify = true;
    bed.install().await?;
    let log = server.folder().join("log");
    for (breakage, repair) in [
        ("ALTER TABLE course_gc.tombstones RENAME TO gone", "ALTER TABLE course_gc.gone RENAME TO tombstones"),
        ("ALTER TABLE public.courses RENAME id TO number", "ALTER TABLE public.courses RENAME number TO id"),
        (
            "CREATE ROLE weak; GRANT USAGE ON SCHEMA course_gc TO weak; ALTER FUNCTION course_gc.bury() OWNER TO weak",
            "ALTER FUNCTION course_gc.bury() OWNER TO postgres",
        ),
        (
            "ALTER TABLE course_gc.tombstones ADD CONSTRAINT never CHECK (course_id = '')",
            "ALTER TABLE course_gc.tombstones DROP CONSTRAINT never",
        ),
        ("ALTER TABLE public.courses ALTER id TYPE numeric", "ALTER TABLE public.courses ALTER id TYPE bigint"),
    ] {
        bed.sql(breakage).await?;
        let before = std::fs::read_to_string(&log)?.len();
        bed.sql("DELETE FROM public.courses WHERE ctid = (SELECT min(ctid) FROM public.courses)").await?;
        bed.sql("BEGIN; TRUNCATE public.courses; ROLLBACK").await?;
        eventually("it warns", async || {
            let said = std::fs::read_to_string(&log)?[before..].matches("WARNING:  course-gc has no tombstone").count();
            Ok((said == 2).then_some(()))
        })
        .await?;
        bed.sql(repair).await?;
        assert_eq!(bed.integers().await?, [0_i64; 0], "{breakage}");
    }
    assert_eq!(bed.count("public.courses").await?, 4, "five deletes went through");
    bed.sql("DELETE FROM public.courses").await?;
    assert_eq!(bed.integers().await?, [6, 7, 8, 9], "repaired, it records again");
    Ok(())
}

#[tokio::test]
async fn s6_a_delete_does_not_wait_for_our_table() -> Result<()> {
    let database = Database::create().await?;
    let mut bed = Bed::new(database.url(), PLAIN).await?;
    let mut other = PgConnection::connect(database.url()).await?;
    sqlx::raw_sql("BEGIN; LOCK TABLE course_gc.tombstones").execute(&mut other).await?;
    let began = MachineClock.since_boot();
    bed.sql("DELETE FROM public.courses WHERE id = 1").await?;
    let took = MachineClock.since_boot().saturating_sub(began);
    assert!(took < Duration::from_secs(5), "{took:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await?;
    assert_eq!(bed.integers().await?, [0_i64; 0]);
    assert_eq!(bed.count("public.courses").await?, 8);
    Ok(())
}

#[tokio::test]
async fn s6_a_replica_s_session_leaves_no_tombstone() -> Result<()> {
    let database = Database::create().await?;
    let mut bed = Bed::new(database.url(), PLAIN).await?;
    bed.sql("SET session_replication_role = replica; DELETE FROM public.courses WHERE id = 1; RESET session_replication_role")
        .await?;
    assert_eq!(bed.integers().await?, [0_i64; 0]);
    Ok(())
}

#[tokio::test]
async fn s6_a_mass_delete_is_one_statement_more() -> Result<()> {
    let database = Database::create().await?;
    let mut bed = Bed::new(database.url(), PLAIN).await?;
    bed.sql("TRUNCATE public.courses; INSERT INTO public.courses SELECT generate_series(1, 100000)").await?;
    bed.integers().await?;
    let timed = async |bed: &mut Bed, statement: &str| {
        let began = MachineClock.since_boot();
        bed.sql(statement).await?;
        anyhow::Ok(MachineClock.since_boot().saturating_sub(began))
    };
    let with = timed(&mut bed, "DELETE FROM public.courses").await?;
    assert_eq!(bed.integers().await?.len(), 100_000);
    bed.sql(
        "INSERT INTO public.courses SELECT generate_series(1, 100000); ALTER TABLE public.courses DISABLE TRIGGER USER",
    )
    .await?;
    let without = timed(&mut bed, "DELETE FROM public.courses").await?;
    // A row's trigger would take many times as long; the bound is wide, as machines are shared.
    assert!(with < without * 20 + Duration::from_secs(2), "{with:?} with, {without:?} without");
    Ok(())
}

#[tokio::test]
async fn s6_it_is_removed_while_the_application_deletes() -> Result<()> {
    let database = Database::create().await?;
    let mut bed = Bed::new(database.url(), PARTITIONED).await?;
    let stop = tokio_util::sync::CancellationToken::new();
    let mut busy = tokio::task::JoinSet::new();
    for worker in 0..3 {
        let (url, stop) = (bed.url.clone(), stop.clone());
        busy.spawn(async move {
            let mut application = PgConnection::connect(&url).await?;
            let mut deletes = 0;
            while !stop.is_cancelled() {
                let work = format!(
                    "BEGIN; INSERT INTO public.courses SELECT {worker} * 1000 + id, id % 2 FROM generate_series(100, 120) AS id; \
                     DELETE FROM public.courses WHERE id BETWEEN {worker} * 1000 + 100 AND {worker} * 1000 + 120; COMMIT"
                );
                sqlx::raw_sql(AssertSqlSafe(work)).execute(&mut application).await?;
                deletes += 1;
            }
            anyhow::Ok(deletes)
        });
    }
    for _ in 0..3 {
        eventually("deaths are recorded", async || {
            Ok((!bed.tombstones.poll(IdType::Integer).await?.is_empty()).then_some(()))
        })
        .await?;
        bed.tombstones.remove().await?.run().await?;
        assert_eq!(bed.coverage().await?, [Coverage::Missing; 4]);
        assert!(!bed.tombstones.status().await?.table);
        bed.install().await?;
    }
    bed.tombstones.remove().await?.run().await?;
    stop.cancel();
    while let Some(ended) = busy.join_next().await {
        assert!(ended?? > 0, "no delete failed");
    }
    assert_eq!(bed.count("pg_proc WHERE proname = 'bury'").await?, 0);
    bed.tombstones.remove().await?.run().await?;
    Ok(())
}

#[tokio::test]
async fn s6_the_status_tells_what_is_not_heard_and_install_mends_it() -> Result<()> {
    let database = Database::create().await?;
    let mut bed = Bed::new(database.url(), PARTITIONED).await?;
    assert!(bed.tombstones.status().await?.is_whole());
    bed.sql(
        "CREATE TABLE public.more PARTITION OF public.courses FOR VALUES IN (2); \
         ALTER TABLE public.odd DISABLE TRIGGER course_gc_bury; DELETE FROM public.even WHERE id = 2",
    )
    .await?;
    let status = bed.tombstones.status().await?;
    let relations: BTreeSet<_> = status.relations.iter().map(|it| (it.name.as_str(), it.coverage)).collect();
    let expected = [
        ("public.courses", Coverage::Enabled),
        ("public.even", Coverage::Enabled),
        ("public.more", Coverage::Missing),
        ("public.odd", Coverage::Disabled),
        ("public.rest", Coverage::Enabled),
    ];
    assert_eq!(relations, expected.into());
    assert!(!status.is_whole());
    assert_eq!((status.table, status.readable, status.tombstones), (true, true, Some(1)));
    assert!(status.newest.is_some());
    for _ in 0..2 {
        bed.install().await?;
        assert!(bed.tombstones.status().await?.is_whole());
    }
    assert_eq!(bed.integers().await?, [2], "installing again loses nothing");
    Ok(())
}

#[tokio::test]
async fn s6_what_hears_of_no_deletes_is_refused() -> Result<()> {
    let database = Database::create().await?;
    let mut bed = Bed::new(database.url(), PLAIN).await?;
    bed.sql("CREATE VIEW public.live AS SELECT id FROM public.courses; ALTER TABLE public.courses ADD price numeric")
        .await?;
    for (table, column, problem) in [
        ("live", "id", "public.live is no table"),
        ("missing", "id", "there is no table public.missing"),
        ("courses", "number", "column number of public.courses is not there"),
        ("courses", "price", "column price of public.courses has a type that no id has"),
    ] {
        let tombstones = Tombstones { table: table.to_owned(), column: column.to_owned(), ..bed.tombstones.clone() };
        let refused = tombstones.install().await.expect_err(problem).to_string();
        assert!(refused.contains(problem), "{refused}");
    }
    Ok(())
}

#[tokio::test]
async fn s6_a_role_needs_select_and_delete_on_the_tombstones_and_no_more() -> Result<()> {
    // Roles belong to the server.
    let server = sandbox::Postgres::start().await?;
    let url = server.create_database("campus").await?;
    let mut bed = Bed::new(&url, PLAIN).await?;
    bed.sql("CREATE ROLE collector LOGIN").await?;
    let ours = tombstones(&url.replace("//postgres@", "//collector@"));
    ours.poll(IdType::Integer).await.expect_err("it has no rights");
    assert!(!ours.status().await?.readable);
    bed.sql("GRANT USAGE ON SCHEMA course_gc TO collector; GRANT SELECT ON course_gc.tombstones TO collector").await?;
    let refused = ours.poll(IdType::Integer).await.expect_err("it could make none void").to_string();
    assert!(refused.contains("may not delete from course_gc.tombstones"), "{refused}");
    ours.install().await?.run().await.expect_err("it owns nothing");
    // What it prints is for whoever does.
    let script = ours.install().await?.script();
    bed.sql(&script).await?;
    bed.sql("RESET lock_timeout; DELETE FROM public.courses WHERE id = 1").await?;
    assert!(ours.status().await?.is_whole());
    bed.tombstones = ours;
    assert_eq!(bed.integers().await?, [1]);
    Ok(())
}
