//! Courses' directories.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::bed::Bed;
use crate::ids;

/// How many courses an organization has.
const COURSES: u64 = 1000;

/// The configuration of a store over them.
pub(super) fn store(root: &Path, quarantine: bool) -> String {
    format!(
        "uploads:\n  kind: files\n  root: {}\n  layout: \"{{organization_id}}/{{course_id}}\"\n  exclusive: true\n  quarantine: {quarantine}\n",
        root.display()
    )
}

/// Where a course's directory is.
pub(super) fn directory(root: &Path, course: u64) -> PathBuf {
    root.join(format!("organization-{}", course / COURSES)).join(ids::course(course).to_string())
}

/// Makes the directories of these courses, each with so many files. Blocks.
pub(super) fn seed(root: &Path, courses: Range<u64>, each: u64) -> Result<()> {
    for course in courses {
        let directory = directory(root, course);
        fs::create_dir_all(&directory)?;
        for n in 0..each {
            fs::write(directory.join(format!("lesson-{n}.md")), "what a lesson says")?;
        }
    }
    Ok(())
}

/// A store of no directories at all: a configuration needs one.
pub(super) fn none(bed: &Bed) -> Result<String> {
    let root = bed.folder().join("nothing");
    fs::create_dir_all(&root)?;
    Ok(store(&root, true))
}
