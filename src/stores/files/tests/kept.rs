//! Quarantine beneath the root (S12).

use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::DateTime;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::super::delete::{Part, inspect};
use super::super::kept::{Entry, Room, Shelf};
use super::*;
use crate::clock::{Clock, Deadline, MachineClock};
use crate::pace::Settings;
use crate::stores::copies::{Copied, CopyId, InPlace, Item, PlacedCopy, PutBack, Restoring, Safe};

const LONG: Duration = Duration::from_secs(3600);

pub(super) fn copy_id(batch: u32) -> CopyId {
    let now = DateTime::UNIX_EPOCH;
    CopyId { run: Uuid::from_u128(7), batch, taken_at: now, expires_at: now + LONG }
}

/// Copies and deletes what there is of a course.
pub(super) async fn sweep(bed: &Bed, course: &str, batch: u32) -> Vec<Outcome> {
    sweep_all(bed, &[course], batch).await
}

async fn sweep_all(bed: &Bed, courses: &[&str], batch: u32) -> Vec<Outcome> {
    let handles = bed.locate(courses).await;
    let mut copied = Vec::new();
    for outcome in bed.store.copy(&copy_id(batch), &handles, &mut Nowhere).await.unwrap() {
        match outcome {
            Copied::Whole(receipt) => copied.push(receipt),
            other => panic!("{other:?}"),
        }
    }
    let safe = Safe { id: copy_id(batch), receipts: copied };
    bed.store.delete(&Condemned::for_test_copied(handles, safe, LONG)).await.outcomes
}

/// What is kept in place is in no archive.
struct Nowhere;

#[async_trait]
impl Copies for Nowhere {
    async fn add(&mut self, item: Item) -> Result<(), StoreError> {
        panic!("{item:?}")
    }
}

/// Until when who is live need not be asked again: for long.
pub(super) fn still_good() -> Deadline {
    Deadline::new(Duration::MAX, Arc::new(MachineClock))
}

pub(super) async fn copies(bed: &Bed) -> Vec<PlacedCopy> {
    InPlace::copies(&bed.store).await.unwrap()
}

/// Everything that can be told of a tree from outside: type, mode, time, content, target.
pub(super) fn described(root: &Path) -> BTreeMap<PathBuf, (u32, std::time::SystemTime, Vec<u8>)> {
    snapshot(root)
        .into_keys()
        .filter(|path| !path.starts_with(root.join(".course-gc")))
        .map(|path| {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = match metadata.file_type() {
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                kind if kind.is_file() => fs::read(&path).unwrap(),
                _ => Vec::new(),
            };
            (path, (metadata.permissions().mode(), metadata.modified().unwrap(), content))
        })
        .collect()
}

