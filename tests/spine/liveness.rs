//! What is live, and who may ask: on a real Postgres.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use course_gc::domain::ids::{CourseId, IdType};
use course_gc::domain::live_set::LiveSet;
use course_gc::errors::chain;
use course_gc::liveness::{Liveness, LivenessSource, LivenessSources, PostgresSources};
use course_gc::postgres::{AdvisoryLock, IDLE_TIMEOUT, Lock, LockSession, Postgres, PostgresError};
use sandbox::Database;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::support::eventually;

/// A live course of every test.
const LIVE: Uuid = Uuid::from_u128(0xA1B2_C3D4_0000_4000_8000_0000_0000_000A);
/// A course that no test ever creates.
const DEAD: Uuid = Uuid::from_u128(0xDEAD);

/// A database of its own, and how the product reaches it.
struct Bed {
    database: Database,
    admin: PgConnection,
}

impl Bed {
    /// A database with one live course, [`LIVE`], in `public.courses`.
    async fn new() -> Result<Self> {
        let database = Database::create().await?;
        let admin = PgConnection::connect(database.url()).await?;
        let mut bed = Self { database, admin };
        bed.execute(&format!(
            "CREATE TABLE public.courses (id uuid PRIMARY KEY); INSERT INTO public.courses VALUES ('{LIVE}')"
        ))
        .await?;
        Ok(bed)
    }

    async fn execute(&mut self, statements: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut self.admin).await?;
        Ok(())
    }

    async fn count(&mut self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM public.courses").fetch_one(&mut self.admin).await?)
    }

    fn postgres(&self) -> Postgres {
        postgres(self.database.url())
    }

    /// The same database for another role.
    fn as_role(&self, role: &str) -> Postgres {
        postgres(&self.database.url().replace("//postgres@", &format!("//{role}@")))
    }

    async fn liveness(&self, id_type: IdType, query: &str) -> Result<Box<dyn Liveness>, PostgresError> {
        liveness(self.postgres(), id_type, query).await
    }

    /// Everything that the query says is live.
    async fn read(&self, id_type: IdType, query: &str) -> Result<LiveSet, PostgresError> {
        let liveness = self.liveness(id_type, query).await?;
        let read = read(liveness.as_ref()).await;
        liveness.release().await;
        read
    }
}

fn postgres(url: &str) -> Postgres {
    Postgres {
        what: "liveness source campus".into(),
        url: url.to_owned().into(),
        call_timeout: Duration::from_secs(5),
        idle_timeout: IDLE_TIMEOUT,
        application: "course-gc/campus".into(),
    }
}

/// Waits for the lock of a session that ended out of order before.
async fn liveness(postgres: Postgres, id_type: IdType, query: &str) -> Result<Box<dyn Liveness>, PostgresError> {
    let source = LivenessSource {
        name: "campus".into(),
        postgres,
        query: query.into(),
        accepted: BTreeSet::default(),
        tombstones: None,
        organizations: None,
    };
    let sources = PostgresSources { id_type, sources: vec![source] };
    let locked = eventually("the lock is free", async || match sources.lock().await {
        Err(error) if error.is_locked() => Ok(None),
        ended => Ok(Some(ended)),
    });
    locked.await.expect("nobody holds it for long")
}

async fn read(liveness: &dyn Liveness) -> Result<LiveSet, PostgresError> {
    Ok(liveness.read().await?.remove(0).1)
}

fn set(id_type: IdType, ids: impl IntoIterator<Item = CourseId>) -> LiveSet {
    LiveSet::from_ids(id_type, ids)
}

fn uuids(ids: impl IntoIterator<Item = Uuid>) -> BTreeSet<CourseId> {
    ids.into_iter().map(CourseId::Uuid).collect()
}

/// Kills the session that holds this database's lock, as an administrator or a failover would.
const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted \
                         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[tokio::test]
