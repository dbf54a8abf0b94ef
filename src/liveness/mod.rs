//! Which courses are live: the one truth that everything else is compared with.
//!
//! - The live set is read once a run, over the lock sessions, and may be old when it is used: it only tells what can be
//!   passed by.
//! - [`Liveness::live_among`] asks about given ids in a new transaction, comparing typed values (S2). Only its answer, and
//!   only for seconds, lets anything be deleted.
//! - An error, a timeout, a standby, a lost lock: no answer, and nothing that depends on it happens (S4).
//!
//! Rejected: keeping the live set from the start of the run for the deletes too (a course created during the run would
//! look dead), and a snapshot held open for the run (it cannot see what was committed since).

mod doctor;
mod identity;
mod organizations;
mod relations;

use std::collections::{BTreeMap, BTreeSet};
use std::thread::available_parallelism;
use std::{fmt, io};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Column, Connection, Executor, Row, SqlSafeStr, Statement, TypeInfo};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;
use uuid::Uuid;

use crate::domain::ids::{CourseId, IdType};
use crate::domain::live_set::{Buckets, LiveSet};
use crate::domain::pins::{Position, SourcePin};
use crate::domain::tombstones::{Rows, Tombstone};
use crate::postgres::{AdvisoryLock, BEGIN_QUESTION, Lock, LockSession, Postgres, PostgresError, server};
use crate::tombstones::Tombstones;

pub use doctor::Seen;
pub use relations::{Finding, Risk};

/// Where to ask for live courses: a database and a query that returns one column of ids.
#[derive(Debug, Clone)]
pub struct LivenessSource {
    /// Its name in the configuration.
    pub name: String,
    /// The database.
    pub postgres: Postgres,
    /// The query, without a semicolon.
    pub query: String,
    /// What a person accepted that may hide rows.
    pub accepted: BTreeSet<Risk>,
    /// Where deaths are recorded, if they are.
    pub tombstones: Option<Tombstones>,
    /// A query that returns a course's id and its organization, if anybody asks.
    pub organizations: Option<String>,
}

/// By source: the tombstones that are there, or why they cannot be read.
pub type Polls = Vec<(String, Result<Vec<Tombstone>, PostgresError>)>;

/// All liveness sources of an installation.
#[async_trait]
pub trait LivenessSources: Send + Sync {
    /// Connects to every source, takes its lock, and looks at its query.
    ///
    /// # Errors
    /// If one cannot be reached, is no primary, is locked by somebody else, or if its query does not return one column of
    /// ids, or reads what may hide rows (S4).
    async fn lock(&self) -> Result<Box<dyn Liveness>, PostgresError>;

    /// Which of `ids` are live, by any source, without a lock: a hint, which lets nothing be deleted.
    ///
    /// # Errors
    /// If one source fails, nobody knows.
    async fn glance(&self, ids: &BTreeSet<CourseId>) -> Result<LiveSet, PostgresError>;

    /// True if a source tells whose courses are.
    fn tells_organizations(&self) -> bool {
        false
    }

    /// Whose these courses are, as far as the sources tell, without a lock.
    ///
    /// # Errors
    /// If a source fails.
    async fn organizations(&self, _ids: &BTreeSet<CourseId>) -> Result<BTreeMap<CourseId, String>, PostgresError> {
        Ok(BTreeMap::new())
    }

    /// The newest tombstone of each source that keeps any and has one, without a lock.
    ///
    /// # Errors
    /// If a source fails.
    async fn newest_tombstones(&self) -> Result<BTreeMap<String, i64>, PostgresError> {
        Ok(BTreeMap::new())
    }
}

/// All liveness sources, each with its lock: who can be asked what is live.
#[async_trait]
pub trait Liveness: fmt::Debug + Send + Sync {
    /// What each source was, and where in its history, when its lock was taken: by name.
    fn pins(&self) -> Vec<(String, SourcePin, Position)>;

    /// The running server of a source, if it tells.
    fn server(&self, name: &str) -> Option<&str>;

    /// Reads every live id of every source, and then where in its history the source is: whoever was read was committed before that
    /// (S7).
    ///
    /// # Errors
    /// If one source fails, none counts.
    async fn read(&self) -> Result<Vec<(String, LiveSet, Position)>, PostgresError>;

