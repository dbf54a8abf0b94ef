//! The contract that every store keeps, for files.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::*;
use crate::stores::contract::{Bench, Contents, keeps, texts};

struct FilesBench {
    temp: TempDir,
    store: FilesStore,
    id_type: IdType,
    /// What is between an organization's directory and a course's.
    between: &'static str,
    planted: AtomicU64,
}

impl FilesBench {
    fn new(id_type: IdType, between: &'static str) -> Self {
        let temp = TempDir::new().unwrap();
        let layout = format!("{{organization_id}}/{between}{{course_id}}");
        let store = FilesStore::new(FilesSettings { id_type, ..settings(temp.path(), &layout) }).unwrap();
        Self { temp, store, id_type, between, planted: AtomicU64::new(0) }
    }

    fn write(&self, organization: &str, course: &str, suffix: &str) -> Vec<u8> {
        let n = self.planted.fetch_add(1, Ordering::Relaxed);
        let path = format!("{organization}/{}{course}/{}/file {n}\n{suffix}", self.between, n % 2);
        let file = self.temp.path().join(&path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("content {n}")).unwrap();
        path.into_bytes()
    }
}

#[async_trait]
impl Bench for FilesBench {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn id_type(&self) -> IdType {
        self.id_type
    }

    async fn plant(&self, _: SourceIndex, course: CourseId) -> Vec<u8> {
        self.write("acme", &course.to_string(), "")
    }

    async fn plant_entangled(&self, _: SourceIndex, owner: CourseId, other: CourseId) -> Option<Vec<u8>> {
        let named = self.id_type != IdType::Integer;
        named.then(|| self.write("other", &owner.to_string(), &other.to_string()))
    }

    async fn plant_unrecognised(&self, _: SourceIndex) -> Option<Vec<u8>> {
        let n = self.planted.load(Ordering::Relaxed);
        Some(self.write("acme", &format!("career-playbooks-{n}"), ""))
    }

    async fn rewrite(&self, _: SourceIndex, _: CourseId, _: &[u8]) -> bool {
        false
    }

    async fn contents(&self) -> Contents {
        let own = self.temp.path().join(".course-gc");
        let is_kept = |path: &Path| ["quarantine", "emptied"].iter().any(|name| path.starts_with(own.join(name)));
        let is_own = |path: &Path| path.starts_with(&own) && (names_marker(path) || is_kept(path));
        let files = snapshot(self.temp.path()).into_iter().filter(|(path, _)| path.is_file() && !is_own(path));
        files
            .map(|(path, content)| {
                let below = path.strip_prefix(self.temp.path()).unwrap();
                (below.as_os_str().as_bytes().to_vec(), content)
            })
            .collect()
    }
}

/// The marker, or the lock beside it; nothing else may be left of a move.
fn names_marker(path: &Path) -> bool {
    path.ends_with("marker.json") || path.ends_with("marker.lock")
}

#[tokio::test]
async fn keeps_the_contract_with_uuids() {
    keeps(&FilesBench::new(IdType::Uuid, "")).await;
}

#[tokio::test]
async fn keeps_the_contract_with_integers() {
    keeps(&FilesBench::new(IdType::Integer, "")).await;
}

#[tokio::test]
async fn keeps_the_contract_with_texts() {
    keeps(&FilesBench::new(texts(), "")).await;
}

#[tokio::test]
async fn keeps_the_contract_with_a_deep_layout() {
    keeps(&FilesBench::new(IdType::Uuid, "courses/by-id/")).await;
}