async fn ids_are_compared_as_values_whatever_the_column_s_type() -> Result<()> {
    let bed = Bed::new().await?;
    let upper = LIVE.to_string().to_uppercase();
    for column in [
        format!("'{LIVE}'::uuid"),
        format!("'{LIVE}'::text"),
        format!("'{upper}'::text"),
        format!("'{{{upper}}}'::varchar"),
        format!("'{}'::varchar(32)", LIVE.simple()),
        format!("'{LIVE}'::char(36)"),
    ] {
        let query = format!("SELECT {column} -- the last word");
        let live = bed.liveness(IdType::Uuid, &query).await?;
        assert_eq!(read(live.as_ref()).await?, set(IdType::Uuid, [CourseId::Uuid(LIVE)]), "{column}");
        let among = live.live_among(&uuids([LIVE, DEAD])).await?;
        assert_eq!(among, set(IdType::Uuid, [CourseId::Uuid(LIVE)]), "{column}");
        live.release().await;
    }
    for (column, id) in [("-7::int2", -7), ("2147483647::int4", 2_147_483_647), ("9223372036854775807::int8", i64::MAX)]
    {
        let live = bed.liveness(IdType::Integer, &format!("SELECT {column}")).await?;
        assert_eq!(read(live.as_ref()).await?, set(IdType::Integer, [CourseId::Integer(id)]), "{column}");
        let asked = [id, 5].map(CourseId::Integer).into();
        assert_eq!(live.live_among(&asked).await?, set(IdType::Integer, [CourseId::Integer(id)]), "{column}");
        live.release().await;
    }
    let texts: IdType = "text:c-[a-z]+".parse()?;
    let [live_one, dead] = ["c-live", "c-dead"].map(|text| texts.parse(text.as_bytes()).expect("an id"));
    for column in ["'c-live'::text", "'c-live'::varchar", "'c-live'::varchar(9) COLLATE \"C\""] {
        let live = bed.liveness(texts, &format!("SELECT {column}")).await?;
        assert_eq!(read(live.as_ref()).await?, set(texts, [live_one]), "{column}");
        assert_eq!(live.live_among(&[live_one, dead].into()).await?, set(texts, [live_one]), "{column}");
        live.release().await;
    }
    Ok(())
}

#[tokio::test]
async fn s4_texts_that_are_no_ids_or_are_not_compared_by_their_bytes_are_refused() -> Result<()> {
    let mut bed = Bed::new().await?;
    let texts: IdType = "text:c-[a-z]+".parse()?;
    for column in ["'c-live'::char(9)", "'c-live'::name", "7", "'0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d'::uuid"] {
        let refused = bed.liveness(texts, &format!("SELECT {column}")).await.err().context(column)?.to_string();
        assert!(refused.contains("needs text or varchar"), "{column}: {refused}");
    }
    for text in ["C-live", "c-", "c-live ", "d-live", "c-live9"] {
        let live = bed.liveness(texts, &format!("SELECT 'c-good' UNION ALL SELECT '{text}'")).await?;
        let refused = format!("{:#}", anyhow::Error::new(read(live.as_ref()).await.err().context(text)?));
        assert!(refused.contains("no id by the pattern of `course_id`"), "{text}: {refused}");
        live.release().await;
    }
    let collation = "CREATE COLLATION public.blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
    bed.execute(collation).await?;
    let any: IdType = "text:[A-Za-z-]+".parse()?;
    let live = bed.liveness(any, "SELECT 'C-Live'::text COLLATE public.blind").await?;
    let asked = any.parse(b"c-live").into_iter().collect();
    let refused =
        format!("{:#}", anyhow::Error::new(live.live_among(&asked).await.err().context("it tells them apart")?));
    assert!(refused.contains("its collation is not deterministic"), "{refused}");
    live.release().await;
    Ok(())
}

