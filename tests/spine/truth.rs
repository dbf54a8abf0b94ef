//! S4: what a liveness query must not read unless a person accepted it, each on a real Postgres.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use course_gc::adopt::adopt;
use course_gc::domain::ids::IdType;
use course_gc::domain::report::Mode;
use course_gc::liveness::{LivenessSource, LivenessSources, PostgresSources, Risk};
use course_gc::postgres::{AdvisoryLock, LockSession, Postgres, PostgresError};
use course_gc::reconcile::reconcile;
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Database, Snapshot, World};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::support::Installation;

fn source(url: &str, query: &str, accepted: &[Risk]) -> LivenessSource {
    let postgres = Postgres {
        what: "liveness source campus".to_owned(),
        url: url.into(),
        call_timeout: Duration::from_secs(10),
        application: "course-gc/test".to_owned(),
        idle_timeout: course_gc::postgres::IDLE_TIMEOUT,
    };
    let accepted: BTreeSet<Risk> = accepted.iter().copied().collect();
    LivenessSource {
        name: "campus".to_owned(),
        postgres,
        query: query.to_owned(),
        accepted,
        tombstones: None,
        organizations: None,
    }
}

async fn sql(url: &str, statements: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// Locks the source; gives back how many ids are live, or why it was refused.
async fn live(source: LivenessSource) -> Result<usize, PostgresError> {
    let liveness = PostgresSources { id_type: IdType::Uuid, sources: vec![source] }.lock().await?;
    let live = liveness.read().await?.iter().map(|(_, set, _)| set.len()).sum();
    liveness.release().await;
    Ok(live)
}

/// The query is refused, by a message that names the culprit and the word that accepts it; accepted, it is asked.
async fn refused_until_accepted(url: &str, query: &str, risk: Risk, culprit: &str) -> Result<()> {
    let refusal = live(source(url, query, &[])).await.unwrap_err().to_string();
    assert!(refusal.contains(culprit) && refusal.contains(risk.as_str()), "{refusal}");
    assert_eq!(live(source(url, query, &[risk])).await?, 1);
    Ok(())
}

const COURSES: &str = "CREATE TABLE public.courses (id uuid PRIMARY KEY); \
    INSERT INTO public.courses VALUES ('0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d');";

#[tokio::test]
async fn s4_a_plain_table_a_view_and_partitions_are_believed() -> Result<()> {
    let database = Database::create().await?;
    sql(
        database.url(),
        &format!(
            "{COURSES} CREATE VIEW public.live AS SELECT id FROM public.courses WHERE id IS NOT NULL; \
             CREATE TABLE public.parts (id uuid, half int) PARTITION BY LIST (half); \
             CREATE TABLE public.part_one PARTITION OF public.parts FOR VALUES IN (1); \
             INSERT INTO public.parts SELECT id, 1 FROM public.courses"
        ),
    )
    .await?;
    for query in ["SELECT id FROM public.courses", "SELECT id FROM public.live", "SELECT id FROM public.parts -- all"] {
        assert_eq!(live(source(database.url(), query, &[])).await?, 1, "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn s4_a_materialized_view_behind_a_view_is_refused() -> Result<()> {
    let database = Database::create().await?;
    let statements = format!(
        "{COURSES} CREATE MATERIALIZED VIEW public.cached AS SELECT id FROM public.courses; \
         CREATE VIEW public.live AS SELECT id FROM public.cached"
    );
    sql(database.url(), &statements).await?;
    refused_until_accepted(database.url(), "SELECT id FROM public.live", Risk::MaterializedViews, "cached").await
}

#[tokio::test]
async fn s4_a_foreign_table_among_the_partitions_is_refused() -> Result<()> {
    let database = Database::create().await?;
    let statements = format!(
        "{COURSES} CREATE EXTENSION postgres_fdw; CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw; \
         CREATE TABLE public.parts (id uuid, half int) PARTITION BY LIST (half); \
         CREATE TABLE public.near PARTITION OF public.parts FOR VALUES IN (1); \
         INSERT INTO public.parts SELECT id, 1 FROM public.courses; \
         CREATE FOREIGN TABLE public.far PARTITION OF public.parts FOR VALUES IN (2) SERVER elsewhere"
    );
    sql(database.url(), &statements).await?;
    // The planner leaves the far partition out of this query; the dependencies do not.
    let query = "SELECT id FROM public.parts WHERE half = 1";
    refused_until_accepted(database.url(), query, Risk::ForeignTables, "far").await
}

#[tokio::test]
async fn s4_a_function_with_settings_is_refused() -> Result<()> {
    let database = Database::create().await?;
    let statements = format!(
        "{COURSES} CREATE FUNCTION public.live() RETURNS SETOF uuid LANGUAGE sql STABLE SET row_security = on \
         AS 'SELECT id FROM public.courses'"
    );
    sql(database.url(), &statements).await?;
    refused_until_accepted(database.url(), "SELECT * FROM public.live()", Risk::FunctionSettings, "live()").await
}

#[tokio::test]
async fn s4_a_subscribed_table_is_refused() -> Result<()> {
    // Logical replication needs a server of its own with another `wal_level`.
    let server = sandbox::Postgres::start().await?;
    sql(&server.url(), "ALTER SYSTEM SET wal_level = logical").await?;
    server.restart().await?;
    let publisher = server.create_database("publisher").await?;
    let subscriber = server.create_database("subscriber").await?;
    sql(&publisher, &format!("{COURSES} CREATE PUBLICATION courses FOR TABLE public.courses")).await?;
    sql(&publisher, "SELECT pg_create_logical_replication_slot('courses', 'pgoutput')").await?;
    sql(&subscriber, COURSES).await?;
    let subscription = format!(
        "CREATE SUBSCRIPTION courses CONNECTION '{publisher}' PUBLICATION courses \
         WITH (create_slot = false, slot_name = 'courses', copy_data = false)"
    );
    sql(&subscriber, &subscription).await?;
    refused_until_accepted(&subscriber, "SELECT id FROM public.courses", Risk::SubscribedTables, "courses").await
}

#[tokio::test]
async fn s4_a_view_shows_all_rows_only_if_its_owner_bypasses_row_level_security() -> Result<()> {
    // Roles belong to the server.
    let server = sandbox::Postgres::start().await?;
    let database = server.create_database("campus").await?;
    sql(
        &database,
        &format!(
            "{COURSES} ALTER TABLE public.courses ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON public.courses USING (false); \
             CREATE ROLE collector LOGIN; CREATE ROLE seer BYPASSRLS; CREATE ROLE blind; \
             GRANT SELECT ON public.courses TO collector, seer, blind; \
             CREATE VIEW public.seen AS SELECT id FROM public.courses; ALTER VIEW public.seen OWNER TO seer; \
             CREATE VIEW public.unseen AS SELECT id FROM public.courses; ALTER VIEW public.unseen OWNER TO blind; \
             CREATE VIEW public.asked WITH (security_invoker) AS SELECT id FROM public.courses; \
             ALTER VIEW public.asked OWNER TO seer; GRANT SELECT ON public.seen, public.unseen, public.asked TO collector"
        ),
    )
    .await?;
    let url = database.replace("//postgres@", "//collector@");
    for blinded in ["public.courses", "public.unseen", "public.asked"] {
        let refused = live(source(&url, &format!("SELECT id FROM {blinded}"), &[])).await.unwrap_err();
        let refused = course_gc::errors::chain(&refused);
        assert!(refused.contains("row-level security"), "{blinded}: {refused}");
    }
    assert_eq!(live(source(&url, "SELECT id FROM public.seen", &[])).await?, 1);
    Ok(())
}

#[tokio::test]
async fn s4_s7_a_partition_that_was_detached_or_dropped_halts_and_a_new_one_does_not() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &Settings::default()).await?;
    let campus = Campus::plan(CampusSize { courses: 20, doomed: 0, ..CampusSize::default() });
    campus.seed(&installation.stores).await?;
    let parts = "CREATE TABLE public.parts (id uuid, half int) PARTITION BY LIST (half); \
        CREATE TABLE public.part_one PARTITION OF public.parts FOR VALUES IN (1); \
        CREATE TABLE public.part_two PARTITION OF public.parts FOR VALUES IN (2); \
        INSERT INTO public.parts SELECT id, 1 FROM public.courses; \
        INSERT INTO public.parts VALUES (gen_random_uuid(), 2)";
    sql(&installation.addresses.postgres, parts).await?;
    let collector = installation.asking("SELECT id FROM public.parts")?;
    adopt(&collector, true).await?;
    let before = Snapshot::take(&installation.stores).await?;
    let plan = async || reconcile(&collector, Mode::Run, &CancellationToken::new()).await;
    assert_eq!(plan().await?.halt, None);
    sql(&installation.addresses.postgres, "CREATE TABLE public.part_three PARTITION OF public.parts FOR VALUES IN (3)")
        .await?;
    assert_eq!(plan().await?.halt, None, "it only adds rows");
    // One course of twenty-one: the number alone would tell nothing.
    for (away, again) in [
        (
            "ALTER TABLE public.parts DETACH PARTITION public.part_two",
            "ALTER TABLE public.parts ATTACH PARTITION public.part_two FOR VALUES IN (2)",
        ),
        ("DROP TABLE public.part_two", ""),
    ] {
        sql(&installation.addresses.postgres, away).await?;
        let halt = plan().await?.halt.expect("it halts");
        assert!(halt.contains("part_two"), "{halt}");
        assert_eq!(before.diff(&Snapshot::take(&installation.stores).await?), Default::default());
        sql(&installation.addresses.postgres, again).await?;
        assert_eq!(plan().await?.halt.is_none(), !again.is_empty(), "attached again, it is what was adopted");
    }
    Ok(())
}

#[tokio::test]
async fn s4_a_standby_that_streams_is_refused_and_so_is_its_ledger() -> Result<()> {
    let primary = sandbox::Postgres::start().await?;
    let database = primary.create_database("campus").await?;
    sql(&database, COURSES).await?;
    let standby = primary.standby().await?;
    let refused = live(source(&standby.url_of("campus"), "SELECT id FROM public.courses", &[])).await.unwrap_err();
    assert!(matches!(refused, PostgresError::Standby { .. }), "{refused:?}");
    let ledger = source(&standby.url_of("campus"), "", &[]).postgres;
    let refused = LockSession::open(&ledger, AdvisoryLock::Ledger).await.unwrap_err();
    assert!(refused.to_string().contains("connect to the primary"), "{refused}");
    assert_eq!(live(source(&database, "SELECT id FROM public.courses", &[])).await?, 1, "the primary knows");
    Ok(())
}
