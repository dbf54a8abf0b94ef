//! What goes, what stays, and what a crash leaves.

use std::os::unix::fs::symlink;

use super::super::delete::{Refusal, discard, inspect};
use super::super::tree;
use super::super::watch::Pulse;
use super::*;

fn handle(owner: &str, key: impl Into<Vec<u8>>) -> Handle {
    Handle { source: SOURCE, owner: id(owner), mentions: Vec::new(), key: Bytes::from(key.into()) }
}

fn trash(bed: &Bed) -> PathBuf {
    bed.root().join(".course-gc/trash")
}

#[tokio::test]
async fn a_course_goes_and_its_neighbours_stay() {
    let bed = Bed::new(BY_ORGANIZATION);
    bed.write(format!("org/{B}/stays"), "x");
    bed.write("org/career-playbooks/p/stays", "x");
    let kept = bed.snapshot();
    bed.write(format!("org/{A}/a"), "x");
    bed.write(format!("org/{A}/deep/er/b"), "y");
    bed.write(Path::new(&format!("alone/{A}")).join(name(b"\xff\n")).join(name(b"*\n\xfe")), "z");
    let bytes = bed.found(A).await.amount.bytes.unwrap();

    let outcomes = bed.delete(bed.locate(&[A]).await).await;
    let (mut resources, mut freed) = (0, 0);
    for outcome in &outcomes {
        let Outcome::Deleted { resources: gone, bytes } = outcome else { panic!("{outcome:?}") };
        resources += gone;
        freed += bytes.unwrap();
    }
    assert_eq!((outcomes.len(), resources, freed), (2, 3, bytes));
    fs::remove_dir_all(bed.root().join(".course-gc/emptied")).unwrap();
    let mut left = bed.snapshot();
    for own in [trash(&bed), bed.root().join(".course-gc"), bed.root().join("alone")] {
        assert_eq!(left.remove(&own).as_deref(), Some(&b"directory"[..]), "{own:?}");
    }
    assert_eq!(left, kept);
    assert_eq!(bed.remaining(A).await, 0);
}

#[tokio::test]
async fn s11_deleting_twice_is_harmless() {
    let bed = Bed::new(BY_ORGANIZATION);
    bed.write(format!("org/{A}/a"), "x");
    let handles = bed.locate(&[A]).await;
    assert!(matches!(bed.delete(handles.clone()).await[..], [Outcome::Deleted { resources: 1, .. }]));
    assert_eq!(bed.delete(handles.clone()).await, vec![Outcome::Absent]);
    fs::remove_dir(bed.root().join("org")).unwrap();
    assert_eq!(bed.delete(handles).await, vec![Outcome::Absent], "nor does the directory above need to be there");
}

#[tokio::test]
async fn s5_a_handle_that_is_not_its_owners_is_refused() {
    let bed = Bed::new(BY_ORGANIZATION);
    bed.write(format!("org/{B}/{A}/file"), "x");
    bed.write(format!("{A}/file"), "x");
    bed.write(format!(".course-gc/trash/{B}.1/file"), "x");
    bed.write(format!(".course-gc/trash/{A}"), "without a dot");
    fs::create_dir_all(bed.outside().join(A)).unwrap();
    let before = bed.snapshot();
    let keys = [
        format!("org/{B}"),
        format!("org/{B}/{A}"),
        A.to_owned(),
        format!("../{A}"),
        format!("org/../{A}"),
        format!("../outside/{A}"),
        format!("/{A}"),
        format!("./{A}"),
        bed.outside().join(A).display().to_string(),
        format!(".course-gc/{A}"),
        format!(".course-gc/trash/{B}.1"),
        format!(".course-gc/trash/{A}"),
        format!(".course-gc/trash/../{A}.1"),
        format!("org/{}", A.to_uppercase()),
        String::new(),
    ];
    for key in keys {
        let outcomes = bed.delete(vec![handle(A, key.clone())]).await;
        assert!(matches!(&outcomes[..], [Outcome::Failed(_)]), "{key}: {outcomes:?}");
    }
    assert_eq!(bed.snapshot(), before);
}

