//! `course-gc doctor` on real servers: what is right is told to be right, and each thing that can be wrong is found once, with what to do.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};
use course_gc::app;
use course_gc::config::Config;
use course_gc::doctor::examine;
use course_gc::domain::findings::{Checkup, Finding, Level};
use qdrant_client::qdrant::{DeleteFieldIndexCollectionBuilder, StrictModeConfigBuilder, UpdateCollectionBuilder};
use sandbox::campus::{Campus, CampusSize, IdKind};
use sandbox::config::{Settings, environment};
use sandbox::{Difference, Redis, Snapshot, World, free_port};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::Installation;
use crate::tables::TABLE;

/// An installation that is looked at.
struct Bed {
    installation: Installation,
}

impl Bed {
    /// One over a seeded campus, adopted.
    async fn new(world: &World, settings: &Settings) -> Result<Self> {
        let installation = Installation::new(world.addresses(), settings).await?;
        Campus::plan(CampusSize { ids: settings.ids, ..CampusSize::default() }).seed(&installation.stores).await?;
        installation.adopt_once().await?;
        Ok(Self { installation })
    }

    /// What is found if these variables say something else than the configuration.
    async fn found(&self, variables: &[(&str, &str)]) -> Result<Checkup> {
        let mut all = environment(&self.installation.addresses);
        all.retain(|(name, _)| variables.iter().all(|(other, _)| other != name));
        all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Ok(examine(&app::patient(&Config::load(&self.installation.path(), all)?)?).await)
    }

    /// The finding that there must be: of this part and check, at this level, with these words in what was seen or what to do.
    async fn expect(&self, variables: &[(&str, &str)], at: (&str, &str, Level), words: &str) -> Result<()> {
        let checkup = self.found(variables).await?;
        expect(&checkup, at, words)
    }

    async fn sql(&self, statements: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.installation.stores.postgres).await?;
        Ok(())
    }
}

fn expect(checkup: &Checkup, (part, check, level): (&str, &str, Level), words: &str) -> Result<()> {
    let is_it = |finding: &&Finding| {
        let said = format!("{} {}", finding.seen, finding.fix.as_deref().unwrap_or_default());
        finding.check == check && finding.level == level && said.contains(words)
    };
    let of_part = checkup.parts.iter().filter(|it| it.part.starts_with(part));
    let found: Vec<&Finding> = of_part.flat_map(|it| &it.findings).filter(is_it).collect();
    ensure!(!found.is_empty(), "no {level:?} of {part} about {check} with `{words}` in {checkup:#?}");
    ensure!(level == Level::Ok || found.iter().all(|finding| finding.fix.is_some()), "{found:?}");
    Ok(())
}