#[tokio::test]
async fn s12_a_directory_comes_back_with_modes_times_links_and_names_as_they_were() {
    let bed = Bed::new(BY_ORGANIZATION);
    let home = bed.root().join("acme").join(A);
    fs::create_dir_all(home.join("deep/er")).unwrap();
    let odd = OsStr::from_bytes(b"a\nb\xff\xfe");
    fs::write(home.join(odd), "odd").unwrap();
    fs::write(home.join("deep/er/private"), vec![7; 10_000]).unwrap();
    fs::set_permissions(home.join("deep/er/private"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(home.join("deep/er/private"), home.join("again")).unwrap();
    symlink("/etc/passwd", home.join("link")).unwrap();
    fs::write(bed.root().join("acme/other"), "stays").unwrap();
    let mut before = described(&bed.root());

    let outcomes = sweep(&bed, A, 1).await;
    assert!(matches!(outcomes[..], [Outcome::Deleted { resources: 4, .. }]), "{outcomes:?}");
    assert!(!home.exists());
    let kept = copies(&bed).await;
    assert_eq!((kept.len(), kept[0].course, kept[0].id), (1, id(A), copy_id(1)));
    assert_eq!(InPlace::put_back(&bed.store, &kept[0], Restoring::Look).await, PutBack::Restored);
    assert!(!home.exists());
    assert_eq!(InPlace::put_back(&bed.store, &kept[0], Restoring::Missing).await, PutBack::Restored);
    let mut after = described(&bed.root());
    // Its parent has changed by what went and came.
    for tree in [&mut before, &mut after] {
        tree.remove(&bed.root().join("acme"));
        tree.remove(&bed.root());
    }
    assert_eq!(after, before);
    assert_eq!(copies(&bed).await, vec![], "it is no copy any more");
    assert!(!bed.root().join(".course-gc/quarantine/").read_dir().unwrap().any(|_| true), "nor is a folder left");
    assert!(matches!(InPlace::put_back(&bed.store, &kept[0], Restoring::Missing).await, PutBack::Failed(_)));
}

#[tokio::test]
async fn s12_what_exists_anew_stays_and_what_is_missing_comes_back_beside_it() {
    let bed = Bed::new(BY_ORGANIZATION);
    let home = bed.root().join("acme").join(A);
    fs::create_dir_all(home.join("deep")).unwrap();
    fs::write(home.join("deep/old"), "old").unwrap();
    fs::write(home.join("both"), "old").unwrap();
    sweep(&bed, A, 1).await;
    fs::create_dir_all(home.join("deep")).unwrap();
    fs::write(home.join("both"), "new").unwrap();
    fs::write(home.join("deep/new"), "new").unwrap();

    let kept = copies(&bed).await;
    assert_eq!(InPlace::put_back(&bed.store, &kept[0], Restoring::Look).await, PutBack::Exists);
    assert_eq!(InPlace::put_back(&bed.store, &kept[0], Restoring::Missing).await, PutBack::Exists);
    let read = |name: &str| fs::read_to_string(home.join(name)).unwrap();
    assert_eq!((read("both"), read("deep/old"), read("deep/new")), ("new".into(), "old".into(), "new".into()));
    assert_eq!(copies(&bed).await.len(), 1, "what did not come back is still kept");
    assert_eq!(InPlace::put_back(&bed.store, &kept[0], Restoring::Missing).await, PutBack::Exists, "twice");
    assert_eq!(InPlace::put_back(&bed.store, &kept[0], Restoring::Overwrite).await, PutBack::Restored);
    assert_eq!((read("both"), read("deep/old"), read("deep/new")), ("old".into(), "old".into(), "new".into()));
    assert_eq!(copies(&bed).await, vec![]);
}

#[tokio::test]
async fn s12_a_parent_that_has_gone_is_made_again_and_is_as_open_as_the_root() {
    let bed = Bed::new(BY_ORGANIZATION);
    fs::set_permissions(bed.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let home = bed.root().join("acme").join(A);
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("a"), "a").unwrap();
    sweep(&bed, A, 1).await;
    fs::remove_dir(bed.root().join("acme")).unwrap();
    let kept = copies(&bed).await;
    assert_eq!(InPlace::put_back(&bed.store, &kept[0], Restoring::Missing).await, PutBack::Restored);
    assert_eq!(fs::read(home.join("a")).unwrap(), b"a");
    assert_eq!(fs::metadata(bed.root().join("acme")).unwrap().permissions().mode() & 0o777, 0o755);
}

/// The batch's folder, and its files and folders by name, in their order.
fn batch_folder(bed: &Bed, batch: u32) -> (PathBuf, Vec<String>) {
    let folder = bed.root().join(format!(".course-gc/quarantine/{}", copy_id(batch)));
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    (folder, names)
}

fn is_cleared(bed: &Bed) -> bool {
    bed.root().join(".course-gc/quarantine").read_dir().unwrap().next().is_none()
}

/// Where a copy lies.
fn lies_at(bed: &Bed, copy: &PlacedCopy) -> PathBuf {
    bed.root().join(".course-gc/quarantine").join(std::str::from_utf8(&copy.key).unwrap())
}

/// Three courses' copies, of two files each, on one shelf.
async fn three_copies() -> (Bed, Vec<PlacedCopy>) {
    let bed = Bed::new(BY_ORGANIZATION);
    for course in [A, B, C] {
        bed.write(format!("acme/{course}/deep/a"), "a");
        bed.write(format!("acme/{course}/b"), "b");
    }
    let outcomes = sweep_all(&bed, &[A, B, C], 1).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Deleted { resources: 2, .. })), "{outcomes:?}");
    let mut kept = copies(&bed).await;
    kept.sort_by_key(|copy| copy.course);
    assert_eq!(kept.iter().map(|copy| copy.course).collect::<Vec<_>>(), [A, B, C].map(id));
    (bed, kept)
}

