//! What BullMQ's keys are called, and which queue is whose source. Pure.

use crate::domain::inventory::SourceIndex;
use crate::stores::pattern::matches;

/// Keys of a queue itself, besides those that begin with [`OWN`].
const STRUCTURES: [&[u8]; 17] = [
    b"wait",
    b"active",
    b"paused",
    b"prioritized",
    b"delayed",
    b"completed",
    b"failed",
    b"waiting-children",
    b"marker",
    b"repeat",
    b"stalled",
    b"id",
    b"pc",
    b"stalled-check",
    b"limiter",
    b"meta",
    b"events",
];
/// What other keys of a queue itself begin with.
const OWN: [&[u8]; 3] = [b"de:", b"dn:", b"metrics:"];
/// What lies beside a job's hash.
const BESIDE: [&[u8]; 6] = [b":lock", b":logs", b":dependencies", b":processed", b":failed", b":unsuccessful"];
/// What the keys of schedulers, and the ids of their jobs, begin with.
pub(super) const SCHEDULED: &[u8] = b"repeat:";

/// The queues of a store.
#[derive(Debug, Clone)]
pub(super) struct Queues {
    /// `bull:`.
    prefix: Vec<u8>,
    /// By source: a name with `*` for any text.
    patterns: Vec<String>,
}

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// Not BullMQ's.
    Foreign,
    /// Under the prefix, and of no source.
    Unclaimed,
    /// A queue's list of jobs that are being worked on.
    Active(Queue<'a>),
    /// A queue's schedulers.
    Schedulers(Queue<'a>),
    /// The lock of a job, whose id this is.
    Lock(Queue<'a>, &'a [u8]),
    /// Another part of a queue.
    Part,
    /// Perhaps a job's or a scheduler's hash; its id, or `repeat:` and the scheduler's.
    Job(Queue<'a>, &'a [u8]),
}

/// The queue that a key is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Queue<'a> {
    /// Which source claims it.
    pub(super) source: SourceIndex,
    /// `bull:{queue}:`
    pub(super) base: &'a [u8],
}

impl Queues {
    pub(super) fn new(prefix: &str, patterns: Vec<String>) -> Self {
        Self { prefix: format!("{prefix}:").into_bytes(), patterns }
    }

    /// `bull:`
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// What a key is, by its name.
    pub(super) fn read<'a>(&self, key: &'a [u8]) -> Key<'a> {
        let Some(rest) = key.strip_prefix(&self.prefix[..]) else { return Key::Foreign };
        let Some(end) = rest.iter().position(|byte| *byte == b':') else { return Key::Unclaimed };
        let Some(source) = self.source(&rest[..end]) else { return Key::Unclaimed };
        let (base, id) = key.split_at(self.prefix.len() + end + 1);
        let queue = Queue { source, base };
        match id {
            b"" => Key::Unclaimed,
            b"active" => Key::Active(queue),
            b"repeat" => Key::Schedulers(queue),
            _ if STRUCTURES.contains(&id) || OWN.iter().any(|own| id.starts_with(own)) => Key::Part,
            _ => match beside(id) {
                Some((job, b":lock")) => Key::Lock(queue, job),
                Some(_) => Key::Part,
                None => Key::Job(queue, id),
            },
        }
    }

    fn source(&self, queue: &[u8]) -> Option<SourceIndex> {
        self.patterns.iter().position(|pattern| matches(pattern.as_bytes(), queue)).map(SourceIndex)
    }
}

/// The job's id and what lies beside its hash, if this is no job's own id. A scheduler may be called what it likes; only its
/// jobs, which end with a time, have something beside them.
fn beside(id: &[u8]) -> Option<(&[u8], &'static [u8])> {
    let (job, beside) = BESIDE.into_iter().find_map(|beside| Some((id.strip_suffix(beside)?, beside)))?;
    let scheduler = job.strip_prefix(SCHEDULED).is_some_and(|name| !ends_with_a_time(name));
    (!job.is_empty() && job != b"repeat" && !scheduler).then_some((job, beside))
}

/// True of `{scheduler id}:{ms}`.
fn ends_with_a_time(name: &[u8]) -> bool {
    let last = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
    last.len() < name.len() && !last.is_empty() && last.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues() -> Queues {
        Queues::new("bull", vec!["course-generation".into(), "qdrant-reindex-*".into()])
    }

    fn job(key: &str) -> Option<(usize, String)> {
        match queues().read(key.as_bytes()) {
            Key::Job(queue, id) => Some((queue.source.0, String::from_utf8(id.to_vec()).unwrap())),
            _ => None,
        }
    }

    #[test]
    fn jobs_are_told_from_what_lies_beside_them() {
        assert_eq!(job("bull:course-generation:7"), Some((0, "7".into())));
        assert_eq!(job("bull:qdrant-reindex-x:auto-x"), Some((1, "auto-x".into())));
        assert_eq!(job("bull:course-generation:repeat:nightly:17"), Some((0, "repeat:nightly:17".into())));
        assert_eq!(job("bull:course-generation:repeat:logs"), Some((0, "repeat:logs".into())));
        assert_eq!(job("bull:course-generation:repeat:a:lock"), Some((0, "repeat:a:lock".into())));
        for part in
            ["7:logs", "7:dependencies", "meta", "wait", "repeat:nightly:17:logs", "de:x:logs", "metrics:completed"]
        {
            assert_eq!(queues().read(format!("bull:course-generation:{part}").as_bytes()), Key::Part, "{part}");
        }
        let queue = Queue { source: SourceIndex(0), base: b"bull:course-generation:" };
        assert_eq!(queues().read(b"bull:course-generation:7:lock"), Key::Lock(queue, b"7"));
        assert_eq!(queues().read(b"bull:course-generation:active"), Key::Active(queue));
        assert_eq!(queues().read(b"bull:course-generation:repeat"), Key::Schedulers(queue));
        assert_eq!(queues().read(b"bull:course-generation"), Key::Unclaimed);
        assert_eq!(queues().read(b"bull:course-generation-dev:7"), Key::Unclaimed);
        assert_eq!(queues().read(b"bullet:course-generation:7"), Key::Foreign);
    }
}
