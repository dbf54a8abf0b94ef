//! A root on an overlay: directories of its lower layer cannot be moved in one step, their files can.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::sync::Mutex;

use super::kept::{copies, copy_id, described, run, sweep};
use super::*;
use crate::clock::Clock;
use crate::stores::copies::{PutBack, Receipt, Restoring, Safe};

/// Mounts an overlay at the root of a new bed, over what `fill` puts into the lower layer; in the mount namespace of this process.
/// `None`, with a message, where that is not permitted.
fn over_layers(fill: impl Fn(&Path)) -> Option<Bed> {
    let bed = Bed::new(BY_ORGANIZATION);
    let (layers, lower) = (bed.temp.path().join("layers"), bed.outside());
    fs::create_dir(&layers).unwrap();
    run("mount", &["-t", "tmpfs", "none"].map(OsStr::new).into_iter().chain([layers.as_os_str()]).collect::<Vec<_>>());
    for name in ["upper", "work"] {
        fs::create_dir(layers.join(name)).unwrap();
    }
    fill(&lower);
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off",
        lower.display(),
        layers.join("upper").display(),
        layers.join("work").display()
    );
    let mounted = Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(bed.root()).status();
    if !mounted.unwrap().success() {
        eprintln!("skipped: overlays are not permitted here");
        return None;
    }
    Some(bed)
}

/// True in a mount namespace of its own, into which it runs the test of this name again.
fn in_namespace(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let wrapper: &[&str] = if is_root { &["unshare", "-m"] } else { &["unshare", "-r", "-m"] };
    if !inside() {
        again_behind(wrapper, &format!("layers::{test}"));
    }
    inside()
}

