//! Copies beside the originals (S12).

use std::sync::Arc;

use super::*;
use crate::clock::{Clock, Deadline, MachineClock};
use crate::pace::Settings;

/// A course with these objects, all copied in a batch.
async fn copied(names: &[&str]) -> (Objects, Direct, ObjectsStore, Vec<Handle>, Vec<Copied>) {
    let (server, direct, store) = bed().await;
    for name in names {
        direct.put(&format!("org/7/{name}"), format!("content of {name}")).await;
    }
    let handles = located(&store, &targets([COURSE])).await;
    let done = copy(&store, 1, &handles).await;
    (server, direct, store, handles, done)
}

async fn copies(store: &ObjectsStore) -> Vec<PlacedCopy> {
    let mut copies = store.in_place().unwrap().copies().await.unwrap();
    copies.sort_by(|a, b| a.name.cmp(&b.name));
    copies
}

#[tokio::test]
async fn s12_what_was_written_since_it_was_copied_stays() {
    let (_server, direct, store, handles, done) = copied(&["a", "b", "c"]).await;
    direct.put("org/7/b", "written since").await;
    direct.put("org/7/new", "new").await;
    direct.remove("org/7/c").await;
    let outcomes = store.delete(&condemned(1, &handles, &done)).await.outcomes;
    let stays = Outcome::Partly { resources: 0, bytes: None, left: 1 };
    assert_eq!(outcomes, vec![Outcome::Deleted { resources: 1, bytes: Some(12) }, stays, Outcome::Absent]);
    let left = direct.contents().await;
    let names: Vec<_> = left.keys().map(|name| name.escape_ascii().to_string()).collect();
    assert_eq!(names, ["org/7/b", "org/7/new"]);

    let copies = copies(&store).await;
    let in_place = store.in_place().unwrap();
    let mut back = Vec::new();
    for copy in &copies {
        back.push(in_place.put_back(copy, Restoring::Missing).await);
    }
    assert_eq!(back, [PutBack::Restored, PutBack::Exists, PutBack::Restored]);
    assert_eq!(direct.contents().await[&b"org/7/b"[..]], b"written since", "what exists anew is not overwritten");
    assert_eq!(in_place.put_back(&copies[1], Restoring::Overwrite).await, PutBack::Restored);
    assert_eq!(direct.contents().await[&b"org/7/b"[..]], b"content of b");
    let again = in_place.put_back(&copies[0], Restoring::Overwrite).await;
    assert!(matches!(&again, PutBack::Failed(cause) if cause.contains("has gone")), "{again:?}");
}

#[tokio::test]
async fn s12_a_copy_says_what_it_is_of_and_can_be_removed_for_good() {
    let (_server, direct, store, handles, _) = copied(&["a", "b"]).await;
    let copies = copies(&store).await;
    let said: Vec<_> = copies.iter().map(|copy| (copy.name.clone(), copy.course, copy.bytes, copy.id)).collect();
    let expected: Vec<_> = handles.iter().map(|handle| (handle.key.clone(), COURSE, 12, copy_id(1))).collect();
    assert_eq!(said, expected);
    assert_eq!(inventory(&store).await.unwrap().sources[0].dead[&COURSE].amount.resources, 2, "copies are no course's");
    let in_place = store.in_place().unwrap();
    in_place.purge(&copies[0], &still_good()).await.unwrap();
    in_place.purge(&copies[0], &still_good()).await.unwrap();
    assert_eq!(in_place.copies().await.unwrap(), copies[1..]);
    in_place.purge(&copies[1], &still_good()).await.unwrap();
    assert_eq!(direct.names().await, ["org/7/a", "org/7/b"], "nothing of the batch is left, not even its manifest");
}

/// Until when who is live need not be asked again.
fn good_for(time: Duration) -> Deadline {
    Deadline::new(MachineClock.since_boot() + time, Arc::new(MachineClock))
}

fn still_good() -> Deadline {
    good_for(FRESH)
}

#[tokio::test]
async fn s12_a_purge_that_has_to_wait_for_its_turn_is_not_made_on_an_old_answer() {
    let (_server, _, store, ..) = copied(&["a"]).await;
    let pace = Pace::new(Settings { in_flight: 1, ..Pace::default().settings() }, Arc::new(MachineClock));
    let store = store.paced(pace.clone());
    let copies = copies(&store).await;
    let in_place = store.in_place().unwrap();
    let other = pace.turn().await;
    let waits = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        other.end();
    };
    let good = good_for(Duration::from_millis(50));
    let (purged, ()) = tokio::join!(in_place.purge(&copies[0], &good), waits);
    assert!(!purged.unwrap());
    assert_eq!(in_place.copies().await.unwrap(), copies);
    assert!(!in_place.purge(&copies[0], &good).await.unwrap(), "nor is it begun late");
    assert!(in_place.purge(&copies[0], &still_good()).await.unwrap());
}

#[tokio::test]
async fn s12_copies_without_their_manifest_are_none() {
    let (_server, direct, store, ..) = copied(&["a"]).await;
    let manifest = format!(".course-gc/quarantine/{}/manifest.json", copy_id(1));
    direct.remove(&manifest).await;
    assert_eq!(copies(&store).await, vec![]);
    direct.put(&manifest, "{").await;
    let error = store.in_place().unwrap().copies().await.unwrap_err().to_string();
    assert!(error.contains("holds no manifest"), "{error}");
}

#[tokio::test]
async fn s12_what_was_never_finished_is_removed_by_the_next_run() {
    let (_server, direct, store, handles, _) = copied(&["a", "b"]).await;
    copy(&store, 2, &handles).await;
    direct.remove(&format!(".course-gc/quarantine/{}/manifest.json", copy_id(2))).await;
    let all = direct.names().await;
    store.remove_unfinished(copy_id(2).run).await.unwrap();
    assert_eq!(direct.names().await, all, "it is the run's own");
    store.remove_unfinished(Uuid::from_u128(8)).await.unwrap();
    let unfinished = format!(".course-gc/quarantine/{}/", copy_id(2));
    let kept: Vec<_> = all.into_iter().filter(|name| !name.starts_with(&unfinished)).collect();
    assert_eq!(direct.names().await, kept);
    assert_eq!(copies(&store).await.len(), 2);
}

#[tokio::test]
async fn s12_no_batch_is_copied_over_another() {
    let (_server, _direct, store, handles, _) = copied(&["a"]).await;
    let error = store.copy(&copy_id(1), &handles, &mut Nowhere).await.unwrap_err().to_string();
    assert!(error.contains("already"), "{error}");
    assert_eq!(copies(&store).await.len(), 1);
}

#[tokio::test]
async fn s5_a_handle_that_names_another_s_object_is_neither_copied_nor_deleted() {
    let (_server, direct, store, handles, _) = copied(&["a"]).await;
    let other = Handle { owner: CourseId::Integer(8), ..handles[0].clone() };
    let own = Handle { key: Bytes::from(".course-gc/marker.json"), ..handles[0].clone() };
    for handle in [other, own] {
        let done = copy(&store, 2, std::slice::from_ref(&handle)).await;
        assert!(matches!(&done[0], Copied::Failed(cause) if cause.contains("is no object of course")), "{done:?}");
        let outcomes = store.delete(&Condemned::for_test(vec![handle], FRESH)).await.outcomes;
        assert!(matches!(&outcomes[0], Outcome::Failed(cause) if cause.contains("is no object of course")));
    }
    assert_eq!(direct.contents().await.len(), 1);
}
