//! Whose a job is (S5). Input: a job's id, an empty line, and then its data.

use course_gc::stores::bullmq::owner::Reading;
use course_gc::stores::template::Template;

use crate::ids::types;
use crate::input::head_and_rest;

/// Checks whom a job names.
///
/// # Panics
/// If a property does not hold.
pub fn check(input: &[u8]) {
    let (lines, data) = head_and_rest(input);
    let job_id = lines.first().copied().unwrap_or_default().as_bytes();
    for id_type in types() {
        let templates = ["auto-{course_id}-stage*", "generation-{course_id}"];
        let reading = Reading {
            pointers: vec!["/courseId".to_owned(), "/course_id".to_owned()],
            job_ids: templates.iter().filter_map(|text| Template::compile(text).ok()).collect(),
            id_type,
        };
        for data in [None, Some(data)] {
            let Some(named) = reading.read(job_id, data) else { continue };
            let written = |text: &[u8], place: &[u8]| place.windows(text.len()).any(|window| window == text);
            let owner = named.owner.to_string();
            let stands = written(owner.as_bytes(), job_id) || data.is_some_and(|data| written(owner.as_bytes(), data));
            assert!(stands, "{owner} is nowhere written so");
            assert!(!named.mentions.contains(&named.owner), "the owner is not its own mention");
            let seen = id_type.mentions(job_id).into_iter().chain(id_type.mentions(data.unwrap_or_default()));
            for id in seen {
                assert!(named.all().any(|all| all == id), "{id} is mentioned, and nobody was told");
            }
        }
    }
}
