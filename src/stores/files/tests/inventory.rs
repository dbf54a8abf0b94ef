//! What is seen, and what it counts as.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::*;
use crate::domain::inventory::Amount;

#[tokio::test]
async fn a_live_course_is_seen_and_its_directory_left_alone() {
    let bed = Bed::new(BY_ORGANIZATION);
    for n in 0..3 {
        bed.write(format!("org/{A}/{n}"), "x");
    }
    bed.write(format!("org/{B}/1"), "x");
    let source = &bed.inventory(&[A, C]).await.sources[0];
    assert_eq!((source.live_courses, source.live_resources), (1, 1), "a directory, not its files");
    assert_eq!(source.dead.keys().copied().collect::<Vec<_>>(), vec![id(B)]);
}

#[tokio::test]
async fn a_dead_course_is_measured_to_the_bottom() {
    let bed = Bed::new(BY_ORGANIZATION);
    bed.write(format!("org/{A}/a"), &"x".repeat(10_000));
    bed.write(format!("org/{A}/deep/er/b"), "y");
    bed.write(format!("elsewhere/{A}/c"), "z");
    symlink("/etc/passwd", bed.root().join(format!("org/{A}/link"))).unwrap();
    let found = bed.found(A).await;
    let files = ["org/{}/a", "org/{}/deep/er/b", "elsewhere/{}/c", "org/{}/link"];
    let allocated = files
        .map(|path| bed.root().join(path.replace("{}", A)).symlink_metadata().unwrap().blocks() * 512)
        .iter()
        .sum();
    assert_eq!((found.amount.resources, found.amount.bytes, found.entangled), (4, Some(allocated), 0));
    assert!(allocated >= 10_000);
    assert_eq!(bed.remaining(A).await, 4);
}

#[tokio::test]
async fn an_empty_directory_is_one_resource() {
    let bed = Bed::new("{course_id}");
    fs::create_dir_all(bed.root().join(A).join("empty")).unwrap();
    assert_eq!(bed.found(A).await.amount, Amount { resources: 1, bytes: Some(0), fingerprint: 0 });
    assert_eq!(bed.delete(bed.locate(&[A]).await).await, vec![Outcome::Deleted { resources: 1, bytes: Some(0) }]);
    assert!(!bed.root().join(A).exists());
}

#[tokio::test]
async fn s6_a_changed_file_changes_the_fingerprint() {
    let bed = Bed::new("{course_id}");
    bed.write(format!("{A}/a"), "one");
    let file = bed.root().join(A).join("a");
    let touch = |seconds| {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().write(true).open(&file).unwrap().set_modified(at).unwrap();
    };
    touch(1_000_000_000);
    let before = bed.found(A).await.amount;
    assert_eq!(bed.found(A).await.amount, before, "looking changes nothing");
    touch(1_000_000_001);
    let touched = bed.found(A).await.amount;
    assert!(touched.grew_or_changed_since(&before), "another time");
    fs::write(&file, "other").unwrap();
    touch(1_000_000_000);
    assert!(bed.found(A).await.amount.grew_or_changed_since(&before), "another size");
    fs::write(&file, "one").unwrap();
    fs::rename(&file, bed.root().join(A).join("b")).unwrap();
    assert!(bed.found(A).await.amount.grew_or_changed_since(&before), "another name");
}

#[tokio::test]
async fn s5_a_live_id_in_any_name_entangles_the_whole_directory() {
    let bed = Bed::new(BY_ORGANIZATION);
    bed.write(format!("org/{A}/a"), "x");
    bed.write(format!("org/{A}/deep/copy of {}.pdf", B.to_uppercase()), "x");
    bed.write(format!("{B}/{C}/a"), "the organization's directory has the name of a course");
    let inventory = bed.inventory(&[B]).await;
    let dead = &inventory.sources[0].dead;
    assert_eq!((dead[&id(A)].amount.resources, dead[&id(A)].entangled), (0, 2));
    assert_eq!((dead[&id(C)].amount.resources, dead[&id(C)].entangled), (0, 1));
    let mentions: Vec<_> =
        bed.locate(&[A, C]).await.into_iter().map(|handle| (handle.owner, handle.mentions)).collect();
    assert!(mentions.contains(&(id(A), vec![id(B)])) && mentions.contains(&(id(C), vec![id(B)])), "{mentions:?}");
}

