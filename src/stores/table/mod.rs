//! Rows in tables of a Postgres database that name a course without a foreign key.
//!
//! Invariants:
//! - A row belongs to the courses that one column of it names, each in its canonical form: the column is a uuid, an integer or a text,
//!   or an array of them. What names anything else besides is unrecognised, and never deleted (S5).
//! - A row that names several courses goes only if all of them are dead: whoever is named besides the owner is a mention.
//! - Everything is read in one snapshot on a primary, with `row_security = off` and `search_path = pg_catalog`: a right that is
//!   missing, a policy that would hide rows, a table that is none make an error, not fewer rows (S4).
//! - What was copied is deleted by where it lies (`tableoid`, `ctid`) and by the digest of its text: a row that was written to since
//!   has another text, and stays (S12). Each course is a transaction of its own; whether the confirmation is fresh is asked right
//!   before it is committed, and the server itself gives it up when the time is over (S2).
//! - A delete that a trigger keeps from happening is undone and told.
//! - The application's tables are never altered: the marker lies in `course_gc.store_markers` (`marker`).
//!
//! Rejected: `DELETE … RETURNING` into the archive (a row would be gone, if not for good, while its copy is written, and its transaction
//! would be open for as long); `SELECT … FOR UPDATE`, which needs the right to UPDATE; ids in `jsonb`, which name a course by a path and
//! not by a column: a generated column does.

mod copy;
mod delete;
mod doctor;
mod marker;
mod put_back;
mod record;
mod relation;
mod rows;
mod session;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use tokio::sync::mpsc;

use self::relation::{Relation, quoted};
use self::session::{Access, Session};
use super::copies::{Copied, Copies, CopyId, Item, PutBack, Restoring};
use super::{Handle, Marker, Removed, Store, StoreError, Targets};
use crate::domain::findings::Finding;
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Census, SourceIndex};
use crate::pace::Pace;
use crate::postgres::{Postgres, PostgresError, system};
use crate::sweep::Condemned;

/// How many calls' time one answer may take for which the server reads a whole table.
const PATIENCE: u32 = 30;

/// One source: a table, and the column that names the course.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSource {
    /// The table's schema.
    pub schema: String,
    /// The table's name.
    pub table: String,
    /// The column.
    pub column: String,
    /// An expression that is true of the rows that are this store's concern; all of them without.
    pub filter: Option<String>,
}

impl TableSource {
    /// As it is configured and reported.
    fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    /// As SQL.
    fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }
}

/// What a [`TableStore`] needs to know.
#[derive(Debug, Clone)]
pub struct TableSettings {
    /// The store's name in the configuration.
    pub name: String,
    /// The database, as a role that may SELECT, DELETE and INSERT.
    pub postgres: Postgres,
    /// The sources.
    pub tables: Vec<TableSource>,
    /// The type of course ids.
    pub id_type: IdType,
    /// The most courses in one batch.
    pub batch_limit: usize,
}

/// Tables of a database as a [`Store`].
#[derive(Debug)]
pub struct TableStore {
    name: String,
    postgres: Postgres,
    tables: Vec<TableSource>,
    sources: Vec<String>,
    id_type: IdType,
    batch_limit: usize,
    pace: Pace,
}

impl TableStore {
    /// A store that connects when it is used.
    ///
    /// # Errors
    /// If the URL cannot be read.
    pub fn new(settings: TableSettings) -> Result<Self, StoreError> {
        let TableSettings { name, postgres, tables, id_type, batch_limit } = settings;
        postgres.options().map_err(|error| StoreError::server(format!("table store `{name}`"), error))?;
        let sources = tables.iter().map(TableSource::name).collect();
        Ok(Self { name, postgres, tables, sources, id_type, batch_limit: batch_limit.max(1), pace: Pace::default() })
    }

    /// The same store, called at this pace.
    #[must_use]
    pub fn paced(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// A server error, with what was being done.
    fn failed(&self, doing: &str) -> impl Fn(PostgresError) -> StoreError {
        let action = format!("table store `{}`: {doing}", self.name);
        move |error| StoreError::server(action.clone(), error)
    }

    fn unusable(&self, table: &str, why: &str) -> StoreError {
        let address = self.postgres.address();
        StoreError::Unusable(format!("table store `{}` at {address}: table `{table}`: {why}", self.name))
    }

    /// The same server, with as much time as reading a whole table may take.
    fn patient(&self) -> Postgres {
        Postgres { call_timeout: self.postgres.call_timeout.saturating_mul(PATIENCE), ..self.postgres.clone() }
    }

    /// A session in a transaction that reads, and the tables as they are.
    async fn read<'a>(&self, postgres: &'a Postgres, doing: &str) -> Result<(Session<'a>, Vec<Relation>), StoreError> {
        let mut session = Session::open(postgres, self.pace.measured_turn().await).await.map_err(self.failed(doing))?;
        session.begin(Access::Read, postgres.call_timeout).await.map_err(self.failed(doing))?;
        session.turn.alike("begin");
        let relations = self.look(&mut session, doing).await?;
        Ok((session, relations))
    }