    /// Which of `ids` are live, by any source, as of now.
    ///
    /// # Errors
    /// If one source fails, nobody knows.
    async fn live_among(&self, ids: &BTreeSet<CourseId>) -> Result<LiveSet, PostgresError>;

    /// The tombstones of each source that keeps any, or why they cannot be read: then there is no such evidence (S6).
    async fn tombstones(&self) -> Polls {
        Polls::new()
    }

    /// Removes tombstones that are void, or forgotten.
    ///
    /// # Errors
    /// If a source fails; then some may be there still.
    async fn remove_tombstones(&self, _rows: &Rows) -> Result<(), PostgresError> {
        Ok(())
    }

    /// What the reference query returns, from every source (S9).
    fn references(&self, query: &str) -> BoxStream<'_, Result<Vec<u8>, PostgresError>>;

    /// Makes sure that every lock is still held.
    ///
    /// # Errors
    /// If one is not.
    async fn verify(&self) -> Result<(), PostgresError>;

    /// Gives the locks back.
    async fn release(self: Box<Self>);
}

/// Liveness sources in Postgres.
#[derive(Debug, Clone)]
pub struct PostgresSources {
    /// The type of the owner's ids.
    pub id_type: IdType,
    /// The sources.
    pub sources: Vec<LivenessSource>,
}

#[derive(Debug)]
struct PostgresLiveness {
    id_type: IdType,
    sources: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    name: String,
    pin: SourcePin,
    position: Position,
    /// The running server, if it tells.
    server: Option<String>,
    session: LockSession,
    tombstones: Option<Tombstones>,
    /// Reads every live id.
    read: String,
    /// Reads the live ones of `$1`.
    among: String,
}

#[async_trait]
impl LivenessSources for PostgresSources {
    async fn lock(&self) -> Result<Box<dyn Liveness>, PostgresError> {
        let mut locked = PostgresLiveness { id_type: self.id_type, sources: Vec::with_capacity(self.sources.len()) };
        // In the order of their addresses, whatever they are called: two installations that share them and start at the same
        // moment would otherwise each find a lock of the other's, and neither work.
        let mut in_order: Vec<&LivenessSource> = self.sources.iter().collect();
        in_order.sort_by_cached_key(|source| source.postgres.address());
        for source in in_order {
            match Asked::lock(self.id_type, source).await {
                Ok(asked) => locked.sources.push(asked),
                Err(error) => {
                    Box::new(locked).release().await;
                    return Err(error);
                }
            }
        }
        let position = |asked: &Asked| self.sources.iter().position(|source| source.name == asked.name);
        locked.sources.sort_by_key(position);
        Ok(Box::new(locked))
    }

    async fn glance(&self, ids: &BTreeSet<CourseId>) -> Result<LiveSet, PostgresError> {
        let mut live = LiveSet::empty(self.id_type);
        for source in &self.sources {
            live = live.union(glance(self.id_type, source, ids).await?);
        }
        Ok(live)
    }

    fn tells_organizations(&self) -> bool {
        self.sources.iter().any(|source| source.organizations.is_some())
    }

    async fn organizations(&self, ids: &BTreeSet<CourseId>) -> Result<BTreeMap<CourseId, String>, PostgresError> {
        let mut told = BTreeMap::new();
        for source in &self.sources {
            told.extend(organizations::ask(self.id_type, source, ids).await?);
        }
        Ok(told)
    }

    async fn newest_tombstones(&self) -> Result<BTreeMap<String, i64>, PostgresError> {
        let mut newest = BTreeMap::new();
        for source in &self.sources {
            if let Some(tombstones) = &source.tombstones
                && let Some(row) = tombstones.newest().await?
            {
                newest.insert(source.name.clone(), row);
            }
        }
        Ok(newest)
    }
}

