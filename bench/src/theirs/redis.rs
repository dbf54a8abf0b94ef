//! SCAN and UNLINK, by a client that blocks: nothing else has to be done meanwhile.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Instant;

use anyhow::Result;
use redis::{Client, Connection};
use uuid::Uuid;

use crate::contest::Timed;
use crate::ids;

/// How many keys one call looks at, as ours do by default.
pub(crate) const COUNT: u32 = 100;
/// As many as whoever does not care about others would take.
const MANY: u32 = 1000;
/// How many keys go in one pipeline.
const PIPELINE: usize = 1000;

/// Visits all keys, page by page.
fn each_page(
    connection: &mut Connection,
    count: u32,
    pattern: Option<&str>,
    mut visit: impl FnMut(Vec<Vec<u8>>) -> Result<()>,
) -> Result<()> {
    let mut cursor = 0u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor);
        if let Some(pattern) = pattern {
            scan.arg("MATCH").arg(pattern);
        }
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.arg("COUNT").arg(count).query(connection)?;
        visit(keys)?;
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// The bare loop: as if one only wanted to have seen every key.
pub(crate) fn scan(url: &str, count: u32) -> Result<Timed> {
    let mut connection = Client::open(url)?.get_connection()?;
    let began = Instant::now();
    let mut resources = 0;
    each_page(&mut connection, count, None, |keys| {
        resources += keys.len() as u64;
        Ok(())
    })?;
    Ok(Timed { seconds: began.elapsed().as_secs_f64(), resources, ..Timed::default() })
}

/// A delete path's way: for each course a scan of its own that unlinks what matches.
pub(crate) fn scan_for_each(url: &str, courses: &[Uuid]) -> Result<Timed> {
    let mut connection = Client::open(url)?.get_connection()?;
    let began = Instant::now();
    let mut resources = 0;
    for course in courses {
        let mut found = Vec::new();
        each_page(&mut connection, MANY, Some(&format!("*{course}*")), |keys| {
            found.extend(keys);
            Ok(())
        })?;
        resources += unlink(&mut connection, &found)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Timed { seconds, courses: courses.len() as u64, resources, ..Timed::default() })
}

/// One scan, and then everything at once that has one of these ids as a part.
pub(crate) fn scan_and_unlink(url: &str, dead: Range<u64>) -> Result<Timed> {
    let dead: HashSet<Uuid> = dead.map(ids::course).collect();
    let mut connection = Client::open(url)?.get_connection()?;
    let began = Instant::now();
    let mut found = Vec::new();
    each_page(&mut connection, MANY, None, |keys| {
        found.extend(keys.into_iter().filter(|key| names_one(key, &dead)));
        Ok(())
    })?;
    let resources = unlink(&mut connection, &found)?;
    Ok(Timed { seconds: began.elapsed().as_secs_f64(), resources, ..Timed::default() })
}

/// The templates that are seeded have the id after a colon or after `generation-`.
fn names_one(key: &[u8], dead: &HashSet<Uuid>) -> bool {
    let after_colons = key.split(|byte| *byte == b':');
    let candidates = after_colons.map(|part| part.strip_prefix(b"generation-").unwrap_or(part));
    candidates.filter_map(|part| Uuid::try_parse_ascii(part.get(..36)?).ok()).any(|id| dead.contains(&id))
}

fn unlink(connection: &mut Connection, keys: &[Vec<u8>]) -> Result<u64> {
    let mut removed = 0;
    for keys in keys.chunks(PIPELINE) {
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("UNLINK").arg(key);
        }
        removed += pipeline.query::<Vec<u64>>(connection)?.iter().sum::<u64>();
    }
    Ok(removed)
}
