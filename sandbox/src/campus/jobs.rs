//! BullMQ's jobs: what waits, what failed and was kept for ever, flows, schedulers, and one that is being worked on.

use serde_json::{Value, json};

use super::{
    Course, CourseId, Owner,
    plan::{Planner, id_value, parted},
    traps::uncanonical,
};

/// The queues that hold courses' jobs; `*` is anything.
pub const QUEUES: [&str; 4] = ["course-generation", "stage6-lesson-content", "stage7-enrichments", "qdrant-reindex-*"];

const GENERATION: &str = QUEUES[0];
const LESSONS: &str = QUEUES[1];
const ENRICHMENTS: &str = QUEUES[2];
/// Another environment's, in the same Redis.
const DEVELOPMENT: &str = "course-generation-dev";
const HOUR_MS: u64 = 3_600_000;

/// A job, or a scheduler.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The queue's name.
    pub queue: String,
    /// Its id. Numbers are those that BullMQ will give.
    pub id: String,
    /// What it is about.
    pub data: Value,
    /// What becomes of it once it is added.
    pub state: JobState,
    /// Whose it is.
    pub owner: Owner,
}

/// What becomes of a job once it is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits.
    Waiting,
    /// It waits for an hour to pass.
    Delayed,
    /// It was tried, and failed.
    Failed,
    /// A worker took it, and holds its lock.
    Active,
    /// It waits for the job that comes next in [`super::Campus::jobs`].
    Parent,
    /// The job that the one before it waits for.
    Child,
    /// It is no job but a scheduler, which has its next job added.
    Scheduler,
}

impl Job {
    /// The ids of what it consists of: a scheduler has its next job beside it.
    pub fn ids(&self) -> Vec<String> {
        match self.state {
            JobState::Scheduler => vec![format!("repeat:{}", self.id), format!("repeat:{}:next", self.id)],
            _ => vec![self.id.clone()],
        }
    }
}

/// The pattern of [`QUEUES`] that claims a queue.
pub(crate) fn source(queue: &str) -> Option<&'static str> {
    let claims = |pattern: &&&str| match pattern.strip_suffix('*') {
        Some(prefix) => queue.starts_with(prefix),
        None => queue == **pattern,
    };
    QUEUES.iter().find(claims).copied()
}

pub(super) fn plan(planner: &mut Planner) {
    let (doomed, staying) = parted(&planner.campus);
    let ids = |courses: &[Course]| courses.iter().map(|course| course.id).collect::<Vec<CourseId>>();
    let (dead, live) = (ids(&doomed), ids(&staying));

    // The first in their queue, so that a worker takes just them, and BullMQ counts them from 1.
    if let Some(worked_on) = dead.get(WORKED_ON) {
        planner.job(GENERATION, "1", about(*worked_on), JobState::Active, Owner::Course(*worked_on));
    }
    let courses: Vec<CourseId> = planner.campus.courses.iter().map(|course| course.id).collect();
    for id in &courses {
        let (lesson, owner) = (planner.random.uuid(), Owner::Course(*id));
        planner.job(GENERATION, &format!("auto-{id}-stage4"), about(*id), JobState::Failed, owner.clone());
        let lessons = format!("auto-{id}-stage6-lesson-{lesson}");
        planner.job(LESSONS, &lessons, about(*id), JobState::Waiting, owner.clone());
        let enrichment = format!("enrich-{}", planner.random.uuid());
        let data = json!({ "course_id": id_value(*id), "kind": "card" });
        planner.job(ENRICHMENTS, &enrichment, data, JobState::Delayed, owner);
    }
    others(planner);
    odd_ones(planner, &dead, &live);
    flows(planner, &dead, &live);
    schedulers(planner, &dead, &live);
}

/// The doomed course of which a job is being worked on. It has no other trap.
const WORKED_ON: usize = 4;

fn about(id: CourseId) -> Value {
    json!({ "courseId": id_value(id), "stage": 4 })
}

/// Another environment's, in its own queue and in ours.
fn others(planner: &mut Planner) {
    for id in planner.campus.foreign.clone() {
        let job = format!("auto-{id}-stage4");
        planner.job(DEVELOPMENT, &job, about(id), JobState::Waiting, Owner::Nobody);
        planner.job(LESSONS, &job, about(id), JobState::Waiting, Owner::Course(id));
    }
}

