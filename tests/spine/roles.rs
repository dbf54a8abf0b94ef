//! The roles of `sql/roles.sql`: the collector does all of its work with them, and they can do nothing besides.

use std::collections::BTreeSet;
use std::process::Output;

use anyhow::{Result, ensure};
use sandbox::World;
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::process::Command;
use uuid::Uuid;

use crate::support::{Answer, Installation};
use crate::tables::{TABLE, rows};

/// What of the application's tables a role may do, over all that there is.
const RIGHTS: &str = "SELECT r.rolname || ' ' || p || ' ' || c.oid::regclass::text \
    FROM pg_roles r, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, \
    unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p \
    WHERE r.rolname LIKE $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'course_gc') \
    AND n.nspname !~ '^pg_' \
    AND CASE WHEN p IN ('DELETE', 'TRUNCATE', 'TRIGGER') THEN has_table_privilege(r.oid, c.oid, p) \
        ELSE has_any_column_privilege(r.oid, c.oid, p) END";

/// An installation whose program connects as three roles of their own.
struct Bed {
    installation: Installation,
    campus: Campus,
    /// With what the roles' names begin: they are the whole server's.
    prefix: String,
}

impl Bed {
    /// A campus whose courses' rows are hidden by row-level security, and no ledger yet.
    async fn new(world: &World) -> Result<Self> {
        let settings = Settings { departed: "0s".into(), tables: vec![TABLE.into()], ..Settings::default() };
        let installation = Installation::new(world.addresses(), &settings).await?;
        let campus = Campus::plan(CampusSize::default());
        campus.seed(&installation.stores).await?;
        let bed = Self { installation, campus, prefix: format!("gc_{}", Uuid::new_v4().simple()) };
        let hide = "DROP SCHEMA course_gc CASCADE; ALTER TABLE public.courses ENABLE ROW LEVEL SECURITY; \
                    CREATE POLICY nothing ON public.courses USING (false)";
        sqlx::raw_sql(hide).execute(bed.postgres()).await?;
        Ok(bed)
    }

    fn postgres(&self) -> &PgPool {
        &self.installation.stores.postgres
    }

    fn role(&self, purpose: &str) -> String {
        format!("{}_{purpose}", self.prefix)
    }

    /// Runs the script as the superuser, with these variables beside the roles' names.
    async fn script(&self, variables: &[&str]) -> Result<Output> {
        let mut psql = Command::new("psql");
        psql.args(["--no-psqlrc", &self.installation.addresses.postgres, "-f"]);
        psql.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/roles.sql"));
        for purpose in ["reader", "ledger", "rows", "definer"] {
            psql.arg("-v").arg(format!("{purpose}={}", self.role(purpose)));
        }
        for variable in variables {
            psql.args(["-v", *variable]);
        }
        Ok(psql.output().await?)
    }

