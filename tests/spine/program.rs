//! The program as people and schedulers meet it: exit codes, what it prints, what it never prints, and signals.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Difference, Qdrant, QdrantOptions, Redis, Snapshot, World, free_port};
use serde_json::Value;
use sqlx::AssertSqlSafe;
use tokio::time::timeout;

use crate::support::{Answer, Installation, eventually};

/// What the program answers to arguments, as JSON.
async fn json(installation: &Installation, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let answer = installation.program(&[&["--output", "json"], arguments].concat()).await?;
    Ok((answer.code, answer.json()?))
}

/// Approves all that a report says is held.
async fn approve(installation: &Installation, report: &Value) -> Result<(Option<i32>, Value)> {
    let digest = report["holds"][0]["digest"].as_str().context("nothing is held")?;
    json(installation, &["approve", digest, "--reason", "it was meant"]).await
}

/// A campus whose doomed courses were deleted long enough ago.
async fn ripe(world: &World, size: CampusSize) -> Result<(Installation, Campus)> {
    let installation = Installation::new(world.addresses(), &Settings::default()).await?;
    let campus = Campus::plan(size);
    campus.seed(&installation.stores).await?;
    installation.run().await?;
    campus.delete_doomed(&installation.stores).await?;
    installation.plan().await?;
    installation.age("1 minute").await?;
    Ok((installation, campus))
}

#[tokio::test]
async fn an_exit_code_tells_how_it_ended() -> Result<()> {
    let world = World::create().await?;
    let (installation, _) = ripe(&world, CampusSize::default()).await?;
    let code = async |arguments: &[&str]| -> Result<Option<i32>> { Ok(installation.program(arguments).await?.code) };
    let before = Snapshot::take(&installation.stores).await?;

    // Held: by somebody else's lock, and by a breaker.
    let lock = installation.collector()?.ledger.lock().await?;
    for command in ["plan", "run"] {
        let (code, answer) = json(&installation, &[command]).await?;
        let error = answer["error"].as_str().context("error")?;
        assert_eq!(code, Some(3), "{error}");
        assert!(error.starts_with("another collector is at work: ") && error.contains("course-gc/campus"), "{error}");
    }
    lock.release().await;
    installation.configure(&Settings { limits: vec!["breaker_courses: 3".into()], ..Settings::default() })?;
    let (held, report) = json(&installation, &["run"]).await?;
    assert_eq!((held, &report["verdict"]), (Some(3), &"held".into()));
    assert_eq!(code(&["run", "--held-is-done"]).await?, Some(0), "a scheduler may want no failure of it");
    assert_eq!(before.diff(&Snapshot::take(&installation.stores).await?), Difference::default());
    installation.configure(&Settings::default())?;
    assert_eq!(code(&["run"]).await?, Some(3), "what a breaker held waits for a person, whatever the limit is now");
    assert_eq!(approve(&installation, &report).await?.0, Some(0));

    // Done, then clean.
    for verdict in ["done", "clean"] {
        let (code, report) = json(&installation, &["run"]).await?;
        assert_eq!((code, &report["verdict"]), (Some(0), &verdict.into()));
    }
    assert_eq!(code(&["status"]).await?, Some(0));

    // Failed: nothing can be known.
    let drop = "DROP SCHEMA course_gc CASCADE";
    sqlx::query(drop).execute(&installation.stores.postgres).await?;
    for command in [&["plan"][..], &["run"], &["run", "--held-is-done"], &["status"]] {
        let (code, answer) = json(&installation, command).await?;
        let error = answer["error"].as_str().context("error")?;
        assert_eq!(code, Some(1), "{command:?}: {error}");
        assert!(error.contains("run `course-gc migrate`"), "{command:?}: {error}");
    }
    assert_eq!(json(&installation, &["migrate"]).await?, (Some(0), serde_json::json!({ "migrated": true })));
    assert_eq!(code(&["migrate"]).await?, Some(0));
    assert_eq!(installation.program(&["status"]).await?.stdout.trim(), "no run yet");
    Ok(())
}

