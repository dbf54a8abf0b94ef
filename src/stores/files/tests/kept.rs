//! Quarantine beneath the root (S12).

use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::DateTime;
use tokio::task::JoinHandle;
use uuid::Uuid;

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
    let handles = bed.locate(&[course]).await;
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

#[tokio::test]
async fn s12_a_description_without_content_is_no_copy_and_goes_with_the_next_run() {
    let bed = Bed::new(BY_ORGANIZATION);
    let entry = bed.root().join(format!(".course-gc/quarantine/{}/00001/1.0123456789abcdef", Uuid::from_u128(7)));
    fs::create_dir_all(&entry).unwrap();
    fs::write(entry.join("what.json"), "{").unwrap();
    assert_eq!(copies(&bed).await, vec![]);
    bed.store.remove_unfinished(Uuid::from_u128(7)).await.unwrap();
    assert!(entry.exists(), "its run is not over");
    bed.store.remove_unfinished(Uuid::from_u128(8)).await.unwrap();
    assert!(!bed.root().join(".course-gc/quarantine").read_dir().unwrap().any(|_| true));
}

#[tokio::test]
async fn s12_a_copy_that_nobody_can_read_is_told_by_its_place() {
    let bed = Bed::new(BY_ORGANIZATION);
    let home = bed.root().join("acme").join(A);
    fs::create_dir_all(&home).unwrap();
    sweep(&bed, A, 1).await;
    let kept = copies(&bed).await;
    let key = String::from_utf8(kept[0].key.to_vec()).unwrap();
    let entry = bed.root().join(".course-gc/quarantine").join(&key);
    let what = fs::read(entry.join("what.json")).unwrap();
    fs::write(entry.join("what.json"), "{").unwrap();
    let error = InPlace::copies(&bed.store).await.unwrap_err().to_string();
    assert!(error.contains(&key) && error.contains("what.json"), "{error}");
    fs::write(entry.join("what.json"), what).unwrap();
    fs::remove_dir_all(entry.join("content")).unwrap();
    let back = InPlace::put_back(&bed.store, &kept[0], Restoring::Missing).await;
    assert!(matches!(&back, PutBack::Failed(why) if why.contains(&key)), "{back:?}");
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
    for (is_kept, calls) in [(true, 1), (true, 2), (true, 3), (true, 4), (true, 5), (false, 1), (false, 2)] {
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
    let deep = bed.root().join(".course-gc/quarantine").join(&key).join("content/deep");
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