    async fn roles(&self, variables: &[&str]) -> Result<()> {
        let output = self.script(variables).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() && said.is_empty(), "{said}");
        Ok(())
    }

    /// The program, connected as the roles.
    async fn program(&self, arguments: &[&str]) -> Result<Answer> {
        let postgres = &self.installation.addresses.postgres;
        let url = |purpose: &str| postgres.replace("//postgres@", &format!("//{}@", self.role(purpose)));
        let mut command = self.installation.command(arguments);
        command.env("COURSE_GC_LIVENESS_CAMPUS_URL", url("reader"));
        command.env("COURSE_GC_LIVENESS_CAMPUS_QUERY", "SELECT id FROM course_gc_view.courses");
        command.env("COURSE_GC_LEDGER_URL", url("ledger")).env("COURSE_GC_STORES_ROWS_URL", url("rows"));
        let output = command.output().await?;
        let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        Ok(Answer { code: output.status.code(), stdout, stderr })
    }

    async fn done(&self, arguments: &[&str]) -> Result<Answer> {
        let answer = self.program(arguments).await?;
        ensure!(answer.code == Some(0), "{arguments:?}: {answer:?}");
        Ok(answer)
    }

    /// What the roles may do to whatever is not ours, without the roles' prefix.
    async fn rights(&self) -> Result<BTreeSet<String>> {
        let rights: Vec<String> = sqlx::query_scalar(RIGHTS)
            .bind(format!("{}%", self.prefix.replace('_', "\\_")))
            .fetch_all(self.postgres())
            .await?;
        Ok(rights.iter().map(|right| right.replace(&format!("{}_", self.prefix), "")).collect())
    }

    /// The roles are gone from the server.
    async fn clean_up(&self) -> Result<()> {
        for purpose in ["reader", "ledger", "rows", "definer"] {
            let role = self.role(purpose);
            let drop = format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}");
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(self.postgres()).await?;
        }
        Ok(())
    }
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn s4_the_collector_works_as_roles_that_may_do_no_more_than_it_needs() -> Result<()> {
    let world = World::create().await?;
    let bed = Bed::new(&world).await?;
    let wanted = ["views=public.courses:id", "live=public.file_catalog", "tables=public.rag_context_cache"];
    bed.roles(&wanted).await?;
    let rights = set(&[
        "reader SELECT file_catalog",
        "reader SELECT course_gc_view.courses",
        "rows SELECT rag_context_cache",
        "rows INSERT rag_context_cache",
        "rows DELETE rag_context_cache",
        // Nobody can log in as who owns the view.
        "definer SELECT courses",
    ]);
    let of_view = |right: &String| right.starts_with("definer") && right.ends_with("course_gc_view.courses");
    let found: BTreeSet<String> = bed.rights().await?.into_iter().filter(|right| !of_view(right)).collect();
    assert_eq!(found, rights);

    // From nothing to a deleted course, and back.
    bed.done(&["migrate"]).await?;
    bed.roles(&wanted).await?;
    let may_create = "SELECT has_database_privilege($1, current_database(), 'CREATE')";
    let may_create: bool = sqlx::query_scalar(may_create).bind(bed.role("ledger")).fetch_one(bed.postgres()).await?;
    assert!(!may_create, "the first migration needed it, and nothing else does");
    bed.done(&["migrate"]).await?;
    bed.done(&["adopt", "--yes"]).await?;
    bed.done(&["run"]).await?;
    let examined = bed.done(&["doctor"]).await?;
    assert!(examined.stdout.contains("beyond what it must"), "{examined:?}");
    let before = rows(&bed.installation).await?;
    bed.campus.delete_doomed(&bed.installation.stores).await?;
    bed.done(&["plan"]).await?;
    let report = bed.done(&["--output", "json", "run"]).await?.json()?;
    let doomed: Vec<String> = bed.campus.doomed().iter().map(ToString::to_string).collect();
    let mut left = before.clone();
    left.retain(|_, course| !doomed.contains(course));
    assert!(left.len() < before.len());
    assert_eq!(rows(&bed.installation).await?, left);
    let run = report["run"].as_str().unwrap_or_default();
    bed.done(&["restore", "--run", run]).await?;
    assert_eq!(rows(&bed.installation).await?, before);

    // What is not named any more is taken back.
    bed.roles(&["live=public.courses"]).await?;
    let found: BTreeSet<String> =
        bed.rights().await?.into_iter().filter(|right| !right.starts_with("definer")).collect();
    assert_eq!(found, set(&["reader SELECT courses"]));
    bed.clean_up().await
}

#[tokio::test]
async fn a_role_that_may_do_everything_is_refused() -> Result<()> {
    let world = World::create().await?;
    let bed = Bed::new(&world).await?;
    for variables in [&["reader=postgres"][..], &["live=public.nothing"]] {
        let output = bed.script(variables).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("may do everything") || said.contains("does not exist"), "{said}");
    }
    let none = "SELECT count(*) FROM pg_roles WHERE starts_with(rolname, $1)";
    let roles: i64 = sqlx::query_scalar(none).bind(&bed.prefix).fetch_one(bed.postgres()).await?;
    assert_eq!(roles, 0, "all or nothing");
    Ok(())
}