#[tokio::test]
async fn s12_many_copies_have_one_description_which_goes_with_the_last_of_them() {
    let (bed, kept) = three_copies().await;
    let (folder, names) = batch_folder(&bed, 1);
    let [shelf, description] = &names[..] else { panic!("{names:?}") };
    assert_eq!(*description, format!("{shelf}.json"));
    for copy in &kept {
        assert_eq!(lies_at(&bed, copy).parent().unwrap(), folder.join(shelf));
        assert_eq!(fs::read(lies_at(&bed, copy).join("deep/a")).unwrap(), b"a", "each lies there as it was");
    }
    assert!(bed.store.purge(&kept[0], &still_good()).await.unwrap());
    assert_eq!(InPlace::put_back(&bed.store, &kept[1], Restoring::Missing).await, PutBack::Restored);
    assert_eq!((copies(&bed).await, batch_folder(&bed, 1).1), (kept[2..].to_vec(), names.clone()), "not before");
    bed.store.remove_unfinished(Uuid::nil()).await.unwrap();
    assert_eq!((copies(&bed).await, batch_folder(&bed, 1).1), (kept[2..].to_vec(), names.clone()), "one lies there");
    assert!(bed.store.purge(&kept[2], &still_good()).await.unwrap());
    assert!(is_cleared(&bed));
    assert_eq!(bed.remaining(B).await, 2);
}

#[tokio::test]
async fn s12_copies_that_are_purged_at_once_leave_nothing() {
    let (bed, kept) = three_copies().await;
    let good = still_good();
    let purges = kept.iter().map(|copy| bed.store.purge(copy, &good));
    assert!(futures::future::join_all(purges).await.into_iter().all(|purged| purged.unwrap()));
    assert!(is_cleared(&bed));
}

#[tokio::test]
async fn more_directories_than_lie_together_go_in_one_batch() {
    let bed = Bed::new("{course_id}");
    let courses: Vec<String> = (1..=130).map(|n| Uuid::from_u128(n).to_string()).collect();
    for course in &courses {
        bed.write(format!("{course}/a"), "a");
    }
    let courses: Vec<&str> = courses.iter().map(String::as_str).collect();
    let outcomes = sweep_all(&bed, &courses, 1).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Deleted { resources: 1, .. })), "{outcomes:?}");
    assert_eq!((copies(&bed).await.len(), batch_folder(&bed, 1).1.len()), (130, 6), "three shelves");
}

#[tokio::test]
async fn s11_a_crash_before_and_in_the_middle_of_the_moves_leaves_originals_or_copies() {
    let (bed, kept) = three_copies().await;
    // As it is after the description, and two moves of three.
    let home = |course: &str| bed.root().join("acme").join(course);
    fs::rename(lies_at(&bed, &kept[2]), home(C)).unwrap();
    assert_eq!(copies(&bed).await, kept[..2], "what did not come is no copy");
    assert!(home(C).join("deep/a").exists());
    let back = InPlace::put_back(&bed.store, &kept[2], Restoring::Missing).await;
    assert!(matches!(&back, PutBack::Failed(why) if why.contains("not there any more")), "{back:?}");
    // Of the next run the course is an orphan as any other.
    assert!(matches!(sweep(&bed, C, 2).await[..], [Outcome::Deleted { resources: 2, .. }]));
    assert_eq!(copies(&bed).await.len(), 3);

    // As it is after the description, before any move.
    for copy in &kept[..2] {
        fs::rename(lies_at(&bed, copy), home(&copy.course.to_string())).unwrap();
    }
    assert_eq!(copies(&bed).await.len(), 1);
    bed.store.remove_unfinished(copy_id(1).run).await.unwrap();
    assert_eq!(batch_folder(&bed, 1).1.len(), 2, "its run is not over");
    bed.store.remove_unfinished(Uuid::nil()).await.unwrap();
    assert!(!bed.root().join(format!(".course-gc/quarantine/{}", copy_id(1))).exists());
    assert_eq!((copies(&bed).await.len(), bed.remaining(A).await, bed.remaining(B).await), (1, 2, 2));
}

#[tokio::test]
async fn s11_what_a_crash_left_of_a_description_stands_for_nothing_and_goes_with_the_next_run() {
    let bed = Bed::new(BY_ORGANIZATION);
    let folder = bed.root().join(format!(".course-gc/quarantine/{}", copy_id(1)));
    let unfinished: [&[&str]; 4] = [
        &["0123456789abcdef/"],
        &["0123456789abcdef/", "0123456789abcdef.json.new"],
        &["0123456789abcdef/", "0123456789abcdef.json"],
        // The shelf has gone with its last copy.
        &["0123456789abcdef.json"],
    ];
    for left in unfinished {
        fs::create_dir_all(&folder).unwrap();
        for name in left {
            match name.strip_suffix('/') {
                Some(name) => fs::create_dir(folder.join(name)).unwrap(),
                None => fs::write(folder.join(name), "{").unwrap(),
            }
        }
        assert_eq!(copies(&bed).await, vec![], "{left:?}");
        bed.store.remove_unfinished(copy_id(1).run).await.unwrap();
        assert!(folder.exists(), "its run is not over");
        bed.store.remove_unfinished(Uuid::nil()).await.unwrap();
        assert!(is_cleared(&bed), "{left:?}");
    }
}

