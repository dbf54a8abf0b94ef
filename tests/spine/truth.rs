//! S4: what a liveness query must not read unless a person accepted it, each on a real Postgres.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use course_gc::domain::ids::IdType;
use course_gc::liveness::{LivenessSource, LivenessSources, PostgresSources, Risk};
use course_gc::postgres::{Postgres, PostgresError};
use sandbox::Database;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

fn source(url: &str, query: &str, accepted: &[Risk]) -> LivenessSource {
    let postgres = Postgres {
        what: "liveness source campus".to_owned(),
        url: url.into(),
        call_timeout: Duration::from_secs(10),
        application: "course-gc/test".to_owned(),
        idle_timeout: course_gc::postgres::IDLE_TIMEOUT,
    };
    let accepted: BTreeSet<Risk> = accepted.iter().copied().collect();
    LivenessSource { name: "campus".to_owned(), postgres, query: query.to_owned(), accepted, tombstones: None }
}

async fn sql(url: &str, statements: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// Locks the source; gives back how many ids are live, or why it was refused.
async fn live(source: LivenessSource) -> Result<usize, PostgresError> {
    let liveness = PostgresSources { id_type: IdType::Uuid, sources: vec![source] }.lock().await?;
    let live = liveness.read().await?.iter().map(|(_, set)| set.len()).sum();
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
