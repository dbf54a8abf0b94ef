//! S13: nothing leads out of the root.

use std::os::unix::fs::symlink;

use rustix::io::Errno;

use super::super::beneath::Dir;
use super::*;

#[tokio::test]
async fn s13_links_are_never_followed_at_any_level() {
    let bed = Bed::new(BY_ORGANIZATION);
    let outside = bed.outside();
    fs::create_dir_all(outside.join(A)).unwrap();
    fs::write(outside.join(A).join("kept"), "x").unwrap();
    symlink(&outside, bed.root().join("organization")).unwrap();
    fs::create_dir(bed.root().join("org")).unwrap();
    symlink(outside.join(A), bed.root().join("org").join(A)).unwrap();
    bed.write(format!("org/{B}/file"), "x");
    symlink(outside.join(A), bed.root().join("org").join(B).join("inside")).unwrap();

    let inventory = bed.inventory(&[]).await;
    assert_eq!(inventory.unclaimed.count, 2);
    assert_eq!(inventory.sources[0].dead.keys().copied().collect::<Vec<_>>(), vec![id(B)]);
    assert_eq!(inventory.sources[0].dead[&id(B)].amount.resources, 2, "the link counts, not what it points to");
    assert_eq!(bed.locate(&[A]).await, vec![]);

    let kept = snapshot(&outside);
    let key = |path: String| Bytes::from(path.into_bytes());
    for path in [format!("organization/{A}"), format!("org/{A}")] {
        let handle = Handle { source: SOURCE, owner: id(A), mentions: vec![], key: key(path) };
        let outcomes = bed.delete(vec![handle]).await;
        assert!(matches!(outcomes[..], [Outcome::Failed(_)]), "{outcomes:?}");
    }
    assert!(matches!(bed.delete(bed.locate(&[B]).await).await[..], [Outcome::Deleted { resources: 2, .. }]));
    assert_eq!(snapshot(&outside), kept);
    assert!(bed.root().join("organization").is_symlink() && bed.root().join("org").join(A).is_symlink());
}

#[tokio::test]
async fn s13_a_directory_that_became_a_link_is_refused() {
    let bed = Bed::new("{course_id}");
    bed.write(format!("{A}/file"), "x");
    let handles = bed.locate(&[A]).await;
    fs::rename(bed.root().join(A), bed.outside().join(A)).unwrap();
    symlink(bed.outside().join(A), bed.root().join(A)).unwrap();
    let before = bed.snapshot();
    assert!(matches!(bed.delete(handles).await[..], [Outcome::Failed(_)]));
    assert_eq!(bed.snapshot(), before);
}

#[tokio::test]
async fn s13_the_stores_own_folder_may_not_lead_out_either() {
    let bed = Bed::new("{course_id}");
    bed.write(format!("{A}/file"), "x");
    let handles = bed.locate(&[A]).await;
    for (link, parent) in [(".course-gc", None), (".course-gc/trash", Some(".course-gc"))] {
        if let Some(parent) = parent {
            fs::create_dir(bed.root().join(parent)).unwrap();
        }
        symlink(bed.outside(), bed.root().join(link)).unwrap();
        let before = bed.snapshot();
        assert!(bed.try_inventory(&[]).await.is_err(), "S4: the trash cannot be told");
        assert!(matches!(bed.delete(handles.clone()).await[..], [Outcome::Failed(_)]));
        assert_eq!(bed.snapshot(), before);
        fs::remove_file(bed.root().join(link)).unwrap();
    }
}