#[tokio::test]
async fn wrong_usage_and_configuration_are_2() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &Settings::default()).await?;
    for arguments in [&["sweep"][..], &[], &["--output", "yaml", "run"], &["config"], &["pause"]] {
        let Answer { code, stdout, stderr } = installation.program(arguments).await?;
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains("--help") || stderr.contains("Usage:"), "{arguments:?}: {stderr}");
    }

    let good = std::fs::read_to_string(installation.path())?;
    for (bad, wrong) in [
        (good.replace("\"rag:{course_id}:*\"", "\"rag:*\""), "does not contain {course_id}"),
        (
            good.replace("file_cache:{course_id}:*", "phase1_cache:{course_id}"),
            "is claimed by stores.cache.templates[0]",
        ),
        (good.replace("schedule:", "shedule:"), "did you mean `schedule`?"),
        (good.replace("layout: \"{course_id}\"", "layout: \"{course_id}/x\""), "stores.enrichments.layout"),
        (good.replace(&format!("root: {}/uploads", world.addresses().files.display()), "root: /"), "`/` is not"),
    ] {
        assert_ne!(bad, good, "{wrong}");
        std::fs::write(installation.path(), bad)?;
        for arguments in [&["run"][..], &["plan"], &["serve"], &["status"], &["migrate"], &["config", "check"]] {
            let (code, answer) = json(&installation, arguments).await?;
            let error = answer["error"].as_str().context("error")?;
            assert_eq!(code, Some(2), "{arguments:?}: {error}");
            assert!(error.contains(wrong), "{arguments:?}: {error}");
        }
    }
    std::fs::remove_file(installation.path())?;
    let (code, answer) = json(&installation, &["run"]).await?;
    assert_eq!(code, Some(2));
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("course-gc.yaml")), "{answer}");
    Ok(())
}

#[tokio::test]
async fn the_configuration_is_shown() -> Result<()> {
    let world = World::create().await?;
    let installation = Installation::new(world.addresses(), &Settings::default()).await?;
    let example = installation.program(&["config", "example"]).await?;
    assert_eq!((example.code, example.stdout), (Some(0), course_gc::config::example()));
    let check = installation.program(&["config", "check"]).await?;
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    let line = check.stdout.lines().find(|line| line.starts_with("liveness.campus.url")).context("the URL's line")?;
    assert!(line.contains("COURSE_GC_LIVENESS_CAMPUS_URL"), "where it comes from: {line}");
    Ok(())
}

/// Every path in the answers, with the types found there: `stores[].error: null | string`. Names that are data, as those
/// of the stages, count as fields.
fn shape(answers: &[Value]) -> BTreeMap<String, BTreeSet<&'static str>> {
    fn walk(path: &str, value: &Value, shape: &mut BTreeMap<String, BTreeSet<&'static str>>) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(items) => {
                items.iter().for_each(|item| walk(&format!("{path}[]"), item, shape));
                "list"
            }
            Value::Object(fields) => {
                fields.iter().for_each(|(name, field)| walk(&format!("{path}.{name}"), field, shape));
                "object"
            }
        };
        shape.entry(path.to_owned()).or_default().insert(kind);
    }
    let mut all = BTreeMap::new();
    answers.iter().for_each(|answer| walk("", answer, &mut all));
    all
}

