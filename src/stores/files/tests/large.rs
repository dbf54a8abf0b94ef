//! Directories of very many entries, in memory that does not grow with them.

use super::kept::{copies, sweep};
use super::*;
use crate::stores::copies::{PutBack, Restoring};

/// How much more memory ten times as much may take: what the allocator keeps back.
const MORE_KIB: u64 = 1024;
/// In bytes, what the set of live courses takes while it is made.
const PER_LIVE_COURSE: u64 = 32;

/// The most memory that this process ever had, in KiB.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A folder in memory, where this machine has such a place: on a disk it takes minutes to make so many files.
fn in_memory() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// A name of a hundred bytes, without an id.
fn entry(n: usize) -> String {
    format!("{n:0>100}")
}

/// A course with so many files in one directory, and half as many directories in another: looked at, in part and as a whole
/// moved to quarantine, merged back, and removed.
async fn one_large_course(count: usize) {
    let references = ReferenceSettings { query: String::new(), strip_prefix: None, absolute_roots: Vec::new() };
    let bed = Bed::at(in_memory(), "{course_id}", Some(references));
    let home = bed.root().join(A);
    for folder in ["files", "folders"] {
        fs::create_dir_all(home.join(folder)).unwrap();
    }
    for n in 0..count {
        fs::write(home.join("files").join(entry(n)), "").unwrap();
        if n % 2 == 0 {
            fs::create_dir(home.join("folders").join(entry(n))).unwrap();
        }
    }
    assert_eq!(bed.found(A).await.amount.resources, count as u64);
    // Apart from one file, each entry is moved, and merged back.
    let kept = format!("{A}/files/{}", entry(count / 2)).into_bytes();
    let paths = futures::stream::iter([Ok(kept)]).boxed();
    let referenced = bed.store.referenced(&[id(A)].into(), paths).await.unwrap();
    let handles = bed.locate(&[A]).await;
    let safe = crate::stores::copies::Safe { id: kept::copy_id(1), receipts: vec![Receipt::default()] };
    let batch = Condemned::for_test_except(handles, Some(safe), referenced, Duration::from_secs(3600));
    let outcomes = bed.store.delete(&batch).await.outcomes;
    assert!(matches!(outcomes[..], [Outcome::Partly { left: 1, .. }]), "{outcomes:?}");
    assert_eq!(bed.remaining(A).await, 1);
    let copy = copies(&bed).await.remove(0);
    assert_eq!(copy.resources, count as u64 - 1);
    assert_eq!(InPlace::put_back(&bed.store, &copy, Restoring::Look).await, PutBack::Restored);
    assert_eq!(InPlace::put_back(&bed.store, &copy, Restoring::Missing).await, PutBack::Restored);
    assert_eq!(bed.remaining(A).await, count as u64);
    sweep(&bed, A, 2).await;
    let copy = copies(&bed).await.remove(0);
    assert_eq!(copy.resources, count as u64);
    bed.store.purge(&copy, &kept::still_good()).await.unwrap();
    assert_eq!((copies(&bed).await, bed.root().join(A).exists()), (vec![], false));
}

/// So many courses' directories, of which one is dead.
async fn many_courses(count: usize) {
    let bed = Bed::at(in_memory(), BY_ORGANIZATION, None);
    let organization = bed.root().join("acme");
    fs::create_dir(&organization).unwrap();
    let ids = || (1..=count as u128).map(Uuid::from_u128);
    for course in ids() {
        fs::create_dir(organization.join(course.to_string())).unwrap();
    }
    bed.write(format!("acme/{A}/a"), "a");
    let live = LiveSet::from_ids(IdType::Uuid, ids().map(CourseId::Uuid));
    let mut census = Census::new(Arc::new(live), 1);
    bed.store.inventory(&mut census).await.unwrap();
    let inventory = census.finish();
    assert_eq!((inventory.sources[0].dead.len(), inventory.sources[0].live_courses), (1, count as u64));
    let outcomes = sweep(&bed, A, 1).await;
    assert!(matches!(outcomes[..], [Outcome::Deleted { resources: 1, .. }]), "{outcomes:?}");
    assert_eq!(bed.remaining(A).await, 0);
}

/// Ten times as much must take no more memory. Each is a process of its own, whose peak is its own.
async fn takes_no_more(test: &str, (count, bytes_each): (usize, u64), job: impl AsyncFn(usize)) {
    if !inside() {
        assert!(again_behind(&["env"], test));
        return;
    }
    job(count / 10).await;
    let before = peak_kib();
    job(count).await;
    let after = peak_kib();
    println!("{test}: peak of {before} KiB with {}, {after} KiB with {count}", count / 10);
    let most = before + MORE_KIB + (count - count / 10) as u64 * bytes_each / 1024;
    assert!(after <= most, "{before} KiB have become {after} KiB");
}

#[tokio::test]
async fn a_course_of_very_many_entries_takes_no_more_memory() {
    takes_no_more("large::a_course_of_very_many_entries_takes_no_more_memory", (30_000, 0), one_large_course).await;
}

#[tokio::test]
async fn very_many_courses_take_no_more_memory() {
    takes_no_more("large::very_many_courses_take_no_more_memory", (100_000, PER_LIVE_COURSE), many_courses).await;
}

/// `make deep ONLY=files`.
#[tokio::test]
#[ignore = "makes millions of files"]
async fn a_course_of_a_million_entries_takes_no_more_memory() {
    takes_no_more("large::a_course_of_a_million_entries_takes_no_more_memory", (1_000_000, 0), one_large_course).await;
}

/// `make deep ONLY=files`.
#[tokio::test]
#[ignore = "makes a million directories"]
async fn a_million_courses_take_no_more_memory() {
    takes_no_more("large::a_million_courses_take_no_more_memory", (1_000_000, PER_LIVE_COURSE), many_courses).await;
}

/// The names of files are ids themselves on the platform: each is somebody else's, as far as anybody knows.
#[tokio::test]
async fn s12_a_copy_whose_names_hold_very_many_ids_can_be_listed_and_comes_back() {
    let bed = Bed::at(in_memory(), "{course_id}", None);
    let home = bed.root().join(A);
    fs::create_dir(&home).unwrap();
    const COUNT: usize = 40_000;
    for n in 0..COUNT {
        fs::write(home.join(format!("{}.pdf", Uuid::from_u128(n as u128))), "").unwrap();
    }
    sweep(&bed, A, 1).await;
    let copy = copies(&bed).await.remove(0);
    assert_eq!((copy.resources, copy.mentions.len()), (COUNT as u64, COUNT));
    assert_eq!(InPlace::put_back(&bed.store, &copy, Restoring::Missing).await, PutBack::Restored);
    assert_eq!(home.read_dir().unwrap().count(), COUNT);
}