/// Asks one source on a connection of its own.
async fn glance(id_type: IdType, source: &LivenessSource, ids: &BTreeSet<CourseId>) -> Result<LiveSet, PostgresError> {
    let LivenessSource { postgres, query, .. } = source;
    let mut connection = postgres.connect().await?;
    postgres.call("beginning a transaction", sqlx::raw_sql(BEGIN_QUESTION).execute(&mut connection)).await?;
    let id = column(postgres, id_type, query, &mut connection).await?;
    let live = live_among(postgres, &mut connection, id_type, (&among(id_type, query, &id), ids)).await?;
    // The session ends in any case.
    let _ = connection.close().await;
    Ok(live)
}

#[async_trait]
impl Liveness for PostgresLiveness {
    fn pins(&self) -> Vec<(String, SourcePin, Position)> {
        self.sources.iter().map(|source| (source.name.clone(), source.pin.clone(), source.position)).collect()
    }

    fn server(&self, name: &str) -> Option<&str> {
        self.sources.iter().find(|source| source.name == name)?.server.as_deref()
    }

    async fn read(&self) -> Result<Vec<(String, LiveSet, Position)>, PostgresError> {
        let mut sets = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            let (live, position) = source.read(self.id_type).await?;
            sets.push((source.name.clone(), live, position));
        }
        Ok(sets)
    }

    async fn live_among(&self, ids: &BTreeSet<CourseId>) -> Result<LiveSet, PostgresError> {
        let mut live = LiveSet::empty(self.id_type);
        for source in &self.sources {
            live = live.union(source.among(self.id_type, ids).await?);
        }
        Ok(live)
    }

    async fn tombstones(&self) -> Polls {
        let mut polls = Polls::new();
        for source in &self.sources {
            if let Some(tombstones) = &source.tombstones {
                polls.push((source.name.clone(), tombstones.poll(self.id_type).await));
            }
        }
        polls
    }

    async fn remove_tombstones(&self, rows: &Rows) -> Result<(), PostgresError> {
        for (name, rows) in rows {
            let source = self.sources.iter().find(|source| source.name == *name);
            if let Some(tombstones) = source.and_then(|source| source.tombstones.as_ref()) {
                tombstones.remove_rows(rows).await?;
            }
        }
        Ok(())
    }

    async fn verify(&self) -> Result<(), PostgresError> {
        for source in &self.sources {
            source.session.verify().await?;
        }
        Ok(())
    }

    fn references(&self, query: &str) -> BoxStream<'_, Result<Vec<u8>, PostgresError>> {
        // On a connection of its own: a query that fails holds its store, and must not cost the lock.
        let asked = format!("SELECT reference::text FROM ({query}\n) AS live(reference) WHERE reference IS NOT NULL");
        let each = self.sources.iter().map(move |source| {
            let asked = asked.clone();
            let postgres = source.session.postgres();
            futures::stream::once(postgres.connect())
                .map_ok(move |connection| rows(postgres, connection, asked.clone()))
                .try_flatten()
        });
        futures::stream::iter(each).flatten().boxed()
    }

    async fn release(self: Box<Self>) {
        for source in self.sources {
            Box::new(source.session).release().await;
        }
    }
}

/// The rows of a reference query, in a read-only transaction on a primary, each within the time of one call.
fn rows(
    postgres: &Postgres,
    mut connection: PgConnection,
    query: String,
) -> BoxStream<'_, Result<Vec<u8>, PostgresError>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(256);
    let ask = async move {
        let begin = sqlx::raw_sql(BEGIN_QUESTION).execute(&mut connection);
        postgres.call("beginning a transaction", begin).await?;
        let standby = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut connection);
        if postgres.call("asking for the server's role", standby).await? {
            return Err(PostgresError::Standby { what: postgres.what.clone(), address: postgres.address() });
        }
        let mut rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(query)).fetch(&mut connection);
        while let Some(row) = postgres.call("reading references", rows.try_next()).await? {
            if sender.send(Ok(row.into_bytes())).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    // The query runs while its rows are read; its error, if it has one, comes last.
    let end = futures::stream::once(ask).filter_map(|end: Result<(), PostgresError>| async move { end.err().map(Err) });
    let received =
        futures::stream::unfold(
            receiver,
            |mut receiver| async move { receiver.recv().await.map(|row| (row, receiver)) },
        );
    futures::stream::select(received, end).boxed()
}