/// A course in the lower layer: directories in directories, one of them empty, modes, a link, a name that is no text.
fn fill(lower: &Path) {
    let home = lower.join("org").join(A);
    fs::create_dir_all(home.join("deep/er")).unwrap();
    fs::create_dir(home.join("empty")).unwrap();
    fs::write(home.join("a"), "a").unwrap();
    fs::write(home.join("deep/er/private"), vec![7; 10_000]).unwrap();
    fs::write(home.join("deep").join(OsStr::from_bytes(b"b\n\xff")), "b").unwrap();
    symlink("/etc/passwd", home.join("link")).unwrap();
    fs::set_permissions(home.join("deep/er/private"), fs::Permissions::from_mode(0o600)).unwrap();
    for (path, mode) in [("", 0o755), ("deep", 0o2750), ("deep/er", 0o700), ("empty", 0o1777)] {
        if rustix::process::geteuid().is_root() && !path.is_empty() {
            let _ = chown(home.join(path), Some(1234), Some(1235));
        }
        fs::set_permissions(home.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[tokio::test]
async fn s12_what_cannot_be_moved_in_one_step_goes_file_by_file_and_comes_back() {
    if !in_namespace("s12_what_cannot_be_moved_in_one_step_goes_file_by_file_and_comes_back") {
        return;
    }
    let Some(bed) = over_layers(fill) else { return };
    let home = bed.root().join("org").join(A);
    let below = || {
        let mut all = described(&bed.root());
        all.retain(|path, _| path.starts_with(&home));
        let owners = all.keys().map(|path| fs::symlink_metadata(path).map(|it| (it.uid(), it.gid())).unwrap());
        (owners.collect::<Vec<_>>(), all)
    };
    let before = below();
    let error = fs::rename(&home, bed.root().join("moved")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::CrossesDevices, "else this asks for nothing");

    let outcomes = sweep(&bed, A, 1).await;
    assert!(matches!(outcomes[..], [Outcome::Deleted { resources: 4, .. }]), "{outcomes:?}");
    assert!(!home.exists());
    assert_eq!(bed.remaining(A).await, 0);
    let kept = copies(&bed).await;
    assert_eq!((kept.len(), kept[0].resources), (1, 4));
    assert_eq!(InPlace::put_back(&bed.store, &kept[0], Restoring::Look).await, PutBack::Restored);
    assert_eq!(InPlace::put_back(&bed.store, &kept[0], Restoring::Missing).await, PutBack::Restored);
    assert_eq!(below(), before, "owners, modes, times, contents, links");
    assert_eq!(copies(&bed).await, vec![]);
}

#[tokio::test]
async fn what_cannot_be_moved_in_one_step_is_removed_where_no_copy_is_wanted() {
    if !in_namespace("what_cannot_be_moved_in_one_step_is_removed_where_no_copy_is_wanted") {
        return;
    }
    let Some(bed) = over_layers(fill) else { return };
    let outcomes = bed.delete(bed.locate(&[A]).await).await;
    assert!(matches!(outcomes[..], [Outcome::Deleted { resources: 4, .. }]), "{outcomes:?}");
    assert_eq!(bed.remaining(A).await, 0);
    assert!(!bed.root().join("org").join(A).exists());
    assert!(bed.root().join(".course-gc/trash").read_dir().unwrap().next().is_none());
}

/// A clock that goes on by a second whenever it is read.
struct Ticking(Mutex<u64>);

impl Clock for Ticking {
    fn since_boot(&self) -> Duration {
        let mut seconds = self.0.lock().unwrap();
        *seconds += 1;
        Duration::from_secs(*seconds)
    }
}

/// What goes piece by piece goes only as long as its confirmation is good; the rest stays, and goes with the next one.
async fn goes_in_parts(bed: &Bed, referenced: impl AsyncFn() -> Referenced, all: u64, stays: u64) {
    let (mut batch, mut gone, mut late) = (0, 0, 0);
    loop {
        batch += 1;
        let handles = bed.locate(&[A]).await;
        let safe = Safe { id: copy_id(batch), receipts: vec![Receipt::default()] };
        let clock = Arc::new(Ticking(Mutex::new(0)));
        let condemned =
            Condemned::for_test_by((handles, Some(safe), referenced().await), Duration::from_secs(20), clock);
        let outcomes = bed.store.delete(&condemned).await.outcomes;
        let (resources, left) = match outcomes[..] {
            [Outcome::Deleted { resources, .. }] => (resources, 0),
            [Outcome::Partly { resources, left, .. }] => (resources, left),
            ref other => panic!("{other:?}"),
        };
        gone += resources;
        assert_eq!(
            (gone + left, bed.remaining(A).await),
            (all, left),
            "batch {batch}: nothing is lost or counted twice"
        );
        if left == stays {
            break;
        }
        late += 1;
        assert!(batch < 50, "it does not get on");
    }
    assert!(late > 0, "it was to be more than one confirmation is good for");
    let kept = copies(bed).await;
    assert_eq!(kept.iter().map(|copy| copy.resources).sum::<u64>(), all - stays);
    for copy in kept {
        assert_eq!(InPlace::put_back(&bed.store, &copy, Restoring::Missing).await, PutBack::Restored);
    }
    assert_eq!(bed.remaining(A).await, all);
}

const MANY: u64 = 60;

fn fill_many(home: &Path) {
    for n in 0..MANY {
        let folder = home.join(format!("{}/{}", n % 3, n % 7));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(n.to_string()), n.to_string()).unwrap();
    }
}

#[tokio::test]
async fn s2_files_of_a_lower_layer_go_only_as_long_as_their_confirmation_is_good() {
    if !in_namespace("s2_files_of_a_lower_layer_go_only_as_long_as_their_confirmation_is_good") {
        return;
    }
    let Some(bed) = over_layers(|lower| fill_many(&lower.join("org").join(A))) else { return };
    goes_in_parts(&bed, async || Referenced::default(), MANY, 0).await;
}

#[tokio::test]
async fn s2_what_goes_around_a_referenced_file_goes_only_as_long_as_its_confirmation_is_good() {
    let bed = Bed::new(BY_ORGANIZATION);
    fill_many(&bed.root().join("org").join(A));
    // One in each directory stays, so that none of them goes in one step.
    let kept: BTreeSet<Bytes> = (0..21).map(|n| format!("org/{A}/{}/{}/{n}", n % 3, n % 7).into()).collect();
    let referenced = Referenced { keys: kept, ..Referenced::default() };
    goes_in_parts(&bed, async || referenced.clone(), MANY, 21).await;
}