#[tokio::test]
async fn nulls_are_no_ids_and_repetitions_count_once() -> Result<()> {
    let bed = Bed::new().await?;
    let query = format!("SELECT * FROM (VALUES (NULL::uuid), ('{LIVE}'), ('{LIVE}'), (NULL)) AS v(id)");
    assert_eq!(bed.read(IdType::Uuid, &query).await?, set(IdType::Uuid, [CourseId::Uuid(LIVE)]));
    assert!(bed.read(IdType::Uuid, "SELECT id FROM public.courses WHERE false").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn s4_a_query_that_is_none_is_refused_with_what_is_wrong() -> Result<()> {
    let mut bed = Bed::new().await?;
    bed.execute("CREATE DOMAIN public.course AS numeric").await?;
    for (id_type, query, wrong) in [
        (IdType::Uuid, "SELECT id, id FROM public.courses", "returns 2 columns; it should return one"),
        (IdType::Uuid, "SELECT FROM public.courses", "returns 0 columns; it should return one"),
        (IdType::Uuid, "SELECT 5", "of type INT4; `course_id: uuid` needs uuid"),
        (IdType::Integer, "SELECT 5::numeric", "of type NUMERIC; `course_id: integer` needs bigint"),
        (IdType::Integer, "SELECT 5::public.course", "`course_id: integer` needs bigint"),
        (IdType::Integer, "SELECT '5'::text", "of type TEXT; `course_id: integer` needs bigint"),
        (IdType::Uuid, "SELECT id FROM public.courses;", "syntax error"),
        (
            IdType::Uuid,
            "SELECT id FROM public.courses) AS live; DELETE FROM public.courses; SELECT (1",
            "multiple commands",
        ),
        (IdType::Uuid, "SELECT id FROM public.lessons", "relation \"public.lessons\" does not exist"),
        (IdType::Uuid, "SELECT id FROM courses", "relation \"courses\" does not exist"),
        (IdType::Uuid, "WITH gone AS (DELETE FROM public.courses RETURNING id) SELECT id FROM gone", "data-modifying"),
    ] {
        let error = bed.read(id_type, query).await.expect_err(query);
        assert!(chain(&error).contains(wrong), "{query}: {}", chain(&error));
    }
    assert_eq!(bed.count().await?, 1);
    Ok(())
}

#[tokio::test]
async fn s4_a_query_that_fails_while_it_is_read_gives_no_answer() -> Result<()> {
    for (id_type, query, wrong) in [
        (IdType::Uuid, "SELECT public.wipe()", "read-only transaction"),
        (IdType::Integer, "SELECT nextval('public.numbers')", "read-only transaction"),
        (IdType::Integer, "SELECT 1 / (count(*) - 1) FROM public.courses", "division by zero"),
        (IdType::Uuid, "SELECT id FROM public.texts", "invalid input syntax for type uuid"),
    ] {
        let mut bed = Bed::new().await?;
        bed.execute(
            "CREATE FUNCTION public.wipe() RETURNS uuid LANGUAGE sql AS 'DELETE FROM public.courses RETURNING id'; \
             CREATE SEQUENCE public.numbers; CREATE TABLE public.texts (id text); INSERT INTO public.texts VALUES ('none')",
        )
        .await?;
        let live = bed.liveness(id_type, query).await?;
        let error = live.read().await.expect_err(query);
        assert!(chain(&error).contains(wrong), "{query}: {}", chain(&error));
        // What follows an answer that did not come is never an empty one.
        let after = live.live_among(&BTreeSet::new()).await.expect_err(query);
        assert!(matches!(after, PostgresError::Lost { .. }), "{after}");
        assert_eq!(bed.count().await?, 1);
    }
    Ok(())
}

#[tokio::test]
async fn s4_row_level_security_is_an_error_and_never_a_filter() -> Result<()> {
    let mut bed = Bed::new().await?;
    let role = format!("reader_{}", Uuid::new_v4().simple());
    bed.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT ON public.courses TO {role}; \
         ALTER TABLE public.courses ENABLE ROW LEVEL SECURITY; CREATE POLICY nothing ON public.courses USING (false); \
         CREATE VIEW public.course_ids AS SELECT id FROM public.courses; GRANT SELECT ON public.course_ids TO {role}"
    ))
    .await?;
    let refused = async {
        let live = liveness(bed.as_role(&role), IdType::Uuid, "SELECT id FROM public.courses").await?;
        live.read().await
    };
    let error = chain(&refused.await.expect_err("the rows are hidden from this role"));
    assert!(error.contains("row-level security"), "{error}");
    // A view of a role that may see all rows is the documented way.
    let live = liveness(bed.as_role(&role), IdType::Uuid, "SELECT id FROM public.course_ids").await?;
    assert_eq!(read(live.as_ref()).await?, set(IdType::Uuid, [CourseId::Uuid(LIVE)]));
    live.release().await;
    bed.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await
}

