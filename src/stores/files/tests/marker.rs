//! The marker as a file: what it leaves alone, what it follows not, what a crash and another process do to it.

use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::FlockOperation;
use uuid::Uuid;

use super::*;
use crate::domain::markers::{Owner, Truths};
use crate::errors::chain;
use crate::stores::Marker;

fn owner(counter: u64) -> Owner {
    let truths = Truths::from([("77/campus".to_owned(), "77 1".to_owned())]);
    Owner { installation: Uuid::from_u128(1), name: "campus".into(), counter, truths }
}

fn marker(counter: u64) -> Marker {
    Marker::of(owner(counter))
}

impl Bed {
    fn own(&self) -> PathBuf {
        self.root().join(".course-gc")
    }

    /// The error of every call on the marker, none of which may change anything.
    async fn no_marker(&self) -> Vec<String> {
        let before = self.snapshot();
        let errors = [
            self.store.marker().await.unwrap_err(),
            self.store.move_marker(None, &marker(1)).await.unwrap_err(),
            self.store.move_marker(Some(&marker(0)), &marker(1)).await.unwrap_err(),
        ];
        assert_eq!(self.snapshot(), before);
        errors.iter().map(|error| chain(error)).collect()
    }
}

#[tokio::test]
async fn s7_asking_for_a_marker_makes_nothing() {
    let bed = Bed::new(BY_ORGANIZATION);
    let before = bed.snapshot();
    assert_eq!(bed.store.marker().await.unwrap(), None);
    assert!(!bed.store.move_marker(Some(&marker(0)), &marker(1)).await.unwrap());
    assert_eq!(bed.snapshot(), before);
}

#[tokio::test]
async fn s7_what_is_no_marker_is_an_error_and_stays() {
    let bed = Bed::new(BY_ORGANIZATION);
    for content in ["", "{}", "null", &" ".repeat(16 * 1024 + 1)] {
        bed.write(".course-gc/marker.json", content);
        for error in bed.no_marker().await {
            let expected = if content.len() > 100 { "is too long" } else { "holds no marker" };
            assert!(error.contains("`.course-gc/marker.json`") && error.contains(expected), "{error}");
        }
    }
    let path = bed.own().join("marker.json");
    fs::remove_file(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    for error in bed.no_marker().await {
        assert!(error.contains("is no file"), "a pipe is not waited for: {error}");
    }
}

#[tokio::test]
async fn s13_a_marker_is_not_reached_by_links() {
    let bed = Bed::new(BY_ORGANIZATION);
    let elsewhere = bed.outside().join("marker.json");
    fs::write(&elsewhere, serde_json::to_vec(&marker(0)).unwrap()).unwrap();
    fs::create_dir(bed.own()).unwrap();
    symlink(&elsewhere, bed.own().join("marker.json")).unwrap();
    for error in bed.no_marker().await {
        assert!(error.contains("is no file"), "{error}");
    }
    fs::remove_dir_all(bed.own()).unwrap();
    symlink(bed.outside(), bed.own()).unwrap();
    for error in bed.no_marker().await {
        assert!(error.contains("cannot open the directory `.course-gc`"), "{error}");
    }
}

#[tokio::test]
async fn s13_what_lies_where_a_marker_is_written_is_not_followed() {
    let bed = Bed::new(BY_ORGANIZATION);
    let victim = bed.outside().join("victim");
    fs::write(&victim, "untouched").unwrap();
    fs::create_dir(bed.own()).unwrap();
    symlink(&victim, bed.own().join("marker.json.new")).unwrap();
    assert!(bed.store.move_marker(None, &marker(1)).await.unwrap(), "what a crash left is replaced");
    assert_eq!(bed.store.marker().await.unwrap(), Some(marker(1)));
    assert!(!bed.own().join("marker.json.new").exists());
    assert_eq!(fs::metadata(bed.own().join("marker.json")).unwrap().permissions().mode() & 0o777, 0o600);

    fs::remove_file(bed.own().join("marker.lock")).unwrap();
    symlink(&victim, bed.own().join("marker.lock")).unwrap();
    assert!(bed.store.move_marker(Some(&marker(1)), &marker(2)).await.is_err());
    assert_eq!(bed.store.marker().await.unwrap(), Some(marker(1)));
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
}

/// A process that was frozen while it held the lock.
#[tokio::test]
async fn s7_a_lock_that_stays_taken_is_given_up_and_nothing_moves_later() {
    let bed = Bed::new(BY_ORGANIZATION);
    assert!(bed.store.move_marker(None, &marker(1)).await.unwrap());
    let lock = fs::File::open(bed.own().join("marker.lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    let soon = Duration::from_millis(100);
    let impatient =
        FilesStore::new(FilesSettings { call_timeout: soon, ..settings(&bed.root(), BY_ORGANIZATION) }).unwrap();
    let given_up = impatient.move_marker(Some(&marker(1)), &marker(2)).await;
    assert!(matches!(given_up, Err(StoreError::Timeout { .. })), "{given_up:?}");
    drop(lock);
    assert!(bed.store.move_marker(Some(&marker(1)), &marker(3)).await.unwrap(), "the lock is free, nothing moved");
}

#[tokio::test]
async fn a_name_that_is_too_long_is_refused() {
    let bed = Bed::new(BY_ORGANIZATION);
    let long = Owner { name: "n".repeat(16 * 1024), ..owner(1) };
    for long in [Marker::of(long.clone()), marker(1).with(Owner { installation: Uuid::from_u128(2), ..long })] {
        let error = bed.store.move_marker(None, &long).await.unwrap_err().to_string();
        assert!(error.contains("shorten the installations' names"), "{error}");
        assert_eq!(bed.store.marker().await.unwrap(), None);
    }
}
