use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::DateTime;
use sandbox::Database;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use url::Url;
use uuid::Uuid;

use super::*;
use crate::domain::inventory::Inventory;
use crate::domain::live_set::LiveSet;
use crate::errors::chain;
use crate::stores::contract::Items;
use crate::stores::copies::{Receipt, Safe};
use crate::stores::{Outcome, contract};

mod bench;
mod honest;
mod markers;
mod round_trip;

/// Long enough for a slow machine; tests that wait for it to pass use less.
const CALL: Duration = Duration::from_secs(20);
const FRESH: Duration = Duration::from_secs(3600);
const SOURCE: SourceIndex = SourceIndex(0);

/// A database of one's own, as its superuser.
struct Bed {
    database: Database,
}

impl Bed {
    /// A database in which this SQL was run.
    async fn with(sql: &str) -> Self {
        let bed = Self { database: Database::create().await.unwrap() };
        bed.run(sql).await;
        bed
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(self.database.url()).await.unwrap()
    }

    async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connect().await).await.unwrap();
    }

    /// The texts of a query's one column.
    async fn texts(&self, query: &str) -> Vec<Option<String>> {
        let rows = sqlx::raw_sql(AssertSqlSafe(query.to_owned())).fetch_all(&mut self.connect().await).await.unwrap();
        rows.iter().map(|row| row.try_get(0).unwrap()).collect()
    }

    async fn count(&self, table: &str) -> i64 {
        let query = format!("SELECT count(*) FROM {table}");
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut self.connect().await).await.unwrap()
    }

    /// A role that may do only what it is granted, and the database's URL for it.
    async fn role(&self) -> (String, String) {
        let role = format!("course_gc_test_{}", Uuid::new_v4().simple());
        self.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
        let mut url: Url = self.database.url().parse().unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some("secret")).unwrap();
        (role, url.into())
    }

    fn store(&self, id_type: IdType, tables: &[TableSource]) -> TableStore {
        store(self.database.url(), id_type, tables)
    }
}

fn store(url: &str, id_type: IdType, tables: &[TableSource]) -> TableStore {
    store_within(url, id_type, tables, CALL)
}

fn store_within(url: &str, id_type: IdType, tables: &[TableSource], call_timeout: Duration) -> TableStore {
    let postgres = Postgres {
        what: "the database".into(),
        url: url.to_owned().into(),
        call_timeout,
        idle_timeout: crate::postgres::IDLE_TIMEOUT,
        application: "course-gc/test".into(),
    };
    TableStore::new(TableSettings { name: "rows".into(), postgres, tables: tables.to_vec(), id_type, batch_limit: 5 })
        .unwrap()
}

/// `public.<table>`, with the column `course_id`.
fn table(name: &str) -> TableSource {
    TableSource { schema: "public".into(), table: name.into(), column: "course_id".into(), filter: None }
}

fn targets(courses: impl IntoIterator<Item = CourseId>) -> Targets {
    let mut targets = Targets::none(1);
    courses.into_iter().for_each(|course| targets.insert(SOURCE, course));
    targets
}

fn integer(n: i64) -> CourseId {
    CourseId::Integer(n)
}

async fn inventory(store: &TableStore, live: &[CourseId]) -> Result<Inventory, StoreError> {
    let live = LiveSet::from_ids(store.id_type, live.iter().copied());
    let mut census = Census::new(Arc::new(live), store.sources().len());
    store.inventory(&mut census).await?;
    Ok(census.finish())
}

fn id() -> CopyId {
    let now = DateTime::UNIX_EPOCH;
    CopyId { run: Uuid::from_u128(7), batch: 1, taken_at: now, expires_at: now + Duration::from_secs(60) }
}

/// Copies the rows of these courses; a receipt a handle, and the items.
async fn copy(store: &TableStore, courses: &[CourseId]) -> (Vec<Handle>, Safe, Vec<Item>) {
    let handles = contract::located(store, &targets(courses.iter().copied())).await;
    let mut items = Items::default();
    let copied = store.copy(&id(), &handles, &mut items).await.unwrap();
    let receipts: Vec<Receipt> = copied
        .into_iter()
        .map(|copied| match copied {
            Copied::Whole(receipt) => receipt,
            other => panic!("{other:?}"),
        })
        .collect();
    (handles, Safe { id: id(), receipts }, items.0)
}

async fn delete(store: &TableStore, handles: Vec<Handle>, safe: Safe) -> Vec<Outcome> {
    store.delete(&Condemned::for_test_copied(handles, safe, FRESH)).await.outcomes
}

/// The cause of the one failure.
fn cause(outcomes: &[Outcome]) -> &str {
    match outcomes {
        [Outcome::Failed(cause)] => cause,
        other => panic!("{other:?}"),
    }
}

/// An error with its causes, and the proof that no password is in it, nor in its `Debug`.
fn words(error: &StoreError) -> String {
    let words = chain(error);
    assert!(!format!("{words} {error:?}").contains("secret"), "{words}");
    words
}
