//! A root as `course-gc doctor` sees it: whether it can be read, and directories moved into our own folder in it.

use rustix::fs::{Access, AtFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::layout::OWN_FOLDER;
use super::walk::open_root;
use super::watch::Fault;
use super::{FilesStore, Place};
use crate::domain::findings::Finding;
use crate::errors::chain;

const READABLE: &str = "readable";
const WRITABLE: &str = "writable";
const RUN_AS: &str =
    "run as the user who writes the files (`runAs` in the chart), and see that the volume is not mounted read-only";

impl FilesStore {
    /// What was found. What it writes is in our own folder, and gone again.
    pub(super) async fn examine_root(&self) -> Vec<Finding> {
        let looked = self.blocking(self.call_timeout, "look whether it can be used".to_owned(), |place, pulse| {
            let mut entries = 0_u64;
            let read = open_root(&place.root).and_then(|root| {
                root.entries(Fault::at("read the directory", b"."), |_, _| {
                    entries += 1;
                    pulse.beat()
                })?;
                Ok(root)
            });
            let root = match read {
                Ok(root) => root,
                Err(fault) => return vec![Finding::problem(READABLE, fault.explain(), RUN_AS)],
            };
            let seen = format!("{} can be read, and has {entries} entries", place.shown());
            let mut findings = vec![Finding::ok(READABLE, seen), movable(place, &root)];
            findings.extend(free(place));
            findings
        });
        looked.await.unwrap_or_else(|error| {
            vec![Finding::problem(READABLE, chain(&error), "see whether the file system answers")]
        })
    }
}

/// Whether names can be moved from the root to our folder.
fn movable(place: &Place, root: &super::beneath::Dir) -> Finding {
    let own = match root.open(OWN_FOLDER) {
        Ok(own) => own,
        // Adopting makes it.
        Err(Errno::NOENT) => return may_write(place),
        Err(Errno::XDEV) => {
            let seen = "something is mounted at `.course-gc`, and nothing can be moved across mounts";
            return Finding::problem(WRITABLE, seen, "mount the root alone");
        }
        Err(errno) => {
            return Finding::problem(WRITABLE, Fault::at("open the directory", OWN_FOLDER)(errno).explain(), RUN_AS);
        }
    };
    let (name, moved) = (format!("doctor-{}", Uuid::new_v4().simple()), format!("doctor-{}", Uuid::new_v4().simple()));
    let probe = || {
        let written = own
            .write(name.as_bytes(), b"course-gc doctor\n")
            .map_err(Fault::at("write a file in", OWN_FOLDER))
            .and_then(|()| {
                own.rename(name.as_bytes(), &own, moved.as_bytes()).map_err(Fault::at("rename in", OWN_FOLDER))
            })
            .and_then(|()| own.sync().map_err(Fault::at("sync", OWN_FOLDER)));
        // One of them is there, whatever failed.
        let removed = [&name, &moved].map(|name| own.unlink(name.as_bytes()));
        written?;
        removed
            .into_iter()
            .find(|removed| *removed != Err(Errno::NOENT))
            .unwrap_or(Ok(()))
            .map_err(Fault::at("remove from", OWN_FOLDER))
    };
    match probe() {
        Ok(()) => may_write(place),
        Err(fault) => Finding::problem(WRITABLE, fault.explain(), RUN_AS),
    }
}

/// Whether the root itself may be written to; nothing is written, since it is the application's.
fn may_write(place: &Place) -> Finding {
    let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    match rustix::fs::accessat(rustix::fs::CWD, &place.root, access, AtFlags::EACCESS) {
        Ok(()) => Finding::ok(WRITABLE, "directories can be moved from it into its `.course-gc`"),
        Err(errno) => Finding::problem(WRITABLE, Fault::at("write to", b".")(errno).explain(), RUN_AS),
    }
}

/// A full disk keeps even a rename from being written down.
fn free(place: &Place) -> Option<Finding> {
    let stat = rustix::fs::statvfs(&place.root).ok()?;
    let percent = stat.f_bavail.saturating_mul(100) / stat.f_blocks.max(1);
    let seen = format!("{percent} % of its disk are free");
    Some(match percent {
        0 => Finding::advice("disk", seen, "make room: copies lie on the same disk until they expire"),
        _ => Finding::ok("disk", seen),
    })
}
