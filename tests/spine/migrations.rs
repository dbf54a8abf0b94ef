//! The ledger's migrations keep what the version before works with: a run of it that is under way when the next version migrates comes to its
//! end. It begins no other, since an older program refuses a newer ledger.
//!
//! What is compared is Postgres's own catalog before and after each migration. It shows that statements of the version before still find their
//! tables and columns, and that no insert or update of theirs is refused. That a column still means the same it cannot show.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use course_gc::domain::report::Verdict;
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Database, World};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::serve::hold;
use crate::support::{Installation, eventually};

/// A column: its type, whether it must be given, and whether it is if nobody does.
type Column = (String, bool, bool);

/// What statements depend on, in the schema `course_gc`.
#[derive(Debug, Default)]
struct Shape {
    columns: BTreeMap<(String, String), Column>,
    /// Constraints and unique indexes: the table, what it says, and the columns that it is about.
    rules: BTreeSet<(String, String, Vec<String>)>,
}

async fn shape(connection: &mut PgConnection) -> Result<Shape> {
    let columns: Vec<(String, String, String, bool, bool)> = sqlx::query_as(
        "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
                a.atthasdef OR a.attidentity <> '' FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
         WHERE c.relnamespace = to_regnamespace('course_gc') AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped",
    )
    .fetch_all(&mut *connection)
    .await?;
    let rules: Vec<(String, String, Vec<String>)> = sqlx::query_as(
        "SELECT c.relname::text, pg_get_constraintdef(r.oid), ARRAY(SELECT a.attname::text FROM pg_attribute a \
             WHERE a.attrelid = c.oid AND a.attnum = ANY (r.conkey)) \
         FROM pg_constraint r JOIN pg_class c ON c.oid = r.conrelid WHERE c.relnamespace = to_regnamespace('course_gc') \
         UNION ALL \
         SELECT c.relname::text, pg_get_indexdef(i.indexrelid), ARRAY(SELECT a.attname::text FROM pg_attribute a \
             WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey)) \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE i.indisunique AND c.relnamespace = to_regnamespace('course_gc')",
    )
    .fetch_all(connection)
    .await?;
    let columns = columns.into_iter().map(|(table, name, kind, needed, given)| ((table, name), (kind, needed, given)));
    Ok(Shape { columns: columns.collect(), rules: rules.into_iter().collect() })
}

/// What of the shape before would not work after.
fn broken(before: &Shape, after: &Shape) -> Vec<String> {
    let mut broken = Vec::new();
    for ((table, name), (kind, needed, given)) in &before.columns {
        match after.columns.get(&(table.clone(), name.clone())) {
            None => broken.push(format!("{table}.{name} is gone")),
            Some((now, ..)) if now != kind => broken.push(format!("{table}.{name} was {kind}, and is {now}")),
            Some((_, true, _)) if !needed => broken.push(format!("{table}.{name} must be given")),
            Some((_, _, false)) if *given => broken.push(format!("{table}.{name} has no default any more")),
            Some(_) => {}
        }
    }
    let tables: BTreeSet<&String> = before.columns.keys().map(|(table, _)| table).collect();
    for ((table, name), (_, needed, given)) in &after.columns {
        let is_new = tables.contains(table) && !before.columns.contains_key(&(table.clone(), name.clone()));
        if is_new && *needed && !given {
            broken.push(format!("{table}.{name} is new, and inserts of before do not give it"));
        }
    }
    for (table, rule, columns) in after.rules.difference(&before.rules) {
        let is_old = |column: &String| before.columns.contains_key(&(table.clone(), column.clone()));
        if columns.iter().any(is_old) {
            broken.push(format!("{table} has a rule that it did not have: {rule}"));
        }
    }
    broken
}

/// The files of `migrations`, in their order.
fn migrations() -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations"))? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        all.push((name, std::fs::read_to_string(path)?));
    }
    all.sort();
    Ok(all)
}