#[tokio::test]
async fn s5_what_is_no_canonical_id_is_unrecognised() {
    let bed = Bed::new(BY_ORGANIZATION);
    let bad: Vec<Vec<u8>> = vec![
        A.to_uppercase().into_bytes(),
        format!("{{{A}}}").into_bytes(),
        A.replace('-', "").into_bytes(),
        format!("{A} ").into_bytes(),
        format!("{A}\n").into_bytes(),
        format!("\n{A}").into_bytes(),
        [A.as_bytes(), b"\xff"].concat(),
        b"\xff\xfe".to_vec(),
        b"...".to_vec(),
        b"career-playbooks".to_vec(),
        b".course-gc".to_vec(),
    ];
    for bad in &bad {
        bed.write(Path::new("org").join(name(bad)).join("file"), "x");
    }
    let before = bed.snapshot();
    let inventory = bed.inventory(&[]).await;
    assert_eq!(inventory.sources[0].unrecognised.count, bad.len() as u64);
    assert!(inventory.sources[0].dead.is_empty());
    assert_eq!(bed.locate(&[A]).await, vec![]);
    assert_eq!(bed.snapshot(), before);
}

#[tokio::test]
async fn what_does_not_fit_the_layout_is_unclaimed() {
    let bed = Bed::new("{organization_id}/x/{course_id}");
    bed.write("a file at the root", "x");
    bed.write("org/a file above", "x");
    bed.write(format!("org/x/{A}"), "a file in a course's place");
    bed.write(format!("org/y/{B}/file"), "another literal");
    bed.write(format!("org/x/{C}/file"), "a course");
    let inventory = bed.inventory(&[]).await;
    assert_eq!(inventory.unclaimed.count, 4, "{:?}", inventory.unclaimed.samples);
    assert_eq!(inventory.sources[0].dead.keys().copied().collect::<Vec<_>>(), vec![id(C)]);
}

#[tokio::test]
async fn s4_a_root_that_cannot_be_read_is_an_error_with_its_path() {
    let bed = Bed::new("{course_id}");
    bed.write(format!("{A}/file"), "x");
    assert_eq!(bed.inventory(&[]).await.sources[0].dead.len(), 1);
    fs::rename(bed.root(), bed.outside().join("moved")).unwrap();
    for make in [|_: &Path| (), |root: &Path| fs::write(root, "a file").unwrap()] {
        make(&bed.root());
        let error = bed.try_inventory(&[]).await.unwrap_err().to_string();
        assert!(error.contains(&bed.root().display().to_string()) && error.contains("no directory"), "{error}");
        assert!(bed.store.remaining(&targets(&[A])).await.is_err());
        assert!(bed.store.identity().await.is_err());
    }
}

#[test]
fn a_root_must_be_a_plain_absolute_path() {
    for bad in ["/", "//", "/.", "uploads", "./uploads", "", "/tmp/..", "/tmp/../etc"] {
        let error = FilesStore::new(settings(Path::new(bad), "{course_id}")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("files root {bad}: ")), "{error}");
    }
}

#[tokio::test]
async fn a_root_that_leads_to_the_file_system_root_is_refused() {
    let bed = Bed::new("{course_id}");
    symlink("/", bed.outside().join("all")).unwrap();
    let store = FilesStore::new(settings(&bed.outside().join("all"), "{course_id}")).unwrap();
    assert!(store.identity().await.is_err());
    let mut census = Census::new(Arc::new(LiveSet::empty(IdType::Uuid)), 1);
    assert!(store.inventory(&mut census).await.is_err());
}

#[tokio::test]
async fn identity_tells_one_root_from_another() {
    let bed = Bed::new("{course_id}");
    let before = bed.store.identity().await.unwrap();
    assert!(before.starts_with(&format!("files root {}, device ", bed.root().display())), "{before}");
    bed.write("x", "x");
    assert_eq!(bed.store.identity().await.unwrap(), before);
    fs::rename(bed.root(), bed.outside().join("moved")).unwrap();
    fs::create_dir(bed.root()).unwrap();
    assert_ne!(bed.store.identity().await.unwrap(), before);
}