#[tokio::test]
async fn s12_a_purge_that_was_cut_off_leaves_a_copy_that_can_be_purged_again_and_comes_back() {
    for comes_back in [false, true] {
        let (bed, kept) = three_copies().await;
        for copy in &kept {
            fs::remove_dir_all(lies_at(&bed, copy).join("deep")).unwrap();
        }
        assert_eq!(copies(&bed).await, kept);
        for copy in &kept {
            if comes_back {
                assert_eq!(InPlace::put_back(&bed.store, copy, Restoring::Missing).await, PutBack::Restored);
            } else {
                assert!(bed.store.purge(copy, &still_good()).await.unwrap());
            }
        }
        assert!(is_cleared(&bed));
        assert_eq!(bed.remaining(A).await, u64::from(comes_back));
    }
}

#[tokio::test]
async fn s12_a_copy_that_nobody_can_read_is_told_by_its_place_and_stays() {
    let (bed, kept) = three_copies().await;
    let (folder, names) = batch_folder(&bed, 1);
    let (shelf, description) = (folder.join(&names[0]), folder.join(&names[1]));
    let told = fs::read_to_string(&description).unwrap();
    let course = lies_at(&bed, &kept[0]).file_name().unwrap().to_str().unwrap().to_owned();
    let broken = [Some("{".to_owned()), None, Some(told.replace(A, "nobody")), Some(told.replace(&course, "another"))];
    for broken in broken {
        match &broken {
            Some(text) => fs::write(&description, text).unwrap(),
            None => fs::remove_file(&description).unwrap(),
        }
        let error = InPlace::copies(&bed.store).await.unwrap_err().to_string();
        assert!(error.contains(&names[0]), "{broken:?}: {error}");
        bed.store.remove_unfinished(Uuid::nil()).await.unwrap();
        assert_eq!(shelf.read_dir().unwrap().count(), 3, "{broken:?}");
    }
    fs::write(&description, told).unwrap();
    assert_eq!(copies(&bed).await.len(), 3);
    fs::remove_dir_all(lies_at(&bed, &kept[0])).unwrap();
    let back = InPlace::put_back(&bed.store, &kept[0], Restoring::Missing).await;
    assert!(matches!(&back, PutBack::Failed(why) if why.contains(&course)), "{back:?}");
}

/// One folder a copy, with `what.json` and `content` in it: nobody reads that any more.
#[tokio::test]
async fn s12_the_form_that_copies_had_before_is_refused_and_stays() {
    for came in [false, true] {
        let bed = Bed::new(BY_ORGANIZATION);
        let entry = format!(".course-gc/quarantine/{}/{A}.0123456789abcdef", copy_id(1));
        bed.write(format!("{entry}/what.json"), "{}");
        if came {
            bed.write(format!("{entry}/content/a"), "a");
        }
        let before = bed.snapshot();
        let error = InPlace::copies(&bed.store).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{A}.0123456789abcdef")) && error.contains("cannot be read"), "{error}");
        bed.store.remove_unfinished(Uuid::nil()).await.unwrap();
        assert_eq!(bed.snapshot(), before);
    }
}