/// Everything below a folder, by name.
fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        found.insert(path.display().to_string());
        if path.is_dir() {
            found.extend(names(&path)?);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn what_is_right_is_told_and_nothing_is_changed() -> Result<()> {
    let world = World::whole().await?;
    let bed = Bed::new(&world, &Settings { tombstoned: Some("1m".into()), ..Settings::default() }).await?;
    let installed = bed.installation.program(&["tombstones", "install", "--yes"]).await?;
    ensure!(installed.code == Some(0), "{installed:?}");
    bed.installation.run().await?;

    let files = &bed.installation.addresses.files;
    // A place for copies is made when something is written there.
    std::fs::create_dir_all(files.join(".course-gc/archives"))?;
    let before = (Snapshot::take(&bed.installation.stores).await?, names(files)?);
    let checkup = bed.found(&[]).await?;
    let after = Snapshot::take(&bed.installation.stores).await?;
    assert_eq!((before.0.diff(&after), names(files)?), (Difference::default(), before.1));
    // The tests' user of Postgres may do everything; all else is as it should be.
    let problems: Vec<(&str, &Finding)> = (checkup.parts.iter())
        .flat_map(|part| part.findings.iter().map(|finding| (part.part.as_str(), finding)))
        .filter(|(_, finding)| finding.level == Level::Problem)
        .collect();
    let is_known = |(part, finding): &(&str, &Finding)| part.starts_with("postgres ") && finding.check == "rights";
    assert!(!problems.is_empty() && problems.iter().all(is_known), "{problems:#?}");
    for at in [
        ("postgres ", "connection"),
        ("postgres ", "clock"),
        ("liveness source campus", "query"),
        ("liveness source campus", "references"),
        ("liveness source campus", "tombstones"),
        ("the ledger", "tables"),
        ("the ledger", "adoption"),
        ("store vectors", "index"),
        ("store vectors", "strict mode"),
        ("store vectors", "marker"),
        ("store cache", "eviction"),
        ("store cache", "clock"),
        ("store cache", "marker"),
        ("store jobs", "eviction"),
        ("store uploads", "readable"),
        ("store uploads", "writable"),
        ("store media", "rights"),
        ("store rows", "rights"),
        ("store rows", "index"),
        ("quarantine", "writable"),
        ("quarantine", "disk"),
        ("quarantine", "room"),
    ] {
        expect(&checkup, (at.0, at.1, Level::Ok), "")?;
    }

    // As a person and a program see it.
    let shown = bed.installation.program(&["doctor"]).await?;
    assert_eq!(shown.code, Some(1), "{shown:?}");
    assert!(shown.stdout.contains("to do: connect as a role of its own"), "{}", shown.stdout);
    let told = bed.installation.program(&["--output", "json", "doctor"]).await?;
    assert_eq!((told.code, &told.json()?["verdict"]), (Some(1), &"problem".into()));
    assert_eq!(told.json()?["parts"][0]["findings"][0]["check"], "connection");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_the_databases_is_found() -> Result<()> {
    const POSTGRES: &str = "postgres ";
    const CAMPUS: &str = "liveness source campus";
    let world = World::create().await?;
    let settings = Settings { tombstoned: Some("1m".into()), tables: vec![TABLE.into()], ..Settings::default() };
    let bed = Bed::new(&world, &settings).await?;
    let addresses = &bed.installation.addresses;
    bed.expect(&[], (CAMPUS, "tombstones", Level::Problem), "course-gc tombstones install").await?;
    let installed = bed.installation.program(&["tombstones", "install", "--yes"]).await?;
    ensure!(installed.code == Some(0), "{installed:?}");
    bed.expect(&[], (CAMPUS, "tombstones", Level::Ok), "").await?;
    let other = [("COURSE_GC_LIVENESS_CAMPUS_TOMBSTONES_COLUMN", "organization_id")];
    bed.expect(&other, (CAMPUS, "tombstones", Level::Problem), "by another column").await?;
    let told = [("COURSE_GC_LIVENESS_CAMPUS_TOMBSTONES_NOTIFY", "true")];
    bed.expect(&told, (CAMPUS, "tombstones", Level::Advice), "`notify` is on").await?;
    let query = [("COURSE_GC_LIVENESS_CAMPUS_QUERY", "SELECT id, title FROM public.courses")];
    bed.expect(&query, (CAMPUS, "query", Level::Problem), "returns 2 columns").await?;
    let changed = [("COURSE_GC_LIVENESS_CAMPUS_QUERY", "SELECT id FROM public.courses WHERE true")];
    bed.expect(&changed, ("the ledger", "adoption", Level::Problem), "is not what was adopted").await?;
    let nobody = format!("postgres://course_gc@127.0.0.1:{}/campus", free_port()?);
    let nobody = [("COURSE_GC_LIVENESS_CAMPUS_URL", nobody.as_str()), ("COURSE_GC_LEDGER_URL", &addresses.postgres)];
    bed.expect(&nobody, (POSTGRES, "connection", Level::Problem), "check host, port").await?;
    bed.expect(&[], (POSTGRES, "rights", Level::Problem), "is a superuser").await?;
    let reference = [("COURSE_GC_STORES_UPLOADS_REFERENCES_QUERY", "SELECT path FROM public.nothing")];
    bed.expect(&reference, (CAMPUS, "references", Level::Problem), "of store uploads").await?;

    // A role that may write to more than the rows that it has to.
    let role = format!("gc_{}", Uuid::new_v4().simple());
    bed.sql(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA public TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; \
         GRANT INSERT, DELETE ON {TABLE} TO {role}; GRANT UPDATE ON public.courses TO {role}"
    ))
    .await?;
    let url = addresses.postgres.replace("//postgres@", &format!("//{role}@"));
    let as_role = [("COURSE_GC_LIVENESS_CAMPUS_URL", url.as_str()), ("COURSE_GC_STORES_ROWS_URL", &url)];
    let text = std::fs::read_to_string(bed.installation.path())?;
    std::fs::write(bed.installation.path(), text.replace(&format!("    url: {}\n", addresses.postgres), ""))?;
    let lacking = [as_role[0], as_role[1], ("COURSE_GC_LEDGER_URL", &addresses.postgres)];
    let checkup = bed.found(&lacking).await?;
    expect(&checkup, (POSTGRES, "rights", Level::Problem), "may write to public.courses (UPDATE) ")?;
    bed.sql(&format!("REVOKE UPDATE ON public.courses FROM {role}")).await?;
    bed.expect(&lacking, (POSTGRES, "rights", Level::Ok), "beyond what it must").await?;
    bed.sql(&format!("REVOKE DELETE ON {TABLE} FROM {role}")).await?;
    bed.expect(&lacking, ("store rows", "rights", Level::Problem), "may not DELETE").await?;
    bed.expect(&as_role, ("the ledger", "tables", Level::Problem), "").await?;
    bed.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await?;

    // Large tables without an index.
    bed.sql(
        "CREATE TABLE public.big (id uuid, course_id uuid); INSERT INTO public.big SELECT gen_random_uuid(), gen_random_uuid() \
         FROM generate_series(1, 20000); ANALYZE public.big",
    )
    .await?;
    let big = [
        ("COURSE_GC_LIVENESS_CAMPUS_QUERY", "SELECT id FROM public.big"),
        ("COURSE_GC_STORES_ROWS_TABLES_0", "public.big"),
        ("COURSE_GC_STORES_ROWS_URL", &addresses.postgres),
    ];
    bed.expect(&big, (CAMPUS, "query", Level::Advice), "all of public.big (about 20000 rows) is read").await?;
    bed.expect(&big, ("store rows", "index", Level::Advice), "make an index on the column").await?;

    // The ledger of an older program, of a newer one, and of nobody; and one that is paused.
    let rows = ("COURSE_GC_STORES_ROWS_URL", addresses.postgres.as_str());
    let mut pause = bed.installation.command(&["pause", "--reason", "an exam"]);
    ensure!(pause.env(rows.0, rows.1).output().await?.status.success());
    bed.expect(&[rows], ("the ledger", "pause", Level::Advice), "an exam").await?;
    bed.sql("UPDATE course_gc._sqlx_migrations SET version = 9999 WHERE version = (SELECT max(version) FROM course_gc._sqlx_migrations)")
        .await?;
    bed.expect(&[rows], ("the ledger", "tables", Level::Problem), "use the newer program").await?;
    bed.sql("DELETE FROM course_gc._sqlx_migrations WHERE version = 9999").await?;
    bed.expect(&[rows], ("the ledger", "tables", Level::Problem), "run `course-gc migrate`").await
}

#[tokio::test]
async fn an_index_is_missed_for_ids_that_are_texts_too() -> Result<()> {
    let world = World::create().await?;
    let settings = Settings { ids: IdKind::Text, tables: vec![TABLE.into()], ..Settings::default() };
    let bed = Bed::new(&world, &settings).await?;
    bed.sql(
        "CREATE TABLE public.big (course_id text); INSERT INTO public.big SELECT 'c' || n FROM generate_series(1, 20000) n; \
         ANALYZE public.big",
    )
    .await?;
    let big = [("COURSE_GC_STORES_ROWS_TABLES_0", "public.big")];
    bed.expect(&big, ("store rows", "index", Level::Advice), "make an index on the column").await?;
    bed.sql("CREATE INDEX ON public.big (course_id)").await?;
    bed.expect(&big, ("store rows", "index", Level::Ok), "without reading all of it").await
}

#[tokio::test]
async fn what_is_wrong_with_the_stores_is_found() -> Result<()> {
    let world = World::create().await?;
    let bed = Bed::new(&world, &Settings::default()).await?;
    let collection = bed.installation.addresses.collection();
    let qdrant = &bed.installation.stores.qdrant;

    // A collection without an index: its strict mode wants one, and without that it is a matter of cost.
    let index = DeleteFieldIndexCollectionBuilder::new(&collection, "course_id").wait(true);
    qdrant.delete_field_index(index).await?;
    let create =
        format!("PUT /collections/{collection}/index {{\"field_name\": \"course_id\", \"field_schema\": \"keyword\"}}");
    for (strict, check, level) in [(true, "strict mode", Level::Problem), (false, "index", Level::Advice)] {
        let strict = StrictModeConfigBuilder::default().enabled(strict).unindexed_filtering_update(false);
        qdrant.update_collection(UpdateCollectionBuilder::new(&collection).strict_mode_config(strict)).await?;
        bed.expect(&[], ("store vectors", check, level), &create).await?;
    }

    // A Redis that throws keys away, and is not the one that was adopted.
    let redis = Redis::start().await?;
    let mut admin = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    let cache = [("COURSE_GC_STORES_CACHE_URL", redis.url())];
    let cache: Vec<(&str, &str)> = cache.iter().map(|(name, url)| (*name, url.as_str())).collect();
    bed.expect(&cache, ("store cache", "marker", Level::Problem), "its marker is gone").await?;
    bed.expect(&cache, ("store cache", "rights", Level::Advice), "may also FLUSHALL").await?;
    for (setting, value) in [("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")] {
        redis::cmd("CONFIG").arg("SET").arg(setting).arg(value).query_async::<()>(&mut admin).await?;
    }
    bed.expect(&cache, ("store cache", "eviction", Level::Problem), "maxmemory-policy noeviction").await?;

    // Users who lack something: one who may ask for it, and one who may not even that.
    let users = [
        (
            "curious",
            "+@all -unlink ~*",
            Level::Problem,
            "may not UNLINK phase1_cache:00000000-0000-0000-0000-000000000000",
        ),
        ("blind", "+@all -@admin -@dangerous +info ~phase1_cache:*", Level::Ok, "may not ask what it may do"),
        ("narrow", "+@all ~phase1_cache:*", Level::Problem, "may not UNLINK file_cache:"),
    ];
    for (name, rights, level, words) in users {
        let mut user = redis::cmd("ACL");
        user.arg("SETUSER").arg(name).arg("on").arg("nopass");
        rights.split(' ').for_each(|right| _ = user.arg(right));
        user.query_async::<()>(&mut admin).await?;
        let url = redis.url().replace("//", &format!("//{name}:any@"));
        bed.expect(&[("COURSE_GC_STORES_CACHE_URL", &url)], ("store cache", "rights", level), words).await?;
    }
    let no_restore = redis.url().replace("//", "//curious:any@");
    redis::cmd("ACL")
        .arg("SETUSER")
        .arg("curious")
        .arg("+unlink")
        .arg("-restore")
        .query_async::<()>(&mut admin)
        .await?;
    let no_restore = [("COURSE_GC_STORES_CACHE_URL", no_restore.as_str())];
    bed.expect(&no_restore, ("store cache", "restore", Level::Advice), "restore_url").await?;
    let nobody = format!("redis://127.0.0.1:{}/0", free_port()?);
    bed.expect(&[("COURSE_GC_STORES_CACHE_URL", &nobody)], ("store cache", "connection", Level::Problem), "").await?;

    // A root that is not there, and copies that cannot be written.
    let root = [("COURSE_GC_STORES_UPLOADS_ROOT", "/nonexistent/uploads")];
    bed.expect(&root, ("store uploads", "connection", Level::Problem), "the volume is mounted").await?;
    // Nobody may write there, whoever it is.
    let read_only = [("COURSE_GC_QUARANTINE_FOLDER", "/proc/course-gc")];
    bed.expect(&read_only, ("quarantine", "writable", Level::Problem), "`quarantine.folder` is a volume").await?;
    bed.expect(&[("COURSE_GC_QUARANTINE_MAX_SIZE", "0B")], ("quarantine", "room", Level::Problem), "purge").await?;
    bed.expect(&[("COURSE_GC_QUARANTINE_MIN_FREE", "100%")], ("quarantine", "disk", Level::Problem), "100 % must stay")
        .await?;

    // Who is let in, and with what.
    let text = std::fs::read_to_string(bed.installation.path())?;
    let more = "api:\n  tokens:\n    web: { file: /nonexistent/token }\n  jwt:\n    issuer: x\n    audience: y\n    jwks_file: /nonexistent/jwks\n    read_roles: [teacher]\n";
    std::fs::write(bed.installation.path(), format!("{text}{more}"))?;
    bed.expect(&[], ("the API", "token", Level::Problem), "web lets nobody in").await?;
    bed.expect(&[], ("the API", "keys", Level::Problem), "/nonexistent/jwks").await?;
    let tls =
        text.replace("http:\n", "http:\n  tls: { certificate_file: /nonexistent/crt, key_file: /nonexistent/key }\n");
    std::fs::write(bed.installation.path(), tls)?;
    bed.expect(&[], ("TLS", "certificate", Level::Problem), "/nonexistent/crt").await?;

    // A store that nobody adopted, beside those that were; and an installation that nobody adopted.
    let queue = "  more:\n    kind: redis\n    url: {url}\n    templates: [\"more:{course_id}\"]\nquarantine:\n";
    let queue = queue.replace("{url}", &redis.url());
    std::fs::write(bed.installation.path(), text.replace("quarantine:\n", &queue))?;
    bed.expect(&[], ("store more", "marker", Level::Problem), "it is not adopted").await?;
    bed.sql("TRUNCATE course_gc.installation CASCADE").await?;
    bed.expect(&[], ("the ledger", "adoption", Level::Advice), "nothing is adopted yet").await
}