#[tokio::test]
async fn s4_an_unreadable_directory_is_an_error() {
    if rustix::process::getuid().is_root() {
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        again_behind(&nobody, "inventory::s4_an_unreadable_directory_is_an_error");
        return;
    }
    let bed = Bed::new(BY_ORGANIZATION);
    bed.write(format!("org/{A}/deep/file"), "x");
    bed.write(format!("other/{B}/file"), "x");
    for closed in ["org".to_owned(), format!("org/{A}"), format!("org/{A}/deep")] {
        let closed = bed.root().join(closed);
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let error = bed.try_inventory(&[]).await.unwrap_err().to_string();
        assert!(error.contains("the collector's user needs"), "{error}");
        assert!(bed.store.remaining(&targets(&[A])).await.is_err());
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(bed.inventory(&[]).await.sources[0].dead.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_and_goes_meanwhile_disturbs_nothing() {
    let bed = Arc::new(Bed::new(BY_ORGANIZATION));
    bed.write(format!("org/{A}/stays"), "x");
    let stop = Arc::new(AtomicBool::new(false));
    let churn = {
        let (root, stop) = (bed.root(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                let organization = root.join(format!("passing-{}", rounds % 7));
                let deep = organization.join(B).join("deep");
                fs::create_dir_all(&deep).unwrap();
                fs::write(deep.join("file"), "x").unwrap();
                fs::write(root.join("org").join(A).join("passing"), "x").unwrap();
                fs::remove_file(root.join("org").join(A).join("passing")).unwrap();
                fs::remove_dir_all(&organization).unwrap();
                rounds += 1;
            }
            rounds
        })
    };
    for _ in 0..200 {
        let found = bed.found(A).await;
        assert!((1..=2).contains(&found.amount.resources), "{found:?}");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(churn.join().unwrap() > 0);
}

#[test]
fn an_entry_that_vanished_since_it_was_listed_is_left_out() {
    let bed = Bed::new(BY_ORGANIZATION);
    for n in 0..50 {
        bed.write(format!("{n}/{A}/{n}/file"), "x");
        bed.write(format!("whole/{A}/{n}/file"), "x");
    }
    let clear = |path: &Path, except: &[u8]| {
        for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
            if entry.file_name().as_bytes() != except {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
    };
    let root = open_root(&bed.root()).unwrap();
    let mut seen = 0;
    let whole = root.descend(&[b"whole", A.as_bytes()]).unwrap();
    tree::walk(whole, &Pulse::default(), |_, name, _, _| {
        if seen == 0 {
            clear(&bed.root().join("whole").join(A), name);
        }
        seen += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, 2, "one directory and its file");

    let ((sender, _entries), pulse) = (mpsc::channel(1), Pulse::default());
    let way = walk::Way { root: &root, place: &bed.store.place, pulse: &pulse, sender: &sender };
    let (mut out, mut listed) = (way.out(), Vec::new());
    let mut list = |path, _: &mut walk::Out<'_>| {
        listed.push(path);
        Ok(())
    };
    way.level(&root, 0, &[], &mut out, &mut list).unwrap();
    clear(&bed.root(), &listed[0]);
    for path in &listed {
        way.descend(&root, 1, path, path, &mut out).unwrap();
    }
    assert_eq!((listed.len(), out.chunk.len()), (51, 1));
}

#[tokio::test]
async fn many_courses_come_in_chunks() {
    let bed = Bed::new("{course_id}");
    let courses: BTreeSet<_> = (0..3_000u128).map(|n| CourseId::Uuid(uuid::Uuid::from_u128(n << 64 | 7))).collect();
    for course in &courses {
        fs::create_dir(bed.root().join(course.to_string())).unwrap();
    }
    let source = &bed.inventory(&[]).await.sources[0];
    assert_eq!(source.dead.keys().copied().collect::<BTreeSet<_>>(), courses);
}

#[tokio::test]
async fn what_has_several_names_takes_its_bytes_once() {
    let bed = Bed::new(BY_ORGANIZATION);
    bed.write(format!("org/{A}/one"), &"x".repeat(100_000));
    let alone = bed.found(A).await.amount;
    let home = bed.root().join("org").join(A);
    fs::create_dir(home.join("deep")).unwrap();
    for name in ["two", "deep/three"] {
        fs::hard_link(home.join("one"), home.join(name)).unwrap();
    }
    let linked = bed.found(A).await.amount;
    assert_eq!((alone.resources, linked.resources), (1, 3));
    assert!(alone.bytes >= Some(100_000));
    assert_eq!(linked.bytes, alone.bytes);
    let gone = bed.delete(bed.locate(&[A]).await).await;
    assert_eq!(gone, [Outcome::Deleted { resources: 3, bytes: alone.bytes }]);
}