#[tokio::test]
async fn s12_where_less_went_than_was_meant_the_description_says_so() {
    let bed = Bed::new(BY_ORGANIZATION);
    for course in [A, B] {
        for n in 0..3 {
            bed.write(format!("acme/{course}/{n}"), "x");
        }
    }
    let handles = bed.locate(&[A, B]).await;
    let entries = handles.iter().map(|handle| {
        let inspected = inspect(&bed.store.place, handle, &Pulse::default()).unwrap().unwrap();
        let spared = BTreeSet::from([b"0".to_vec()]);
        // One file of the second course stays, which nobody knew when it was described.
        let is_whole = handle.owner == id(A);
        let spared = if is_whole { BTreeSet::new() } else { spared };
        let part = Part { going: inspected.seen.amount(), spared, left: 0 };
        Entry::of(inspected, part).unwrap()
    });
    let (place, pulse) = (&bed.store.place, Pulse::default());
    let room = Room::make(place, &copy_id(1)).unwrap();
    let shelf = Shelf::make(place, &room, &copy_id(1), entries.collect(), &pulse).unwrap();
    let mut told = Vec::new();
    shelf.take_in(&pulse, |moved| told.push(moved.unwrap()));
    let amounts = async || -> BTreeMap<CourseId, u64> {
        copies(&bed).await.into_iter().map(|copy| (copy.course, copy.resources)).collect()
    };
    assert_eq!(amounts().await, BTreeMap::from([(id(A), 3), (id(B), 3)]), "after a crash it is what was meant");
    shelf.settle(&room, &told.into_iter().enumerate().collect::<Vec<_>>(), &pulse).unwrap();
    assert_eq!(amounts().await, BTreeMap::from([(id(A), 3), (id(B), 2)]));
    assert_eq!((bed.remaining(A).await, bed.remaining(B).await), (0, 1));
    for copy in copies(&bed).await {
        assert_eq!(InPlace::put_back(&bed.store, &copy, Restoring::Missing).await, PutBack::Restored);
    }
    assert_eq!((bed.remaining(A).await, bed.remaining(B).await, is_cleared(&bed)), (3, 3, true));
}

#[tokio::test]
async fn s2_a_confirmation_that_grows_old_between_two_moves_ends_them() {
    let bed = Bed::new(BY_ORGANIZATION);
    for course in [A, B, C] {
        bed.write(format!("acme/{course}/a"), "a");
    }
    let handles = bed.locate(&[A, B, C]).await;
    let safe = Safe { id: copy_id(1), receipts: vec![Receipt::default(); 3] };
    let batch = (handles, Some(safe), Referenced::default());
    let condemned = Condemned::for_test_by(batch, Duration::from_secs(6), Arc::new(Ticking(AtomicU64::new(0))));
    let outcomes = bed.store.delete(&condemned).await.outcomes;
    let went = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Deleted { resources: 1, .. })).count();
    assert!((1..3).contains(&went), "else this asks for nothing: {outcomes:?}");
    assert!(outcomes[went..].iter().all(|outcome| *outcome == Outcome::Unattempted), "{outcomes:?}");
    assert_eq!((copies(&bed).await.len(), bed.inventory(&[]).await.sources[0].dead.len()), (went, 3 - went));
}

