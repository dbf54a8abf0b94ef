//! A Redis with courses' keys.

use std::ops::Range;

use anyhow::Result;
use redis::Client;
use sandbox::Redis;

use crate::ids;

/// The shapes of the keys. Two have one key a course, the others as many as it takes.
pub(super) const TEMPLATES: [&str; 8] = [
    "phase1_cache:{course_id}",
    "generation:lock:{course_id}",
    "file_cache:{course_id}:*",
    "lesson_md:{course_id}:*",
    "lesson:uuid:{course_id}:*",
    "doc_class:v2:{course_id}:*",
    "rag:{course_id}:*",
    "idempotency:generation-{course_id}-*",
];

/// How many keys are written at once.
const TOGETHER: usize = 5_000;

/// The configuration of a store of such keys.
pub(super) fn store(redis: &Redis, quarantine: bool) -> String {
    let template = |template: &&str| format!("    - {{ template: \"{template}\", exclusive: true }}\n");
    let templates: String = TEMPLATES.iter().map(template).collect();
    format!("cache:\n  kind: redis\n  url: {}\n  quarantine: {quarantine}\n  templates:\n{templates}", redis.url())
}

/// Writes so many keys for each of these courses, by their numbers. Blocks.
pub(super) fn seed(redis: &Redis, courses: Range<u64>, each: u64) -> Result<()> {
    let mut connection = Client::open(redis.url())?.get_connection()?;
    let (mut write, mut waiting) = (redis::cmd("MSET"), 0);
    for course in courses.map(ids::course) {
        for n in 0..each {
            let at = if n < 2 { n as usize } else { 2 + (n as usize - 2) % (TEMPLATES.len() - 2) };
            let shape = TEMPLATES.get(at).copied().unwrap_or_default();
            let key = shape.replace("{course_id}", &course.to_string()).replace('*', &format!("{n}"));
            write.arg(key).arg("of a course");
            waiting += 1;
            if waiting == TOGETHER {
                write.query::<()>(&mut connection)?;
                (write, waiting) = (redis::cmd("MSET"), 0);
            }
        }
    }
    if waiting > 0 {
        write.query::<()>(&mut connection)?;
    }
    Ok(())
}