#[tokio::test]
async fn s4_a_table_that_shadows_another_is_not_read() -> Result<()> {
    let mut bed = Bed::new().await?;
    let role = format!("reader_{}", Uuid::new_v4().simple());
    bed.execute(&format!(
        "CREATE SCHEMA evil; CREATE TABLE evil.courses (id uuid); INSERT INTO evil.courses VALUES ('{DEAD}'); \
         CREATE TABLE evil.pg_class (oid oid); \
         CREATE ROLE {role} LOGIN; ALTER ROLE {role} SET search_path = evil, pg_catalog; \
         GRANT USAGE ON SCHEMA evil TO {role}; GRANT SELECT ON evil.courses, evil.pg_class, public.courses TO {role}"
    ))
    .await?;
    let error = liveness(bed.as_role(&role), IdType::Uuid, "SELECT id FROM courses").await.expect_err("which courses?");
    assert!(chain(&error).contains("relation \"courses\" does not exist"), "{}", chain(&error));
    let qualified = liveness(bed.as_role(&role), IdType::Uuid, "SELECT id FROM public.courses").await?;
    assert_eq!(read(qualified.as_ref()).await?, set(IdType::Uuid, [CourseId::Uuid(LIVE)]));
    qualified.release().await;
    let catalog = "SELECT count(*) FROM pg_class";
    let catalog = liveness(bed.as_role(&role), IdType::Integer, catalog).await?;
    assert!(!read(catalog.as_ref()).await?.contains(CourseId::Integer(0)), "the real catalog is never empty");
    catalog.release().await;
    bed.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await
}

#[tokio::test]
async fn s2_what_was_created_after_the_read_is_live() -> Result<()> {
    let mut bed = Bed::new().await?;
    let late = Uuid::from_u128(77);
    let live = bed.liveness(IdType::Uuid, "SELECT id FROM public.courses").await?;
    assert!(!read(live.as_ref()).await?.contains(CourseId::Uuid(late)));
    assert!(live.live_among(&uuids([late])).await?.is_empty());
    bed.execute(&format!("INSERT INTO public.courses VALUES ('{late}')")).await?;
    assert_eq!(live.live_among(&uuids([late, DEAD])).await?, set(IdType::Uuid, [CourseId::Uuid(late)]));
    bed.execute("DELETE FROM public.courses").await?;
    assert!(live.live_among(&uuids([late, LIVE])).await?.is_empty());
    live.release().await;
    Ok(())
}

#[tokio::test]
async fn s4_one_source_that_fails_is_no_answer_from_any() -> Result<()> {
    let (one, other) = (Bed::new().await?, Bed::new().await?);
    let source = |name: &str, bed: &Bed, query: &str| LivenessSource {
        accepted: BTreeSet::default(),
        name: name.into(),
        postgres: bed.postgres(),
        query: query.into(),
        tombstones: None,
        organizations: None,
    };
    let also = Uuid::from_u128(9);
    let good = source("one", &one, "SELECT id FROM public.courses");
    let sources = [good.clone(), source("other", &other, &format!("SELECT '{also}'::uuid"))];
    let both = PostgresSources { id_type: IdType::Uuid, sources: sources.to_vec() }.lock().await?;
    let expected = set(IdType::Uuid, [LIVE, also].map(CourseId::Uuid));
    assert_eq!(both.live_among(&uuids([LIVE, also, DEAD])).await?, expected);
    both.release().await;
    let sources = [good, source("other", &other, "SELECT id::text::uuid FROM public.courses WHERE 1 / 0 = 1")];
    let half = PostgresSources { id_type: IdType::Uuid, sources: sources.to_vec() }.lock().await?;
    assert!(chain(&half.read().await.expect_err("half an answer")).contains("division by zero"));
    Ok(())
}