impl Asked {
    /// Takes the source's lock. Gives it back if the source is refused: whoever corrects it should not find it locked.
    async fn lock(id_type: IdType, source: &LivenessSource) -> Result<Self, PostgresError> {
        let session = LockSession::open(&source.postgres, AdvisoryLock::Liveness).await?;
        match look(id_type, source, &session).await {
            Ok(Looked { id, pin, position, server }) => {
                let (query, among, selected) = (&source.query, among(id_type, &source.query, &id), id.selected);
                Ok(Self {
                    name: source.name.clone(),
                    pin,
                    position,
                    server,
                    session,
                    tombstones: source.tombstones.clone(),
                    read: format!(
                        "COPY (SELECT {selected} FROM ({query}\n) AS live(id) WHERE live.id IS NOT NULL) TO STDOUT (FORMAT binary)"
                    ),
                    among,
                })
            }
            Err(error) => {
                Box::new(session).release().await;
                Err(error)
            }
        }
    }

    async fn read(&self, id_type: IdType) -> Result<(LiveSet, Position), PostgresError> {
        let postgres = self.session.postgres();
        let mut question = self.session.ask().await?;
        let mut live = Buckets::new(id_type);
        let copy = (question.connection(), self.read.as_str());
        postgres.copy_ids("reading the live ids", copy, id_type, |id| live.push(id)).await?;
        let position = identity::locate(postgres, question.connection(), &self.position).await?;
        question.end().await?;
        let threads = available_parallelism().map_or(0, |all| all.get() - 1);
        let live = spawn_blocking(move || live.finish(threads)).await;
        let broke_off =
            |error: JoinError| postgres.failed("putting the live ids in order", io::Error::from(error).into());
        Ok((live.map_err(broke_off)?, position))
    }

    async fn among(&self, id_type: IdType, ids: &BTreeSet<CourseId>) -> Result<LiveSet, PostgresError> {
        let postgres = self.session.postgres();
        let mut question = self.session.ask().await?;
        let live = live_among(postgres, question.connection(), id_type, (&self.among, ids)).await?;
        question.end().await?;
        Ok(live)
    }
}

/// The query that gives the live ones of `$1`.
fn among(id_type: IdType, query: &str, IdColumn { selected, compared }: &IdColumn) -> String {
    let array = match id_type {
        IdType::Uuid => "uuid",
        IdType::Integer => "int8",
        IdType::Text(_) => "text",
    };
    format!("SELECT DISTINCT {selected} FROM ({query}\n) AS live(id) WHERE {compared} = ANY($1::{array}[])")
}

/// Asks which of `ids` are live, in the transaction that the connection is in.
async fn live_among(
    postgres: &Postgres,
    connection: &mut PgConnection,
    id_type: IdType,
    (among, ids): (&str, &BTreeSet<CourseId>),
) -> Result<LiveSet, PostgresError> {
    let query = sqlx::query(AssertSqlSafe(among.to_owned()));
    let query = match id_type {
        IdType::Uuid => query.bind(
            ids.iter()
                .filter_map(|id| if let CourseId::Uuid(id) = id { Some(*id) } else { None })
                .collect::<Vec<Uuid>>(),
        ),
        IdType::Integer => query.bind(
            ids.iter()
                .filter_map(|id| if let CourseId::Integer(id) = id { Some(*id) } else { None })
                .collect::<Vec<i64>>(),
        ),
        IdType::Text(_) => query.bind(ids.iter().map(CourseId::to_string).collect::<Vec<String>>()),
    };
    let rows = postgres.call("asking which courses are live", query.fetch_all(connection)).await?;
    let read = |row: &sqlx::postgres::PgRow| match id_type {
        IdType::Uuid => row.try_get(0).map(CourseId::Uuid).map(Some),
        IdType::Integer => row.try_get(0).map(CourseId::Integer).map(Some),
        IdType::Text(_) => row.try_get::<String, _>(0).map(|text| id_type.parse(text.as_bytes())),
    };
    let mut live = LiveSet::empty(id_type);
    for row in &rows {
        let id = read(row).map_err(|error| postgres.failed("asking which courses are live", error))?;
        // A collation may hold two spellings for one; then nobody can tell whose what they name is.
        let asked = id.filter(|id| ids.contains(id)).ok_or_else(|| {
            postgres.nonsense(
                "the database takes a course id that is spelled otherwise for one that was asked about: its collation is not \
                 deterministic; give the liveness query's id another one, as in `id COLLATE \"C\"`",
            )
        })?;
        live.push(asked);
    }
    live.normalise();
    Ok(live)
}