fn odd_ones(planner: &mut Planner, dead: &[CourseId], live: &[CourseId]) {
    let playbook = planner.random.uuid();
    let data = json!({ "playbookId": playbook });
    planner.job(GENERATION, &format!("playbook-{playbook}"), data, JobState::Waiting, Owner::Unrecognised);
    for id in dead.iter().take(2) {
        // The id of an outbox's row, which is no course.
        let outbox = planner.random.uuid().to_string();
        planner.job(GENERATION, &outbox, about(*id), JobState::Waiting, Owner::Course(*id));
        // A queue of its own, for a while.
        let queue = format!("qdrant-reindex-{}", planner.random.uuid());
        planner.job(&queue, "1", about(*id), JobState::Waiting, Owner::Course(*id));
        for (number, text) in uncanonical(*id).into_iter().enumerate() {
            let job = format!("lenient-{number}-{}", planner.random.uuid());
            planner.job(LESSONS, &job, json!({ "courseId": text }), JobState::Waiting, Owner::Unrecognised);
        }
    }
    for (dead, live) in dead.iter().zip(live).take(2) {
        let data = json!({ "courseId": [id_value(*dead), id_value(*live)], "task": "merge" });
        let job = format!("merge-{}", planner.random.uuid());
        planner.job(ENRICHMENTS, &job, data, JobState::Delayed, Owner::Courses(vec![*dead, *live]));
    }
}

/// A flow goes as a whole, or stays as a whole.
fn flows(planner: &mut Planner, dead: &[CourseId], live: &[CourseId]) {
    let mut flow = |of: CourseId, with: CourseId| {
        let owner = |id: CourseId, other: CourseId| match id == other || live.contains(&id) {
            true => Owner::Course(id),
            false => Owner::Courses(vec![id, other]),
        };
        let (parent, child) = (planner.random.uuid(), planner.random.uuid());
        planner.job(GENERATION, &format!("course-{parent}"), about(of), JobState::Parent, owner(of, with));
        planner.job(LESSONS, &format!("lesson-{child}"), about(with), JobState::Child, owner(with, of));
    };
    if let ([first, second, third, ..], [one, ..]) = (dead, live) {
        flow(*first, *first);
        flow(*one, *one);
        flow(*second, *one);
        flow(*one, *third);
    }
}

fn schedulers(planner: &mut Planner, dead: &[CourseId], live: &[CourseId]) {
    for id in dead.iter().take(2).chain(live.first()) {
        planner.job(ENRICHMENTS, &format!("refresh-{id}"), about(*id), JobState::Scheduler, Owner::Course(*id));
    }
    planner.job(ENRICHMENTS, "nightly", json!({ "task": "statistics" }), JobState::Scheduler, Owner::Unrecognised);
}

impl Planner {
    fn job(&mut self, queue: &str, id: &str, data: Value, state: JobState, owner: Owner) {
        self.campus.jobs.push(Job { queue: queue.to_owned(), id: id.to_owned(), data, state, owner });
    }
}

/// The steps of `drive.mjs` that add these jobs, in their order; `expected` is the answer that is due to one.
pub(super) fn steps(jobs: &[Job]) -> Value {
    let mut steps = Vec::new();
    let mut rest = jobs.iter();
    while let Some(job) = rest.next() {
        let Job { queue, id, data, state, .. } = job;
        let is_number = id.bytes().all(|byte| byte.is_ascii_digit());
        let mut options = if is_number { json!({}) } else { json!({ "jobId": id }) };
        match state {
            JobState::Parent => {
                let child = rest.as_slice().first().filter(|next| next.state == JobState::Child);
                let children = child.map(|child| {
                    let options = json!({ "jobId": child.id });
                    json!({ "name": "child", "queueName": child.queue, "data": child.data, "opts": options })
                });
                let children: Vec<Value> = children.into_iter().collect();
                let flow = json!({ "name": "parent", "queueName": queue, "data": data, "opts": options, "children": children });
                steps.push(json!({ "do": "flow", "flow": flow }));
            }
            // It comes with its parent.
            JobState::Child => {}
            JobState::Scheduler => {
                steps.push(json!({ "do": "schedule", "queue": queue, "id": id, "every": 24 * HOUR_MS, "data": data }));
            }
            JobState::Waiting | JobState::Delayed | JobState::Failed | JobState::Active => {
                if *state == JobState::Delayed {
                    options["delay"] = json!(HOUR_MS);
                }
                steps.push(json!({ "do": "add", "queue": queue, "data": data, "options": options, "expected": id }));
            }
        }
        let end = match state {
            JobState::Failed => "failed",
            JobState::Active => "active",
            _ => continue,
        };
        steps.push(json!({ "do": "take", "queue": queue, "end": end, "expected": id }));
    }
    Value::Array(steps)
}
