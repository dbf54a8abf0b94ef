//! Dead courses' directories go: by a rename, and for good when their copy expires.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use anyhow::{Result, ensure};
use futures::FutureExt;
use futures::future::{LocalBoxFuture, ready};
use sandbox::program;

use super::files;
use crate::bed::Bed;
use crate::contest::{Contest, Timed, alone, outside};
use crate::ours::Part;
use crate::report::Row;
use crate::size::Size;
use crate::task::Task;

/// How many files a directory has.
const FILES: u64 = 20;
/// Live courses beside the dead ones.
const LIVE: u64 = 100;

pub(super) async fn measure(size: Size, rounds: u32) -> Result<Row> {
    let dead = size.of(50, 2_000, 10_000);
    let bed = Bed::with_courses(0..LIVE).await?;
    let (ours, theirs, list) = (bed.folder().join("uploads"), bed.folder().join("others"), bed.folder().join("list"));
    files::seed(&ours, 0..LIVE, FILES)?;
    bed.adopt(&files::store(&ours, true)).await?;

    let the_dead = |round: u32| {
        let first = LIVE + u64::from(round) * dead;
        first..first + dead
    };
    let seed = |root: &Path, round: u32| -> LocalBoxFuture<'static, Result<()>> {
        ready(files::seed(root, the_dead(round), FILES)).boxed_local()
    };
    let (rename, purge) = (Task::Run(bed.config(), Part::Sweep), Task::Run(bed.config(), Part::Purge));
    let (ours, theirs, list) = (&ours, &theirs, &list);
    let mut all = Vec::new();
    // A purge follows its own rename, so the order is the same in each round.
    for round in 0..rounds {
        let lanes = Contest::new(1, vec![])
            .enter("ours, rename", |_| alone(&rename).boxed_local())
            .prepared(|_| seed(ours, round))
            .enter("rm -rf", |_| remove(list, theirs, the_dead(round)).boxed_local())
            .prepared(|_| seed(theirs, round))
            .enter("ours, purge", |_| alone(&purge).boxed_local())
            // By then the copies have expired, and so have those that begin with an earlier second.
            .prepared(|_| tokio::time::sleep(std::time::Duration::from_millis(1100)).map(Ok).boxed_local())
            .hold()
            .await?;
        all.push(lanes);
    }
    let mut lanes = all.remove(0);
    for more in all {
        for (lane, more) in lanes.iter_mut().zip(more) {
            lane.seconds.extend(more.seconds);
        }
    }
    let left = std::fs::read_dir(ours.join(".course-gc/quarantine")).map_or(0, Iterator::count);
    ensure!(left == 0, "{left} copies are there after they were purged");
    Row::new("files sweep", format!("{dead} directories of {FILES} files"), lanes)
        .agree(&["rm -rf"])?
        .faster("ours, rename", 10.0, "rm -rf")?
        .at_most("ours, purge", 1.0, "rm -rf")
}

/// Removes them all by one `rm -rf`, or a few where their names are too many for one.
async fn remove(list: &Path, root: &Path, dead: Range<u64>) -> Result<Timed> {
    let resources = (dead.end - dead.start) * FILES;
    let mut names = String::new();
    for course in dead {
        let _ = writeln!(names, "{}", files::directory(root, course).display());
    }
    std::fs::write(list, names)?;
    let timed = outside(program("xargs")?, &["rm", "-rf"], Some(list)).await?;
    Ok(Timed { resources, ..timed })
}