    /// The tables as they are, in the order of the sources.
    async fn look(&self, session: &mut Session<'_>, doing: &str) -> Result<Vec<Relation>, StoreError> {
        let mut relations = Vec::with_capacity(self.tables.len());
        for source in &self.tables {
            let looked = relation::look(session, source, self.id_type).await.map_err(self.failed(doing))?;
            relations.push(looked.map_err(|why| self.unusable(&source.name(), &why))?);
        }
        Ok(relations)
    }
}

/// All that a handle's rows name: its course, and whoever is mentioned.
fn named(handle: &Handle) -> Vec<CourseId> {
    let mut named = handle.mentions.clone();
    named.push(handle.owner);
    named.sort_unstable();
    named.dedup();
    named
}

#[async_trait]
impl Store for TableStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "table"
    }

    fn sources(&self) -> &[String] {
        &self.sources
    }

    fn batch_limit(&self) -> usize {
        self.batch_limit
    }

    fn pace(&self) -> Option<&Pace> {
        Some(&self.pace)
    }

    async fn identity(&self) -> Result<String, StoreError> {
        const DOING: &str = "identify the database";
        let (mut session, relations) = self.read(&self.postgres, DOING).await?;
        // A server that withholds it answers with an error, which ends the transaction.
        session.roll_back().await.map_err(self.failed(DOING))?;
        let cluster = system(&self.postgres, &mut session.connection).await.map_err(self.failed(DOING))?;
        session.close().await;
        let cluster = cluster.map_or_else(|| "a cluster that does not tell".to_owned(), |id| format!("cluster {id}"));
        let tables: Vec<String> = relations.iter().map(|relation| format!("table {}", relation.name)).collect();
        Ok(format!("postgres {cluster} at {}, {}", self.postgres.address(), tables.join(", ")))
    }

    async fn marker(&self) -> Result<Option<Marker>, StoreError> {
        marker::read(self).await
    }

    async fn move_marker(&self, from: Option<&Marker>, to: &Marker) -> Result<bool, StoreError> {
        marker::replace(self, from, to).await
    }

    async fn inventory(&self, census: &mut Census) -> Result<(), StoreError> {
        const DOING: &str = "take inventory";
        let postgres = self.patient();
        let (mut session, relations) = self.read(&postgres, DOING).await?;
        for (index, relation) in relations.iter().enumerate() {
            rows::count(&mut session, relation, self.id_type, (SourceIndex(index), &mut *census))
                .await
                .map_err(self.failed(DOING))?;
        }
        session.close().await;
        Ok(())
    }

    async fn locate(&self, targets: &Targets, handles: mpsc::Sender<Handle>) -> Result<(), StoreError> {
        const DOING: &str = "locate rows";
        if targets.is_empty() {
            return Ok(());
        }
        let postgres = self.patient();
        for index in 0..self.tables.len() {
            let source = SourceIndex(index);
            let mut courses: Vec<CourseId> = targets.of(source).collect();
            courses.sort_unstable();
            for some in courses.chunks(rows::COURSES) {
                if handles.is_closed() {
                    return Err(StoreError::Stopped);
                }
                // Whoever takes the handles may be busy for long: no transaction waits for it.
                let (mut session, relations) = self.read(&postgres, DOING).await?;
                let Some(relation) = relations.get(index) else { continue };
                let found = rows::find(&mut session, relation, some).await.map_err(self.failed(DOING))?;
                session.close().await;
                let wanted = |course: CourseId| targets.contains(source, course);
                for handle in rows::handles(self.id_type, source, (some, found), wanted) {
                    handles.send(handle).await.map_err(|_| StoreError::Stopped)?;
                }
            }
        }
        Ok(())
    }

    async fn copy(&self, _: &CopyId, handles: &[Handle], copies: &mut dyn Copies) -> Result<Vec<Copied>, StoreError> {
        copy::copy(self, handles, copies).await
    }

    async fn put_back(&self, items: &[Item], restoring: Restoring) -> Vec<PutBack> {
        put_back::put_back(self, items, restoring).await
    }

    async fn delete(&self, batch: &Condemned) -> Removed {
        delete::delete(self, batch).await
    }

    async fn examine(&self) -> Vec<Finding> {
        self.examine_tables().await
    }

    async fn remaining(&self, targets: &Targets) -> Result<Vec<(SourceIndex, CourseId, u64)>, StoreError> {
        const DOING: &str = "count what remains";
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let postgres = self.patient();
        let (mut session, relations) = self.read(&postgres, DOING).await?;
        let mut remaining = Vec::new();
        for (index, relation) in relations.iter().enumerate() {
            let courses: Vec<CourseId> = targets.of(SourceIndex(index)).collect();
            for some in courses.chunks(rows::COURSES) {
                let found = rows::find(&mut session, relation, some).await.map_err(self.failed(DOING))?;
                let counts = rows::by_course(self.id_type, some, &found);
                remaining.extend(counts.into_iter().map(|(course, count)| (SourceIndex(index), course, count)));
            }
        }
        session.close().await;
        Ok(remaining)
    }
}