#[tokio::test]
async fn s11_each_migration_leaves_what_the_version_before_works_with() -> Result<()> {
    let database = Database::create().await?;
    let mut connection = PgConnection::connect(database.url()).await?;
    let mut before = Shape::default();
    let migrations = migrations()?;
    assert!(migrations.len() >= 12);
    for (name, sql) in &migrations {
        sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut connection).await.context(name.clone())?;
        let after = shape(&mut connection).await?;
        assert_eq!(broken(&before, &after), Vec::<String>::new(), "{name}");
        before = after;
    }

    // Each of these would break the version before, and is seen.
    for (sql, what) in [
        ("ALTER TABLE course_gc.runs DROP COLUMN verdict", "runs.verdict is gone"),
        ("ALTER TABLE course_gc.runs RENAME COLUMN verdict TO judgement", "runs.verdict is gone"),
        ("DROP TABLE course_gc.pauses", "pauses.reason is gone"),
        ("ALTER TABLE course_gc.orphans ALTER COLUMN bytes TYPE numeric", "orphans.bytes was bigint, and is numeric"),
        ("ALTER TABLE course_gc.runs ALTER COLUMN report SET NOT NULL", "runs.report must be given"),
        (
            "ALTER TABLE course_gc.runs ADD COLUMN host text NOT NULL",
            "runs.host is new, and inserts of before do not give it",
        ),
        (
            "ALTER TABLE course_gc.orphans ALTER COLUMN pending_ms DROP DEFAULT",
            "orphans.pending_ms has no default any more",
        ),
        ("ALTER TABLE course_gc.runs ADD CHECK (verdict <> 'odd')", "runs has a rule that it did not have"),
        ("CREATE UNIQUE INDEX one ON course_gc.intents (run_id)", "intents has a rule that it did not have"),
    ] {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *transaction).await?;
        let after = shape(&mut transaction).await?;
        let found = broken(&before, &after);
        assert!(found.iter().any(|it| it.starts_with(what)), "{sql}: {found:?}");
        transaction.rollback().await?;
    }
    // And these would not.
    let mut transaction = connection.begin().await?;
    let harmless = "ALTER TABLE course_gc.runs ADD COLUMN host text, ADD COLUMN tries int NOT NULL DEFAULT 1 CHECK (tries > 0); \
                    CREATE TABLE course_gc.more (id bigint PRIMARY KEY); CREATE INDEX more_runs ON course_gc.runs (verdict)";
    sqlx::raw_sql(harmless).execute(&mut *transaction).await?;
    assert_eq!(broken(&before, &shape(&mut transaction).await?), Vec::<String>::new());
    transaction.rollback().await?;
    Ok(())
}

#[tokio::test]
async fn s11_a_run_that_the_next_version_migrates_under_comes_to_its_end_and_no_other_begins() -> Result<()> {
    let world = World::create().await?;
    let installation =
        Installation::new(world.addresses(), &Settings { departed: "0s".into(), ..Settings::default() }).await?;
    let campus = Campus::plan(CampusSize { doomed: 8, ..CampusSize::default() });
    campus.seed(&installation.stores).await?;
    installation.run().await?;
    campus.delete_doomed(&installation.stores).await?;
    let mut held = hold(&installation).await?;
    let next_version = async {
        let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
                     AND query LIKE 'INSERT INTO course_gc.runs%'";
        eventually("a run begins", async || {
            Ok(sqlx::query_scalar::<_, bool>(waits).fetch_one(&installation.stores.postgres).await?.then_some(()))
        })
        .await?;
        let migrate = "ALTER TABLE course_gc.runs ADD COLUMN host text; ALTER TABLE course_gc.intents ADD COLUMN host text; \
                       CREATE TABLE course_gc.hosts (host text PRIMARY KEY); \
                       INSERT INTO course_gc._sqlx_migrations (version, description, success, checksum, execution_time) \
                       VALUES (9999, 'the next version', true, '', 0)";
        sqlx::raw_sql(migrate).execute(&mut *held).await?;
        held.commit().await?;
        anyhow::Ok(())
    };
    let (report, migrated) = tokio::join!(installation.run(), next_version);
    migrated?;
    let report = report?;
    assert_eq!(report.verdict, Verdict::Done, "{report:?}");
    assert!(report.swept().deleted > 0);
    let refused = installation.program(&["run"]).await?;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("use the newer program"), "{refused:?}");
    Ok(())
}
