//! S4, S10: a pooler between course-gc and Postgres. One that shares server processes is refused, wherever it stands.

use std::time::Duration;

use anyhow::Result;
use course_gc::domain::ids::IdType;
use course_gc::liveness::{LivenessSource, LivenessSources, PostgresSources};
use course_gc::postgres::{AdvisoryLock, IDLE_TIMEOUT, Lock, LockSession, Postgres, PostgresError};
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Database, PgBouncer, Pooling, World};
use sqlx::{Connection, PgConnection};

use crate::support::Installation;

fn postgres(url: &str) -> Postgres {
    Postgres {
        what: "liveness source campus".to_owned(),
        url: url.into(),
        call_timeout: Duration::from_secs(3),
        application: "course-gc/test".to_owned(),
        idle_timeout: IDLE_TIMEOUT,
    }
}

async fn open(url: &str) -> Result<LockSession, PostgresError> {
    LockSession::open(&postgres(url), AdvisoryLock::Liveness).await
}

/// It is refused, in words that say what to do, and the application's sessions are as they were.
async fn is_refused(database: &Database, pooling: Pooling, connections: u16) -> Result<()> {
    let pooler = PgBouncer::start(database.url(), pooling, connections).await?;
    for _ in 0..3 {
        let refusal = open(&pooler.url()?).await.expect_err("it is refused").to_string();
        assert!(refusal.contains("connect to Postgres directly, or use session pooling"), "{refusal}");
    }
    let mut admin = PgConnection::connect(database.url()).await?;
    let locks: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .fetch_one(&mut admin)
    .await?;
    assert_eq!(locks, 0, "no server process of the pooler holds our lock");
    if pooling == Pooling::Transaction {
        let mut application = PgConnection::connect(&pooler.url()?).await?;
        let path = sqlx::raw_sql("SHOW search_path").fetch_one(&mut application).await?;
        assert_eq!(sqlx::Row::try_get::<&str, _>(&path, 0)?, "\"$user\", public");
    }
    Ok(())
}

#[tokio::test]
async fn s4_s10_a_transaction_pooler_is_refused_and_nothing_of_ours_stays_behind_it() -> Result<()> {
    let database = Database::create().await?;
    for connections in [1, 2, 20] {
        is_refused(&database, Pooling::Transaction, connections).await?;
    }
    Ok(())
}

#[tokio::test]
async fn s4_s10_a_statement_pooler_is_refused() -> Result<()> {
    let database = Database::create().await?;
    is_refused(&database, Pooling::Statement, 20).await
}

#[tokio::test]
async fn s4_s10_a_transaction_pooler_is_refused_while_the_application_works_through_it() -> Result<()> {
    let database = Database::create().await?;
    let pooler = PgBouncer::start(database.url(), Pooling::Transaction, 20).await?;
    let url = pooler.url()?;
    let stop = tokio_util::sync::CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    for _ in 0..5 {
        let (url, stop) = (url.clone(), stop.clone());
        tokio::spawn(async move {
            let mut application = PgConnection::connect(&url).await?;
            while !stop.is_cancelled() {
                sqlx::raw_sql("BEGIN").execute(&mut application).await?;
                sqlx::raw_sql("SELECT pg_sleep(random() / 200)").execute(&mut application).await?;
                sqlx::raw_sql("COMMIT").execute(&mut application).await?;
            }
            anyhow::Ok(())
        });
    }
    for _ in 0..20 {
        let refusal = open(&url).await.expect_err("it is refused");
        assert!(matches!(refusal, PostgresError::Pooled { .. }), "{refusal:?}");
    }
    Ok(())
}

#[tokio::test]
async fn s10_a_session_pooler_works_and_its_locks_are_one_session_s_alone() -> Result<()> {
    let database = Database::create().await?;
    let mut admin = PgConnection::connect(database.url()).await?;
    sqlx::raw_sql(
        "CREATE TABLE public.courses (id uuid PRIMARY KEY); \
         INSERT INTO public.courses VALUES ('0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d')",
    )
    .execute(&mut admin)
    .await?;
    let pooler = PgBouncer::start(database.url(), Pooling::Session, 3).await?;
    let source = LivenessSource {
        name: "campus".to_owned(),
        postgres: postgres(&pooler.url()?),
        query: "SELECT id FROM public.courses".to_owned(),
        accepted: Default::default(),
        tombstones: None,
        organizations: None,
    };
    // A server process is used again, and again.
    for _ in 0..3 {
        let liveness = PostgresSources { id_type: IdType::Uuid, sources: vec![source.clone()] }.lock().await?;
        let locked = open(&pooler.url()?).await.expect_err("there is one lock");
        assert!(locked.is_locked(), "{locked:?}");
        let directly = open(database.url()).await.expect_err("there is one lock");
        assert!(directly.is_locked(), "{directly:?}");
        assert_eq!(liveness.read().await?[0].1.len(), 1);
        liveness.verify().await?;
        liveness.release().await;
    }
    Ok(())
}

#[tokio::test]
async fn s10_a_process_that_another_session_used_ends_the_lock_session() -> Result<()> {
    let database = Database::create().await?;
    let session = open(database.url()).await?;
    let mut question = session.ask().await?;
    // As a pooler would do that gave the process to another collector between two questions.
    sqlx::raw_sql("SELECT set_config('course_gc.session', 'another', false)").execute(question.connection()).await?;
    question.end().await?;
    let shared = session.verify().await.expect_err("it is no session of its own any more");
    assert!(matches!(shared, PostgresError::Pooled { .. }), "{shared:?}");
    assert!(matches!(session.verify().await, Err(PostgresError::Lost { .. })));
    Ok(())
}

#[tokio::test]
async fn s4_s10_a_pooler_before_the_ledger_or_a_liveness_source_stops_the_program() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &Settings::default()).await?;
    let pooler = PgBouncer::start(&world.addresses().postgres, Pooling::Transaction, 20).await?;
    for (variable, who) in
        [("COURSE_GC_LEDGER_URL", "the ledger"), ("COURSE_GC_LIVENESS_CAMPUS_URL", "liveness source campus")]
    {
        let mut command = installation.command(&["plan"]);
        command.env("COURSE_GC_LEDGER_URL", &world.addresses().postgres).env(variable, pooler.url()?);
        let output = command.output().await?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(who) && said.contains("connect to Postgres directly, or use session pooling"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn s10_the_program_works_through_a_session_pooler() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &Settings::default()).await?;
    let campus = Campus::plan(CampusSize { courses: 20, doomed: 2, ..CampusSize::default() });
    campus.seed(&installation.stores).await?;
    let pooler = PgBouncer::start(&world.addresses().postgres, Pooling::Session, 10).await?;
    for arguments in [&["migrate"][..], &["adopt", "--yes"], &["run"], &["run"], &["status"]] {
        let mut command = installation.command(arguments);
        let output = command.env("COURSE_GC_LIVENESS_CAMPUS_URL", pooler.url()?).output().await?;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8(output.stderr)?);
    }
    Ok(())
}
