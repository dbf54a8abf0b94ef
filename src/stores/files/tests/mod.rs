//! A files store on real directories in a temporary folder.

mod contract;
mod delete;
mod emptied;
mod escape;
mod inventory;
mod kept;
mod large;
mod layers;
mod layouts;
mod marker;
mod references;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::domain::inventory::{Found, Inventory, Referred};
use crate::domain::live_set::LiveSet;
use crate::stores::contract::located;

const A: &str = "0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d";
const B: &str = "7c1de1a2-93b1-4c4e-8a55-0d2f4f6b9a10";
const C: &str = "e2f4a6b8-0c1d-4e3f-9a5b-7c6d8e9f0a1b";
const BY_ORGANIZATION: &str = "{organization_id}/{course_id}";

fn id(text: &str) -> CourseId {
    IdType::Uuid.parse(text.as_bytes()).expect("an id")
}

/// A temporary folder with a root and a place outside it.
struct Bed {
    temp: TempDir,
    store: FilesStore,
}

impl Bed {
    fn new(layout: &str) -> Self {
        Self::with(layout, None)
    }

    fn with(layout: &str, references: Option<ReferenceSettings>) -> Self {
        Self::at(TempDir::new().unwrap(), layout, references)
    }

    fn at(temp: TempDir, layout: &str, references: Option<ReferenceSettings>) -> Self {
        fs::create_dir(temp.path().join("root")).unwrap();
        fs::create_dir(temp.path().join("outside")).unwrap();
        let store =
            FilesStore::new(FilesSettings { references, ..settings(&temp.path().join("root"), layout) }).unwrap();
        Self { temp, store }
    }

    fn root(&self) -> PathBuf {
        self.temp.path().join("root")
    }

    fn outside(&self) -> PathBuf {
        self.temp.path().join("outside")
    }

    /// Writes a file below the root, with the directories above it.
    fn write(&self, path: impl AsRef<Path>, content: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    async fn try_inventory(&self, live: &[&str]) -> Result<Inventory, StoreError> {
        let live = LiveSet::from_ids(IdType::Uuid, live.iter().map(|text| id(text)));
        let mut census = Census::new(Arc::new(live), 1);
        self.store.inventory(&mut census).await?;
        Ok(census.finish())
    }

    async fn inventory(&self, live: &[&str]) -> Inventory {
        self.try_inventory(live).await.unwrap()
    }

    /// What the inventory found of a dead course, nothing being live.
    async fn found(&self, course: &str) -> Found {
        self.inventory(&[]).await.sources[0].dead.get(&id(course)).cloned().unwrap_or_default()
    }

    async fn locate(&self, courses: &[&str]) -> Vec<Handle> {
        located(&self.store, &targets(courses)).await
    }

    async fn delete(&self, handles: Vec<Handle>) -> Vec<Outcome> {
        self.store.delete(&Condemned::for_test(handles, Duration::from_secs(3600))).await.outcomes
    }

    async fn remaining(&self, course: &str) -> u64 {
        let remaining = self.store.remaining(&targets(&[course])).await.unwrap();
        remaining.iter().map(|(.., count)| count).sum()
    }

    /// Everything in the temporary folder, links as what they point to.
    fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        snapshot(self.temp.path())
    }
}

fn settings(root: &Path, layout: &str) -> FilesSettings {
    FilesSettings {
        name: "uploads".into(),
        root: root.to_owned(),
        layout: Layout::parse(layout).unwrap(),
        id_type: IdType::Uuid,
        batch_limit: 10,
        call_timeout: Duration::from_secs(10),
        references: None,
    }
}

fn targets(courses: &[&str]) -> Targets {
    let mut targets = Targets::none(1);
    for course in courses {
        targets.insert(SOURCE, id(course));
    }
    targets
}

fn snapshot(top: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![top.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap().file_type();
            let content = if kind.is_dir() {
                pending.push(path.clone());
                b"directory".to_vec()
            } else if kind.is_symlink() {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else if kind.is_file() {
                fs::read(&path).unwrap()
            } else {
                b"special".to_vec()
            };
            found.insert(path, content);
        }
    }
    found
}

fn name(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Runs the test of this name (below this module) again, as a process of its own behind `wrapper`, such as `unshare -m`.
/// The inner run sees `inside` be true. False, with a message, where this machine does not let the wrapper work.
fn again_behind(wrapper: &[&str], test: &str) -> bool {
    let works = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").output().is_ok_and(|run| run.status.success());
    if !works {
        eprintln!("skipped: `{}` is not permitted here", wrapper.join(" "));
        return false;
    }
    let test = format!("stores::files::tests::{test}");
    let run = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--include-ignored", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&run.stdout);
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && output.contains("1 passed"), "{output}\n{errors}");
    // What it measured.
    print!("{output}");
    true
}

const INSIDE: &str = "COURSE_GC_TEST_INSIDE";

fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}