#[test]
fn s13_a_single_step_stays_in_its_directory() {
    let bed = Bed::new("{course_id}");
    bed.write("dir/file", "x");
    symlink(bed.outside(), bed.root().join("link")).unwrap();
    let root = Dir::root(&bed.root()).unwrap();
    for open in [Dir::open, |dir: &Dir, name: &[u8]| dir.open_stepwise(OsStr::from_bytes(name))] {
        assert!(open(&root, b"dir").is_ok());
        assert!(matches!(open(&root, b"link"), Err(Errno::LOOP | Errno::NOTDIR)));
        assert_eq!(open(&root, b"missing").unwrap_err(), Errno::NOENT);
        let dir = open(&root, b"dir").unwrap();
        assert_eq!(open(&dir, b"file").unwrap_err(), Errno::NOTDIR);
    }
    let dir = root.open(b"dir").unwrap();
    for bad in [&b".."[..], b".", b"", b"/", b"../root", b"dir/file", b"/etc"] {
        assert_eq!(root.open(bad).unwrap_err(), Errno::INVAL);
        assert_eq!(root.stat(bad).unwrap_err(), Errno::INVAL);
        assert_eq!(root.unlink(bad).unwrap_err(), Errno::INVAL);
        assert_eq!(root.remove_directory(bad).unwrap_err(), Errno::INVAL);
        assert_eq!(root.make(bad).unwrap_err(), Errno::INVAL);
        assert_eq!(root.rename(b"dir", &dir, bad).unwrap_err(), Errno::INVAL);
    }
}

fn bind(from: &Path, to: &Path) {
    let run = Command::new("mount").arg("--bind").args([from, to]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// In a mount namespace of its own, so that the machine keeps its mounts.
#[tokio::test]
async fn s13_a_mount_in_a_dead_directory_holds_it() {
    if !inside() {
        let root = rustix::process::getuid().is_root();
        let wrapper: &[&str] = if root { &["unshare", "-m"] } else { &["unshare", "-r", "-m"] };
        again_behind(wrapper, "escape::s13_a_mount_in_a_dead_directory_holds_it");
        return;
    }
    let bed = Bed::new(BY_ORGANIZATION);
    fs::write(bed.outside().join("kept"), "x").unwrap();
    bed.write(format!("deep/{A}/a/b/file"), "x");
    fs::create_dir(bed.root().join(format!("deep/{A}/a/b/mounted"))).unwrap();
    bed.write(format!("single/{B}/file"), "x");
    bed.write(format!("top/{C}/file"), "hidden below the mount");
    bed.write(format!("organization/{C}/file"), "hidden below the mount");
    bed.write(format!("organization/{A}/file"), "hidden below the mount");
    let handles = bed.locate(&[A, B, C]).await;
    assert_eq!(handles.len(), 5);

    bind(&bed.outside(), &bed.root().join(format!("deep/{A}/a/b/mounted")));
    bind(&bed.outside().join("kept"), &bed.root().join(format!("single/{B}/file")));
    bind(&bed.outside(), &bed.root().join(format!("top/{C}")));
    bind(&bed.outside(), &bed.root().join("organization"));

    let before = bed.snapshot();
    let inventory = bed.inventory(&[]).await;
    for course in [A, B, C] {
        let found = &inventory.sources[0].dead[&id(course)];
        assert_eq!((found.amount.resources, found.entangled), (0, 1), "{course}");
    }
    assert_eq!(inventory.unclaimed.samples, vec!["organization"]);
    assert_eq!(bed.locate(&[A, B, C]).await, vec![]);
    for outcome in bed.delete(handles).await {
        assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("mounted")), "{outcome:?}");
    }
    assert_eq!(bed.snapshot(), before);

    let root = Dir::root(&bed.root()).unwrap();
    for open in [Dir::open, |dir: &Dir, name: &[u8]| dir.open_stepwise(OsStr::from_bytes(name))] {
        assert_eq!(open(&root, b"organization").unwrap_err(), Errno::XDEV, "a bind mount has its parent's device");
        assert_eq!(open(&open(&root, b"top").unwrap(), C.as_bytes()).unwrap_err(), Errno::XDEV);
    }
    for path in ["single", "deep"] {
        let taken = tree::remove(&root, path.as_bytes(), &Default::default(), (|_, _| Ok(0), || ()));
        let stopped = matches!(taken, Err(Fault::Io { errno: Errno::BUSY | Errno::XDEV, .. }));
        assert!(stopped, "even a removal that does not look stops there: {taken:?}");
        let taken = tree::remove(&root, path.as_bytes(), &Default::default(), (tree::freed, || ()));
        assert!(matches!(taken, Err(Fault::Io { errno: Errno::XDEV, .. })), "{taken:?}");
    }
    assert_eq!(fs::read(bed.outside().join("kept")).unwrap(), b"x");
}