/// What a source is, seen before it is asked.
struct Looked {
    id: IdColumn,
    pin: SourcePin,
    position: Position,
    server: Option<String>,
}

async fn look(id_type: IdType, source: &LivenessSource, session: &LockSession) -> Result<Looked, PostgresError> {
    let mut question = session.ask().await?;
    let id = column(&source.postgres, id_type, &source.query, question.connection()).await?;
    question.end().await?;
    let (pin, position, server) = place(id_type, source).await?;
    Ok(Looked { id, pin, position, server })
}

/// What a source is and where in its history, and the running server, if it tells: on a connection of its own.
///
/// # Errors
/// If the server does not answer, or the query reads what may hide rows and nobody accepted that (S4).
async fn place(
    id_type: IdType,
    source: &LivenessSource,
) -> Result<(SourcePin, Position, Option<String>), PostgresError> {
    let LivenessSource { postgres, query, accepted, .. } = source;
    let mut connection = postgres.connect().await?;
    let behind = relations::look(postgres, &mut connection, query).await?;
    if let Some(finding) = relations::refused(&behind.findings, accepted) {
        return Err(postgres.nonsense(format!(
            "{finding}; read the application's own tables instead, or accept it: `i_accept: [{}]` at this liveness source",
            finding.risk.as_str()
        )));
    }
    let (pin, position) = identity::identify(postgres, &mut connection, id_type, query, behind).await?;
    let server = server(postgres, &mut connection).await?;
    // The session ends in any case.
    let _ = connection.close().await;
    Ok((pin, position, server))
}

/// How the id column is selected and compared, as typed values.
struct IdColumn {
    selected: &'static str,
    compared: &'static str,
}

/// Looks at what the query returns, without running it.
async fn column(
    postgres: &Postgres,
    id_type: IdType,
    query: &str,
    connection: &mut PgConnection,
) -> Result<IdColumn, PostgresError> {
    let whole = format!("SELECT * FROM ({query}\n) AS live");
    let prepared = timeout(postgres.call_timeout, connection.prepare(AssertSqlSafe(whole).into_sql_str()))
        .await
        .map_err(|_| postgres.nonsense("the liveness query could not be prepared in time"))?
        .map_err(|source| postgres.failed("preparing the liveness query", source))?;
    let [only] = prepared.columns() else {
        return Err(postgres.nonsense(format!(
            "the liveness query returns {} columns; it should return one, the course id",
            prepared.columns().len()
        )));
    };
    let found = only.type_info().name();
    match (id_type, found) {
        (IdType::Uuid, "UUID") => Ok(IdColumn { selected: "live.id", compared: "live.id" }),
        (IdType::Uuid, "TEXT" | "VARCHAR" | "CHAR" | "\"CHAR\"" | "BPCHAR") => {
            Ok(IdColumn { selected: "live.id::uuid", compared: "live.id::uuid" })
        }
        // Blanks at the end of a `char(n)` are no part of it, and `citext` compares otherwise: neither is its own bytes.
        (IdType::Text(_), "TEXT" | "VARCHAR") => Ok(IdColumn { selected: "live.id::text", compared: "live.id" }),
        (IdType::Integer, "INT8" | "INT4" | "INT2") => Ok(IdColumn { selected: "live.id::int8", compared: "live.id" }),
        (IdType::Uuid, other) => Err(postgres.nonsense(format!(
            "the liveness query returns column {:?} of type {other}; `course_id: uuid` needs uuid, or text that holds UUIDs",
            only.name()
        ))),
        (IdType::Integer, other) => Err(postgres.nonsense(format!(
            "the liveness query returns column {:?} of type {other}; `course_id: integer` needs bigint, integer or smallint",
            only.name()
        ))),
        (IdType::Text(_), other) => Err(postgres.nonsense(format!(
            "the liveness query returns column {:?} of type {other}; `course_id: text:…` needs text or varchar",
            only.name()
        ))),
    }
}