#[tokio::test]
async fn s5_an_id_that_came_after_the_confirmation_holds_the_directory() {
    let bed = Bed::new("{course_id}");
    bed.write(format!("{A}/file"), "x");
    let handles = bed.locate(&[A]).await;
    bed.write(format!("{A}/deep/{B}.pdf"), "x");
    let before = bed.snapshot();
    let outcomes = bed.delete(handles).await;
    assert!(matches!(&outcomes[..], [Outcome::Failed(why)] if why.contains(B)), "{outcomes:?}");
    assert_eq!(bed.snapshot(), before);
}

#[tokio::test]
async fn a_batch_goes_on_past_a_failure() {
    let bed = Bed::new("{course_id}");
    bed.write(format!("{A}/file"), "x");
    bed.write(format!("{B}/{C}"), "x");
    let outcomes = bed.delete(vec![handle(B, B), handle(A, A)]).await;
    assert!(matches!(outcomes[..], [Outcome::Failed(_), Outcome::Deleted { .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn s11_what_a_crash_left_in_the_trash_is_finished_by_the_next_run() {
    let bed = Bed::new(BY_ORGANIZATION);
    bed.write(format!("org/{A}/file"), "x");
    bed.write(format!(".course-gc/trash/{A}.0000000000000001/rest"), "x");
    bed.write(format!(".course-gc/trash/{A}.0000000000000001/deep/rest"), "x");
    bed.write(".course-gc/trash/strange/file", "x");
    let inventory = bed.inventory(&[]).await;
    assert_eq!(inventory.sources[0].dead[&id(A)].amount.resources, 3);
    assert_eq!(inventory.unclaimed.samples, vec![".course-gc/trash/strange"]);
    assert_eq!(bed.remaining(A).await, 3);
    let live = bed.inventory(&[A]).await;
    assert_eq!((live.sources[0].live_courses, live.sources[0].dead.len()), (1, 0), "live again: it stays");

    let handles = bed.locate(&[A]).await;
    assert_eq!(handles.len(), 2);
    assert!(handles.iter().all(|handle| handle.mentions.is_empty()), "the trash's names name nobody else");
    let outcomes = bed.delete(handles).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Deleted { .. })), "{outcomes:?}");
    assert_eq!(bed.remaining(A).await, 0);
    assert!(trash(&bed).join("strange/file").exists());
}

#[tokio::test]
async fn what_is_moved_to_the_trash_is_found_there() {
    let bed = Bed::new("{course_id}");
    bed.write(format!("{A}/file"), "x");
    let before = bed.found(A).await.amount;
    let inspected = inspect(&bed.store.place, &handle(A, A), &Pulse::default()).unwrap().unwrap();
    assert!(discard(&bed.store.place, inspected, &BTreeSet::new(), &Pulse::default()).unwrap().is_some());
    assert!(!bed.root().join(A).exists(), "the rename is the delete");
    assert_eq!(bed.found(A).await.amount, before, "nothing new was orphaned by an interrupted delete");
    bed.write(format!("{A}/file"), "written since");
    assert_eq!(bed.remaining(A).await, 2);
    assert!(bed.delete(bed.locate(&[A]).await).await.iter().all(|outcome| matches!(outcome, Outcome::Deleted { .. })));
    assert_eq!(bed.remaining(A).await, 0);
}

#[tokio::test]
async fn s11_a_removal_that_was_cut_short_is_finished_by_the_next_run() {
    let bed = Bed::new("{course_id}");
    for n in 0..20 {
        bed.write(format!("{A}/{}/{n}", n % 3), "x");
    }
    let inspected = inspect(&bed.store.place, &handle(A, A), &Pulse::default()).unwrap().unwrap();
    let trashed = discard(&bed.store.place, inspected, &BTreeSet::new(), &Pulse::default()).unwrap().unwrap();
    let watch = Watch::new(Duration::ZERO);
    let pulse = watch.pulse();
    let mut watch = Some(watch);
    assert!(matches!(trashed.remove(&pulse, || drop(watch.take())), Err(Fault::Stopped)));
    assert_eq!((bed.found(A).await.amount.resources, bed.remaining(A).await), (19, 19));
    assert!(matches!(bed.delete(bed.locate(&[A]).await).await[..], [Outcome::Deleted { resources: 19, .. }]));
    assert_eq!(fs::read_dir(trash(&bed)).unwrap().count(), 0);
}

#[tokio::test]
async fn a_directory_that_was_replaced_since_it_was_looked_at_stays() {
    let bed = Bed::new("{course_id}");
    bed.write(format!("{A}/file"), "x");
    bed.write("other/file", "of somebody else");
    let inspected = inspect(&bed.store.place, &handle(A, A), &Pulse::default()).unwrap().unwrap();
    fs::rename(bed.root().join(A), bed.outside().join("gone")).unwrap();
    fs::rename(bed.root().join("other"), bed.root().join(A)).unwrap();
    let refused = discard(&bed.store.place, inspected, &BTreeSet::new(), &Pulse::default());
    assert!(matches!(&refused, Err(Refusal::Changed(why)) if why.contains("replaced")));
    assert_eq!(fs::read(bed.root().join(A).join("file")).unwrap(), b"of somebody else");
    assert_eq!(fs::read_dir(trash(&bed)).unwrap().count(), 0);
}

#[tokio::test]
async fn a_directory_that_vanished_since_it_was_looked_at_is_absent() {
    let bed = Bed::new("{course_id}");
    bed.write(format!("{A}/file"), "x");
    let inspected = inspect(&bed.store.place, &handle(A, A), &Pulse::default()).unwrap().unwrap();
    fs::remove_dir_all(bed.root().join(A)).unwrap();
    assert!(discard(&bed.store.place, inspected, &BTreeSet::new(), &Pulse::default()).unwrap().is_none());
}

#[tokio::test]
async fn s2_nobody_moves_what_nobody_waits_for() {
    let bed = Bed::new("{course_id}");
    bed.write(format!("{A}/file"), "x");
    let inspected = inspect(&bed.store.place, &handle(A, A), &Pulse::default()).unwrap().unwrap();
    let given_up = Watch::new(Duration::ZERO).pulse();
    assert!(matches!(
        discard(&bed.store.place, inspected, &BTreeSet::new(), &given_up),
        Err(Refusal::Fault(Fault::Stopped))
    ));
    assert!(bed.root().join(A).join("file").exists());
}

#[tokio::test]
async fn what_appears_while_it_is_removed_goes_too() {
    let bed = Bed::new("{course_id}");
    bed.write("x/file", "x");
    bed.write("x/deep/file", "x");
    let root = open_root(&bed.root()).unwrap();
    let late = || bed.write("x/deep/late", "written by someone who still had it open");
    let taken = tree::remove(&root, b"x", &Pulse::default(), (tree::freed, late)).unwrap();
    assert!((2..=3).contains(&taken.files), "{taken:?}");
    assert!(!bed.root().join("x").exists());
}

#[tokio::test]
async fn deep_trees_and_links_go_without_their_targets() {
    let bed = Bed::new("{course_id}");
    fs::write(bed.outside().join("kept"), "x").unwrap();
    let deep = (0..150).fold(PathBuf::from(A), |path, n| path.join(n.to_string()));
    bed.write(deep.join("file"), "x");
    symlink(bed.outside(), bed.root().join(&deep).join("link")).unwrap();
    symlink("..", bed.root().join(A).join("up")).unwrap();
    symlink("nowhere", bed.root().join(A).join("dangling")).unwrap();
    assert!(matches!(bed.delete(bed.locate(&[A]).await).await[..], [Outcome::Deleted { resources: 4, .. }]));
    assert_eq!(fs::read(bed.outside().join("kept")).unwrap(), b"x");
    assert!(!bed.root().join(A).exists());
}