#[tokio::test]
async fn the_json_is_as_documented_and_stays_so() -> Result<()> {
    let world = World::create().await?;
    let (installation, campus) = ripe(&world, CampusSize { doomed: 8, ..CampusSize::default() }).await?;
    let mut reports = Vec::new();
    // Every verdict with a report: held by a breaker, partly without Redis, done, clean while a grace lasts, paused, halted.
    installation.configure(&Settings { limits: vec!["breaker_courses: 3".into()], ..Settings::default() })?;
    reports.push(json(&installation, &["plan"]).await?.1);
    installation.configure(&Settings::default())?;
    let held = json(&installation, &["holds"]).await?.1;
    let approved = approve(&installation, &reports[0]).await?.1;
    let in_force = json(&installation, &["holds"]).await?.1;
    let nobody = format!("redis://127.0.0.1:{}/0", free_port()?);
    let mut command = installation.command(&["--output", "json", "run"]);
    let partly = command.env("COURSE_GC_STORES_CACHE_URL", nobody).output().await?;
    reports.push(serde_json::from_slice(&partly.stdout)?);
    reports.push(json(&installation, &["run"]).await?.1);
    let next = campus.courses.iter().find(|course| course.doom.is_none()).context("a course that stays")?;
    campus.delete_row(&installation.stores, next.id).await?;
    reports.push(json(&installation, &["plan"]).await?.1);
    installation.program(&["pause", "--reason", "a look at it"]).await?;
    reports.push(json(&installation, &["run"]).await?.1);
    let paused = json(&installation, &["status"]).await?.1;
    installation.program(&["resume"]).await?;
    sqlx::query("DELETE FROM public.courses").execute(&installation.stores.postgres).await?;
    reports.push(json(&installation, &["run"]).await?.1);
    let verdicts: Vec<_> = reports.iter().map(|report| report["verdict"].as_str().unwrap_or_default()).collect();
    assert_eq!(verdicts, ["held", "partly", "done", "clean", "held", "held"]);

    let status = json(&installation, &["status"]).await?.1;
    let last = status["runs"][0].clone();
    assert_eq!(last["report"], reports[5], "the ledger keeps what the program printed");
    let mut listed = [status, paused];
    for runs in listed.iter_mut().filter_map(|status| status["runs"].as_array_mut()) {
        runs.iter_mut().for_each(|run| run["report"] = Value::Null);
    }

    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/report.md"))?;
    let mut text = String::new();
    let shapes = [
        ("a report", shape(&reports)),
        ("status", shape(&listed)),
        ("holds", shape(&[held, in_force])),
        ("approve", shape(&[approved])),
    ];
    for (title, shape) in shapes {
        text += &format!("{title}\n");
        for (path, kinds) in shape.iter().filter(|(path, _)| !path.is_empty()) {
            let kinds: Vec<&str> = kinds.iter().copied().collect();
            text += &format!("  {path}: {}\n", kinds.join(" | "));
            let name = path.trim_end_matches("[]").rsplit('.').next().unwrap_or_default();
            assert!(page.contains(&format!("`{name}`")), "docs/report.md does not explain {path}");
        }
    }
    insta::assert_snapshot!(text);
    Ok(())
}

const SECRETS: [&str; 3] = ["hunter2-of-postgres", "hunter2-of-redis", "hunter2-of-qdrant"];

/// Answers that must not hold any secret, whatever they are.
fn keeps_secrets(what: &str, answer: &Answer) {
    for text in [&answer.stdout, &answer.stderr] {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{what}: {text}");
        }
    }
}

