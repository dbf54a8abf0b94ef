//! Directories above courses' that a delete emptied.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use chrono::{DateTime, TimeDelta, Utc};

use super::kept::{copies, sweep};
use super::*;
use crate::stores::copies::{PutBack, Restoring};

const GRACE: TimeDelta = TimeDelta::hours(24);

fn at(hours: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(hours)
}

async fn tidy(bed: &Bed, hours: i64) {
    bed.store.tidy(at(hours), GRACE).await.unwrap();
}

fn notes(bed: &Bed) -> usize {
    bed.root().join(".course-gc/emptied").read_dir().unwrap().count()
}

#[tokio::test]
async fn s6_a_directory_that_we_emptied_goes_when_nothing_happened_in_it_for_as_long_as_grace() {
    for is_quarantined in [true, false] {
        let bed = Bed::new(BY_ORGANIZATION);
        bed.write(format!("acme/{A}/a"), "a");
        bed.write(format!("acme/{B}/b"), "b");
        bed.write(format!("other/{C}/c"), "c");
        fs::create_dir(bed.root().join("never-used")).unwrap();
        for (batch, course) in [(1, A), (2, B)] {
            if is_quarantined {
                sweep(&bed, course, batch).await;
            } else {
                bed.delete(bed.locate(&[course]).await).await;
            }
        }
        let acme = bed.root().join("acme");
        assert!(acme.read_dir().unwrap().next().is_none());
        tidy(&bed, 1000).await;
        tidy(&bed, 1023).await;
        assert!(acme.exists(), "it waits from when a run saw it empty");
        tidy(&bed, 1024).await;
        assert!(!acme.exists());
        assert_eq!(notes(&bed), 0);
        assert!(bed.root().join("never-used").exists(), "what we did not empty stays");
        assert!(bed.root().join("other").join(C).exists());
    }
}

#[tokio::test]
async fn s6_a_directory_that_is_in_use_again_stays_for_good() {
    // The application may use it before a run saw it empty, or after, and may have left again.
    for used_after in [false, true] {
        for leaves in [false, true] {
            let bed = Bed::new(BY_ORGANIZATION);
            bed.write(format!("acme/{A}/a"), "a");
            sweep(&bed, A, 1).await;
            if used_after {
                tidy(&bed, 1000).await;
            }
            bed.write("acme/upload.part", "x");
            if leaves {
                fs::remove_file(bed.root().join("acme/upload.part")).unwrap();
            }
            for hours in [2000, 3000] {
                tidy(&bed, hours).await;
            }
            // Emptied by us, and then used and left before any run looked: as good as never used.
            assert_eq!(bed.root().join("acme").exists(), used_after || !leaves, "{used_after} {leaves}");
            assert_eq!(notes(&bed), 0);
        }
    }
}

#[tokio::test]
async fn what_lies_beside_the_last_course_keeps_its_directory() {
    let bed = Bed::new(BY_ORGANIZATION);
    bed.write(format!("acme/{A}/a"), "a");
    bed.write("acme/career-playbooks/1/b", "b");
    sweep(&bed, A, 1).await;
    assert!(!bed.root().join(".course-gc/emptied").exists(), "nothing was emptied");
}

#[tokio::test]
async fn a_directory_that_was_made_anew_is_another_one() {
    let bed = Bed::new(BY_ORGANIZATION);
    bed.write(format!("acme/{A}/a"), "a");
    sweep(&bed, A, 1).await;
    tidy(&bed, 1000).await;
    let acme = bed.root().join("acme");
    // Both there at once, so that they cannot be one inode.
    fs::create_dir(bed.root().join("new")).unwrap();
    fs::remove_dir(&acme).unwrap();
    fs::rename(bed.root().join("new"), &acme).unwrap();
    tidy(&bed, 2000).await;
    assert!(acme.exists());
    assert_eq!(notes(&bed), 0);
}

#[tokio::test]
async fn s13_a_link_in_an_emptied_directorys_place_leads_nowhere() {
    let bed = Bed::new(BY_ORGANIZATION);
    bed.write(format!("acme/{A}/a"), "a");
    sweep(&bed, A, 1).await;
    tidy(&bed, 1000).await;
    let there = bed.outside().join("empty");
    fs::rename(bed.root().join("acme"), &there).unwrap();
    std::os::unix::fs::symlink(&there, bed.root().join("acme")).unwrap();
    tidy(&bed, 2000).await;
    assert!(there.exists() && bed.root().join("acme").is_symlink());
}

#[tokio::test]
async fn each_level_that_becomes_empty_waits_in_its_turn_and_the_roots_own_levels_stay() {
    let bed = Bed::new("uploads/{organization_id}/courses/{course_id}");
    bed.write(format!("uploads/acme/courses/{A}/a"), "a");
    sweep(&bed, A, 1).await;
    let uploads = bed.root().join("uploads");
    for (hours, courses, acme) in [
        (0, true, true),
        (24, false, true),
        (48, false, true),
        (71, false, true),
        (72, false, false),
        (200, false, false),
    ] {
        tidy(&bed, hours).await;
        let are = (uploads.join("acme/courses").exists(), uploads.join("acme").exists());
        // The one above was noted in the middle of the run at 24, and seen by it or by the next one.
        if hours != 48 {
            assert_eq!(are, (courses, acme), "{hours}");
        }
    }
    assert!(uploads.exists());
}

#[tokio::test]
async fn a_note_that_was_cut_short_is_removed() {
    let bed = Bed::new(BY_ORGANIZATION);
    let notes_in = bed.root().join(".course-gc/emptied");
    fs::create_dir_all(&notes_in).unwrap();
    fs::write(notes_in.join("0123456789abcdef"), "{").unwrap();
    fs::write(notes_in.join("0123456789abcdef.new"), "").unwrap();
    tidy(&bed, 0).await;
    assert_eq!(notes(&bed), 0);
}

#[tokio::test]
async fn s12_directories_above_a_course_that_have_gone_come_back_as_they_were() {
    let bed = Bed::new("{organization_id}/courses/{course_id}");
    bed.write(format!("acme/courses/{A}/a"), "a");
    let acme = bed.root().join("acme");
    let is_root = rustix::process::geteuid().is_root();
    for (path, mode, owner) in [(acme.clone(), 0o2750, 1234), (acme.join("courses"), 0o1775, 5678)] {
        if is_root {
            chown(&path, Some(owner), Some(owner + 1)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let described = || {
        [acme.clone(), acme.join("courses")].map(|path| {
            let metadata = fs::metadata(path).unwrap();
            (metadata.mode(), metadata.uid(), metadata.gid())
        })
    };
    let before = described();
    sweep(&bed, A, 1).await;
    for hours in [0, 24, 48, 72, 96] {
        tidy(&bed, hours).await;
    }
    assert!(!acme.exists());
    let kept = copies(&bed).await;
    assert_eq!(InPlace::put_back(&bed.store, &kept[0], Restoring::Look).await, PutBack::Restored);
    assert_eq!(InPlace::put_back(&bed.store, &kept[0], Restoring::Missing).await, PutBack::Restored);
    assert_eq!(fs::read(acme.join("courses").join(A).join("a")).unwrap(), b"a");
    assert_eq!(described(), before);
}
