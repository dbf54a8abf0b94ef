//! Dead courses' jobs go.

use std::ops::Range;
use std::sync::Mutex;

use anyhow::{Context, Result};
use futures::FutureExt;
use sandbox::{Bullmq, Redis};
use serde_json::{Value, json};

use super::slowlog;
use crate::bed::Bed;
use crate::contest::{Contest, Timed, alone};
use crate::ids;
use crate::ours::Part;
use crate::report::{Row, Target};
use crate::size::Size;
use crate::task::Task;

const OURS: &str = "course-generation";
const THEIRS: &str = "stage6-lesson-content";
/// How many jobs a course has.
const EACH: u64 = 100;
/// The longest that a call may keep the server from everybody else, in milliseconds.
const LONGEST: f64 = 5.0;

pub(super) async fn measure(size: Size, rounds: u32) -> Result<Row> {
    let (all, dead) = size.of((1_000, 200), (20_000, 2_000), (100_000, 10_000));
    let (live, dead) = ((all - dead) / EACH, dead / EACH);
    let bed = Bed::with_courses(0..live).await?;
    let redis = Redis::start().await?;
    let bullmq = Bullmq { major: 5, url: redis.url(), prefix: "bull".into() };
    for queue in [OURS, THEIRS] {
        fill(&bullmq, queue, 0..live).await?;
    }
    let queue = format!("    - {{ name: {OURS}, exclusive: true }}\n");
    bed.adopt(&format!("jobs:\n  kind: bullmq\n  url: {}\n  quarantine: false\n  queues:\n{queue}", redis.url()))
        .await?;

    let the_dead = |round: u32| {
        let first = live + u64::from(round) * dead;
        first..first + dead
    };
    let (run, bullmq, redis) = (Task::Run(bed.config(), Part::Sweep), &bullmq, &redis);
    let slowest = Mutex::new(Vec::new());
    let lanes = Contest::new(rounds, vec![redis.pid()?])
        .enter("ours", |_| {
            async {
                let timed = alone(&run).await?;
                let took = slowlog::slowest(redis)?;
                slowest.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.push(took);
                Ok(timed)
            }
            .boxed_local()
        })
        .prepared(|round| {
            async move {
                fill(bullmq, OURS, the_dead(round)).await?;
                slowlog::forget(redis)
            }
            .boxed_local()
        })
        .enter("job.remove(), one by one", |round| remove(bullmq, the_dead(round)).boxed_local())
        .prepared(|round| fill(bullmq, THEIRS, the_dead(round)).boxed_local())
        .hold()
        .await?;
    let slowest = slowest.into_inner().map_err(|_| anyhow::anyhow!("poisoned"))?;
    let (slowest, call) = slowlog::of_rounds(&slowest);
    let what = format!("{} dead jobs of {dead} courses in {} jobs, quarantine off", dead * EACH, (live + dead) * EACH);
    let row = Row::new("bullmq sweep", what, lanes).agree(&["job.remove(), one by one"])?.faster(
        "ours",
        20.0,
        "job.remove(), one by one",
    )?;
    Ok(row.number(&format!("ms, the slowest call of ours by SLOWLOG ({call})"), slowest, Some(Target::AtMost(LONGEST))))
}

fn id(course: u64) -> String {
    format!("job-{course}")
}

/// Adds these courses' jobs as BullMQ does.
async fn fill(bullmq: &Bullmq, queue: &str, courses: Range<u64>) -> Result<()> {
    let courses: Vec<u64> = courses.collect();
    for courses in courses.chunks(100) {
        let step = |course: &u64| {
            let data = json!({ "courseId": ids::course(*course).to_string(), "text": "x".repeat(200) });
            json!({ "do": "fill", "queue": queue, "count": EACH, "id": id(*course), "data": data })
        };
        bullmq.drive(Value::Array(courses.iter().map(step).collect())).await?;
    }
    Ok(())
}

/// Removes these courses' jobs by BullMQ; that they have to be found is not counted.
async fn remove(bullmq: &Bullmq, courses: Range<u64>) -> Result<Timed> {
    let all = courses.end - courses.start;
    let step = |course: u64| json!({ "do": "removeAll", "queue": THEIRS, "count": EACH, "id": id(course) });
    let answers = bullmq.drive(Value::Array(courses.map(step).collect())).await?;
    let seconds = answers.iter().map(|answer| answer.as_f64().context("no seconds")).sum::<Result<f64>>()?;
    Ok(Timed { seconds, resources: all * EACH, ..Timed::default() })
}