#[tokio::test]
async fn secrets_are_never_printed() -> Result<()> {
    let world = World::create().await?;
    let [postgres_secret, redis_secret, qdrant_secret] = SECRETS;
    let options = QdrantOptions { api_key: Some(qdrant_secret.to_owned()) };
    let (redis, qdrant) = tokio::try_join!(Redis::start(), Qdrant::start_with(options))?;
    let mut connection = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    let require = redis::cmd("CONFIG").arg(&["SET", "requirepass", redis_secret][..]).clone();
    require.query_async::<()>(&mut connection).await?;

    let mut addresses = world.addresses();
    addresses.postgres = addresses.postgres.replace("//postgres@", &format!("//postgres:{postgres_secret}@"));
    addresses.redis = format!("redis://:{redis_secret}@127.0.0.1:{}/0", redis.port());
    addresses.qdrant = qdrant.url();
    addresses.qdrant_api_key = Some(qdrant_secret.to_owned());
    assert!(addresses.postgres.contains(postgres_secret));
    let settings = Settings { limits: vec!["call_timeout: 2s".into()], ..Settings::default() };
    let installation = Installation::new(addresses.clone(), &settings).await?;
    let campus = Campus::plan(CampusSize { courses: 20, doomed: 3, ..CampusSize::default() });
    campus.seed(&installation.stores).await?;
    installation.run().await?;
    campus.delete_doomed(&installation.stores).await?;

    // All is well, at every level of the log, and what is shown of the configuration.
    let answer = async |arguments: &[&str], variables: &[(&str, String)]| -> Result<Answer> {
        let output = installation.command(arguments).envs(variables.iter().cloned()).output().await?;
        Ok(Answer {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    };
    for (level, format) in [("info", "json"), ("debug", "text"), ("trace", "json"), ("trace", "text")] {
        let log = [("COURSE_GC_LOG_LEVEL", level.to_owned()), ("COURSE_GC_LOG_FORMAT", format.to_owned())];
        installation.age("1 minute").await?;
        for arguments in [&["plan"][..], &["--output", "json", "run"], &["status"], &["config", "check"]] {
            let answer = answer(arguments, &log).await?;
            assert_eq!(answer.code, Some(0), "{answer:?}");
            keeps_secrets(level, &answer);
        }
    }

    // Servers that are not there, and secrets that are wrong.
    let trace = ("COURSE_GC_LOG_LEVEL", "trace".to_owned());
    let nobody = free_port()?;
    let port = |url: &str, port: u16| {
        let mut url = url::Url::parse(url).expect("a URL");
        url.set_port(Some(port)).expect("it has a host");
        String::from(url)
    };
    let garbled = |url: &str| url.replacen("://", ":/\\", 1);
    for (broken, code, variables) in [
        ("no redis", 4, vec![("COURSE_GC_STORES_CACHE_URL", port(&addresses.redis, nobody))]),
        ("no qdrant", 4, vec![("COURSE_GC_STORES_VECTORS_URL", port(&addresses.qdrant, nobody))]),
        ("no postgres", 1, vec![("COURSE_GC_LIVENESS_CAMPUS_URL", port(&addresses.postgres, nobody))]),
        ("no ledger", 1, vec![("COURSE_GC_LEDGER_URL", port(&addresses.postgres, nobody))]),
        ("qdrant's port for redis", 4, vec![("COURSE_GC_STORES_CACHE_URL", port(&addresses.redis, qdrant.port()))]),
        ("redis' port for qdrant", 4, vec![("COURSE_GC_STORES_VECTORS_URL", port(&addresses.qdrant, redis.port()))]),
        (
            "redis' port for postgres",
            1,
            vec![("COURSE_GC_LIVENESS_CAMPUS_URL", port(&addresses.postgres, redis.port()))],
        ),
        ("tls for redis", 4, vec![("COURSE_GC_STORES_CACHE_URL", addresses.redis.replace("redis:", "rediss:"))]),
        ("no database", 1, vec![("COURSE_GC_LIVENESS_CAMPUS_URL", format!("{}x", addresses.postgres))]),
        (
            "a wrong password",
            4,
            vec![("COURSE_GC_STORES_CACHE_URL", addresses.redis.replace(":hunter2", ":x-hunter2"))],
        ),
        ("a wrong key", 4, vec![("COURSE_GC_STORES_VECTORS_API_KEY", format!("x-{qdrant_secret}"))]),
        ("no url", 2, vec![("COURSE_GC_STORES_CACHE_URL", garbled(&addresses.redis))]),
        ("no url", 2, vec![("COURSE_GC_LIVENESS_CAMPUS_URL", garbled(&addresses.postgres))]),
        ("no host", 2, vec![("COURSE_GC_LEDGER_URL", addresses.postgres.replacen("://", ":///", 1))]),
        ("no //", 2, vec![("COURSE_GC_LEDGER_URL", addresses.postgres.replacen("//", "", 1))]),
        (
            "a / in the password",
            2,
            vec![("COURSE_GC_STORES_CACHE_URL", addresses.redis.replace(":hunter2", ":1/hunter2"))],
        ),
        (
            "another scheme",
            2,
            vec![("COURSE_GC_LIVENESS_CAMPUS_URL", addresses.postgres.replace("postgres://", "mysql://"))],
        ),
    ] {
        let answer =
            answer(&["--output", "json", "plan"], &[&variables[..], std::slice::from_ref(&trace)].concat()).await?;
        assert_eq!(answer.code, Some(code), "{broken}: {answer:?}");
        keeps_secrets(broken, &answer);
    }
    Ok(())
}

/// A program that was asked to end has ended then: well before the time of a call is up, which is ten seconds.
const IN_TIME: Duration = Duration::from_secs(6);

/// How many intents the ledger holds, and how many of them are open.
async fn intents(installation: &Installation) -> Result<(i64, i64)> {
    let count = "SELECT count(*), count(*) FILTER (WHERE closed_at IS NULL) FROM course_gc.intents";
    Ok(sqlx::query_as(count).fetch_one(&installation.stores.postgres).await?)
}

#[tokio::test]
async fn s11_sigterm_ends_a_sweep_after_the_batch_in_hand() -> Result<()> {
    let world = World::create().await?;
    let size = CampusSize { courses: 300, doomed: 60, points: 1, ..CampusSize::default() };
    let (installation, campus) = ripe(&world, size).await?;
    let before = Snapshot::take(&installation.stores).await?;
    let doomed: BTreeSet<_> =
        campus.gone(&campus.doomed()).into_iter().filter(|resource| before.contains(resource)).collect();

    // One key a batch, hundreds of them: the sweep takes a while.
    let mut command = installation.command(&["--output", "json", "run"]);
    let program =
        command.env("COURSE_GC_STORES_CACHE_BATCH", "1").stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let pid = Pid::from_raw(i32::try_from(program.id().context("it runs")?)?).context("no pid")?;
    eventually("the sweep is under way", async || Ok((intents(&installation).await?.0 > 20).then_some(()))).await?;
    kill_process(pid, Signal::TERM)?;
    let output = timeout(IN_TIME, program.wait_with_output()).await.context("it takes too long")??;

    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(output.status.code(), Some(4));
    assert_eq!((&report["verdict"], &report["stopped"]), (&"partly".into(), &true.into()));
    assert_eq!(intents(&installation).await?.1, 0, "every batch has its outcome");
    let difference = before.diff(&Snapshot::take(&installation.stores).await?);
    assert!(!difference.gone.is_empty() && difference.gone != doomed, "it was to stop in the middle");
    assert!(difference.gone.is_subset(&doomed) && difference.added.is_empty() && difference.changed.is_empty());
    let swept = &report["stores"].as_array().context("stores")?.iter().find(|store| store["name"] == "cache");
    let deleted: u64 = swept
        .and_then(|store| store["sources"].as_array())
        .context("sources")?
        .iter()
        .filter_map(|source| source["swept"]["deleted"].as_u64())
        .sum();
    let keys = difference.gone.iter().filter(|resource| matches!(resource, sandbox::Resource::Key(_))).count();
    assert_eq!(deleted, keys as u64, "it tells what it did");

    assert_eq!(json(&installation, &["run"]).await?.0, Some(0));
    let difference = before.diff(&Snapshot::take(&installation.stores).await?);
    assert_eq!(difference, Difference { gone: doomed, ..Difference::default() });
    Ok(())
}

#[tokio::test]
async fn sigterm_ends_a_run_that_waits_for_a_store() -> Result<()> {
    let redis = Redis::start().await?;
    let world = World::create().await?;
    let mut addresses = world.addresses();
    addresses.redis = redis.url();
    let installation = Installation::new(addresses, &Settings::default()).await?;
    Campus::plan(CampusSize { courses: 5, doomed: 0, ..CampusSize::default() }).seed(&installation.stores).await?;
    redis.pause()?;
    let mut command = installation.command(&["--output", "json", "run"]);
    let program = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let pid = Pid::from_raw(i32::try_from(program.id().context("it runs")?)?).context("no pid")?;
    let begun = "SELECT count(*) FROM course_gc.populations";
    eventually("it takes inventory", async || {
        let begun: i64 = sqlx::query_scalar(AssertSqlSafe(begun)).fetch_one(&installation.stores.postgres).await?;
        Ok((begun > 0).then_some(()))
    })
    .await?;
    kill_process(pid, Signal::TERM)?;
    let output = timeout(IN_TIME, program.wait_with_output()).await.context("it takes too long")??;
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((output.status.code(), &answer["error"]), (Some(4), &"stopped before any store was touched".into()));
    let (verdict, _): (Option<String>, bool) =
        sqlx::query_as("SELECT verdict, finished_at IS NOT NULL FROM course_gc.runs ORDER BY started_at DESC LIMIT 1")
            .fetch_one(&installation.stores.postgres)
            .await?;
    assert_eq!(verdict.as_deref(), Some("failed"), "its run has an end in the ledger");
    Ok(())
}
