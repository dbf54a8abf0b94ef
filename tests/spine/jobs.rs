//! Queues as a store: jobs of deleted courses go, and are brought back by the program itself, beside a store of keys in the same
//! Redis.

use anyhow::{Context, Result};
use course_gc::domain::report::Verdict;
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Bullmq, World};
use serde_json::{Value, json};

use crate::support::Installation;

pub const QUEUE: &str = "course-generation";

/// Adds a store of the queue to the configuration.
pub fn configure(installation: &Installation) -> Result<()> {
    let text = std::fs::read_to_string(installation.path())?;
    let (before, after) = text.split_once("quarantine:\n").context("no quarantine")?;
    let url = &installation.addresses.redis;
    let jobs = format!("  jobs:\n    kind: bullmq\n    url: {url}\n    queues: [{QUEUE}]\n");
    Ok(std::fs::write(installation.path(), format!("{before}{jobs}quarantine:\n{after}"))?)
}

/// How many jobs are in which state.
async fn counts(bullmq: &Bullmq) -> Result<Value> {
    let answers = bullmq.drive(json!([{ "do": "counts", "queue": QUEUE }])).await?;
    answers.into_iter().next().context("no counts")
}

#[tokio::test]
async fn s12_jobs_of_deleted_courses_go_and_come_back_into_their_states() -> Result<()> {
    let world = World::create().await?;
    let settings = Settings { departed: "0s".to_owned(), ..Settings::default() };
    let installation = Installation::new(world.addresses(), &settings).await?;
    configure(&installation)?;
    let campus = Campus::plan(CampusSize::default());
    campus.seed(&installation.stores).await?;
    let bullmq = Bullmq { major: 5, url: installation.addresses.redis.clone(), prefix: "bull".to_owned() };
    let live: Vec<String> =
        sqlx::query_scalar("SELECT id::text FROM public.courses").fetch_all(&installation.stores.postgres).await?;
    let mut steps = Vec::new();
    for course in &live {
        steps.push(json!({ "do": "add", "queue": QUEUE, "data": { "courseId": course } }));
        let delayed = json!({ "delay": 3_600_000, "jobId": format!("auto-{course}-stage4") });
        steps.push(json!({ "do": "add", "queue": QUEUE, "data": {}, "options": delayed }));
    }
    // A job of no course: a career playbook's.
    steps.push(json!({ "do": "add", "queue": QUEUE, "data": { "playbook": 7 } }));
    bullmq.drive(Value::Array(steps)).await?;
    let first = installation.run().await?;
    assert_eq!((first.verdict, first.swept().deleted), (Verdict::Clean, 0), "{first:?}");

    campus.delete_doomed(&installation.stores).await?;
    let before = counts(&bullmq).await?;
    let report = installation.run().await?;
    assert_eq!(report.verdict, Verdict::Done, "{report:?}");
    let doomed = campus.doomed().len();
    let jobs = report.stores.iter().find(|store| store.name == "jobs").context("no jobs")?;
    assert_eq!(jobs.swept().deleted as usize, 2 * doomed, "{jobs:?}");
    let after = counts(&bullmq).await?;
    assert_eq!((&after["waiting"], &after["delayed"]), (&json!(live.len() - doomed + 1), &json!(live.len() - doomed)));

    let run = report.run.to_string();
    for arguments in [&["quarantine", "verify"][..], &["restore", "--run", &run]] {
        let answer = installation.program(arguments).await?;
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    assert_eq!(counts(&bullmq).await?, before, "each in the state in which it was");
    let worked = bullmq.drive(json!([{ "do": "work", "queues": [QUEUE], "count": live.len() + 1 }])).await?;
    assert_eq!(worked[0].as_array().map(Vec::len), Some(live.len() + 1), "a worker takes all that wait");
    Ok(())
}