#[tokio::test]
async fn s4_a_standby_is_refused() -> Result<()> {
    let primary = sandbox::Postgres::start().await?;
    let standby = primary.standby().await?;
    let query = "SELECT 5";
    liveness(postgres(&primary.url()), IdType::Integer, query).await?.release().await;
    let error = liveness(postgres(&standby.url()), IdType::Integer, query).await.expect_err("it may be behind");
    assert!(matches!(error, PostgresError::Standby { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{}/postgres is a standby", standby.port())), "{error}");
    Ok(())
}

#[tokio::test]
async fn s10_the_lock_has_one_holder_who_is_named() -> Result<()> {
    let bed = Bed::new().await?;
    let first = LockSession::open(&bed.postgres(), AdvisoryLock::Liveness).await?;
    let error = LockSession::open(&bed.postgres(), AdvisoryLock::Liveness).await.expect_err("it is taken");
    assert!(error.is_locked(), "{error:?}");
    assert!(error.to_string().contains("application \"course-gc/campus\""), "{error}");
    // The ledger's lock is another one, and so is the lock of another database.
    Box::new(LockSession::open(&bed.postgres(), AdvisoryLock::Ledger).await?).release().await;
    let elsewhere = Bed::new().await?;
    Box::new(LockSession::open(&elsewhere.postgres(), AdvisoryLock::Liveness).await?).release().await;
    first.verify().await?;
    Box::new(first).release().await;
    Box::new(LockSession::open(&bed.postgres(), AdvisoryLock::Liveness).await?).release().await;
    Ok(())
}

#[tokio::test]
async fn s10_a_lock_that_is_lost_stays_lost() -> Result<()> {
    let mut bed = Bed::new().await?;
    let live = bed.liveness(IdType::Uuid, "SELECT id FROM public.courses").await?;
    live.verify().await?;
    bed.execute(TERMINATE).await?;
    assert!(live.live_among(&uuids([LIVE])).await.is_err(), "nobody may answer without the lock");
    for _ in 0..2 {
        let error = live.verify().await.expect_err("it is gone");
        assert!(matches!(error, PostgresError::Lost { .. }), "{error:?}");
        let error = live.live_among(&uuids([LIVE])).await.expect_err("it is gone");
        assert!(matches!(error, PostgresError::Lost { .. }), "{error:?}");
    }
    // The session does not come back, although the lock is free.
    Box::new(LockSession::open(&bed.postgres(), AdvisoryLock::Liveness).await?).release().await;
    assert!(live.verify().await.is_err());
    Ok(())
}

#[tokio::test]
async fn s10_a_lock_that_somebody_released_is_noticed() -> Result<()> {
    let bed = Bed::new().await?;
    // The query takes the lock from under its session, as a connection pooler would that resets sessions.
    let live = bed.liveness(IdType::Integer, "SELECT count(*) FROM (SELECT pg_advisory_unlock_all()) AS t").await?;
    let error = live.read().await.expect_err("the lock is gone");
    assert!(matches!(error, PostgresError::Lost { .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn s10_a_session_that_gives_no_sign_loses_its_lock() -> Result<()> {
    let bed = Bed::new().await?;
    // Less than a heartbeat: for the server, this session is frozen.
    let impatient = Postgres { idle_timeout: Duration::from_millis(200), ..bed.postgres() };
    let frozen = LockSession::open(&impatient, AdvisoryLock::Liveness).await?;
    let next = eventually("the lock is free", async || {
        match LockSession::open(&bed.postgres(), AdvisoryLock::Liveness).await {
            Ok(session) => Ok(Some(session)),
            Err(error) if error.is_locked() => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await?;
    assert!(frozen.verify().await.is_err());
    assert!(matches!(frozen.verify().await, Err(PostgresError::Lost { .. })));
    next.verify().await?;
    Box::new(next).release().await;
    Ok(())
}