/// A clock that goes on by a second whenever it is read.
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn since_boot(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

#[tokio::test]
async fn s12_what_is_purged_is_gone_and_purging_twice_is_harmless() {
    let bed = Bed::new(BY_ORGANIZATION);
    for (batch, course) in [(1, A), (2, B)] {
        bed.write(format!("acme/{course}/deep/a"), "a");
        sweep(&bed, course, batch).await;
    }
    let kept = copies(&bed).await;
    assert_eq!(kept.len(), 2);
    assert_eq!(bed.inventory(&[]).await.sources[0].dead.len(), 0, "what is kept is no resource");
    bed.store.purge(&kept[0], &still_good()).await.unwrap();
    bed.store.purge(&kept[0], &still_good()).await.unwrap();
    assert_eq!(copies(&bed).await, kept[1..]);
    bed.store.purge(&kept[1], &still_good()).await.unwrap();
    assert!(!bed.root().join(".course-gc/quarantine").read_dir().unwrap().any(|_| true));
}

/// A clock that stands still until somebody moves it.
struct Hand(AtomicU64);

impl Clock for Hand {
    fn since_boot(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// A store that may make one call at a time, and somebody else who makes every other one. Before the end of the last of so many, that
/// takes an hour.
fn contended(bed: &mut Bed, calls: usize, clock: Arc<Hand>) -> JoinHandle<()> {
    let pace = Pace::new(Settings { in_flight: 1, ..Pace::default().settings() }, Arc::new(MachineClock));
    bed.store = FilesStore::new(settings(&bed.root(), BY_ORGANIZATION)).unwrap().paced(pace.clone());
    tokio::spawn(async move {
        for call in 1..=calls {
            let turn = pace.turn().await;
            // The store waits behind this one by now.
            tokio::time::sleep(Duration::from_millis(100)).await;
            if call == calls {
                clock.0.fetch_add(3600, Ordering::SeqCst);
            }
            turn.end();
        }
    })
}

#[tokio::test]
async fn s2_a_move_that_has_to_wait_for_its_turn_is_not_made_on_an_old_confirmation() {
    for (is_kept, calls) in [(true, 1), (true, 2), (true, 3), (false, 1), (false, 2)] {
        let mut bed = Bed::new(BY_ORGANIZATION);
        bed.write(format!("acme/{A}/a"), "a");
        let handles = bed.locate(&[A]).await;
        let safe = is_kept.then(|| Safe { id: copy_id(1), receipts: vec![Receipt::default()] });
        let clock = Arc::new(Hand(AtomicU64::new(0)));
        let batch = (handles, safe, Referenced::default());
        let condemned = Condemned::for_test_by(batch, Duration::from_secs(60), clock.clone());
        let other = contended(&mut bed, calls, clock);
        tokio::task::yield_now().await;
        assert_eq!(bed.store.delete(&condemned).await.outcomes, [Outcome::Unattempted], "{is_kept} {calls}");
        other.await.unwrap();
        assert!(bed.root().join(format!("acme/{A}/a")).exists(), "{is_kept} {calls}");
        assert_eq!(copies(&bed).await, vec![]);
    }
}

#[tokio::test]
async fn s2_what_a_crash_left_in_the_trash_is_not_removed_on_an_old_confirmation() {
    for calls in 1..=3 {
        let mut bed = Bed::new(BY_ORGANIZATION);
        let rest = format!(".course-gc/trash/{A}.0000000000000001/rest");
        bed.write(&rest, "x");
        let clock = Arc::new(Hand(AtomicU64::new(0)));
        let batch = (bed.locate(&[A]).await, None, Referenced::default());
        let condemned = Condemned::for_test_by(batch, Duration::from_secs(60), clock.clone());
        let other = contended(&mut bed, calls, clock);
        tokio::task::yield_now().await;
        let outcomes = bed.store.delete(&condemned).await.outcomes;
        other.await.unwrap();
        assert_eq!((outcomes, bed.root().join(&rest).exists()), (vec![Outcome::Unattempted], true), "{calls}");
    }
}

#[tokio::test]
async fn s12_a_purge_that_has_to_wait_for_its_turn_is_not_made_on_an_old_answer() {
    let mut bed = Bed::new(BY_ORGANIZATION);
    bed.write(format!("acme/{A}/a"), "a");
    sweep(&bed, A, 1).await;
    let kept = copies(&bed).await;
    let clock = Arc::new(Hand(AtomicU64::new(0)));
    let good = Deadline::new(Duration::from_secs(60), clock.clone());
    let other = contended(&mut bed, 1, clock);
    tokio::task::yield_now().await;
    assert!(!bed.store.purge(&kept[0], &good).await.unwrap());
    other.await.unwrap();
    assert_eq!(copies(&bed).await, kept);
    assert!(bed.store.purge(&kept[0], &still_good()).await.unwrap());
    assert_eq!(copies(&bed).await, vec![]);
}

#[tokio::test]
async fn s13_a_copy_in_which_something_is_mounted_is_not_purged() {
    if !inside() {
        again_behind(&["unshare", "-m"], "kept::s13_a_copy_in_which_something_is_mounted_is_not_purged");
        return;
    }
    let bed = Bed::new(BY_ORGANIZATION);
    for name in ["a", "deep/b", "z"] {
        bed.write(format!("org/{A}/{name}"), name);
    }
    sweep(&bed, A, 1).await;
    let kept = copies(&bed).await;
    let key = String::from_utf8(kept[0].key.to_vec()).unwrap();
    let deep = bed.root().join(".course-gc/quarantine").join(&key).join("deep");
    fs::write(bed.outside().join("ours"), "x").unwrap();
    run("mount", &["--bind".as_ref(), bed.outside().as_os_str(), deep.as_os_str()]);
    let before = bed.snapshot();
    let error = bed.store.purge(&kept[0], &still_good()).await.unwrap_err().to_string();
    assert!(error.contains("mounted at") && error.contains(&key), "{error}");
    assert_eq!(bed.snapshot(), before, "nothing of it goes, and nothing behind it");
    run("umount", &[deep.as_os_str()]);
    bed.store.purge(&kept[0], &still_good()).await.unwrap();
    assert_eq!(copies(&bed).await, vec![]);
    assert!(bed.outside().join("ours").exists());
}

pub(super) fn run(program: &str, arguments: &[&OsStr]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program} {arguments:?}");
}
