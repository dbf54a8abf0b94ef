use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::domain::ids::IdType;
use crate::domain::inventory::SourceIndex;
use crate::stores::Handle;
use crate::stores::copies::{Copies, Item};

const CALL: Duration = Duration::from_secs(10);
const ROOM: Room = Room { max_bytes: 1 << 30, min_free_percent: 0 };

fn archives(folder: &Path, key: Option<Key>, room: Room) -> Archives {
    let place = Arc::new(ObjectPlace::folder(folder.to_owned(), CALL));
    Archives::new(place, "campus".to_owned(), IdType::Integer, key, room)
}

fn id(batch: u32) -> CopyId {
    let now = DateTime::UNIX_EPOCH;
    CopyId { run: Uuid::from_u128(7), batch, taken_at: now, expires_at: now + CALL }
}

fn handle(course: i64, mentions: &[i64]) -> Handle {
    let mentions = mentions.iter().map(|id| CourseId::Integer(*id)).collect();
    Handle { source: SourceIndex(0), owner: CourseId::Integer(course), mentions, key: Bytes::from("k") }
}

fn item(course: i64, name: &str, content: Vec<u8>) -> Item {
    let course = CourseId::Integer(course);
    Item {
        source: "k:*".to_owned(),
        course,
        name: name.to_owned().into(),
        attributes: BTreeMap::new(),
        content: content.into(),
    }
}

async fn write(archives: &Archives, batch: u32, items: &[Item]) -> Result<Option<Archive>, QuarantineError> {
    let mut writer = archives.begin("cache", id(batch), &[handle(1, &[9]), handle(2, &[])]);
    for item in items {
        if writer.add(item.clone()).await.is_err() {
            return Err(writer.failed().expect("the reason"));
        }
    }
    writer.finish().await
}

async fn read(archives: &Archives, archive: &Archive, course: Option<i64>) -> Result<Vec<Item>, QuarantineError> {
    let mut all = Vec::new();
    for part in &archive.parts {
        all.extend(archives.items(part).await?);
    }
    all.retain(|item| course.is_none_or(|course| item.course == CourseId::Integer(course)));
    Ok(all)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut below = vec![folder.to_owned()];
    while let Some(folder) = below.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { below.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn large() -> Vec<Item> {
    // Nothing that compresses, and more than one part.
    (0..24).map(|n| item(1 + n % 2, &format!("k:{n}"), (0..1 << 19).map(|_| fastrand::u8(..)).collect())).collect()
}

#[tokio::test]
async fn s12_what_was_kept_is_listed_and_read_again_by_course_and_by_another_process() {
    let folder = TempDir::new().unwrap();
    let items = large();
    let key = Key::generate();
    let written = write(&archives(folder.path(), Some(key.clone()), ROOM), 1, &items).await.unwrap().unwrap();
    let later = archives(folder.path(), Some(key), ROOM);
    let listed = later.list(&|_| true).await.unwrap().archives;
    assert_eq!(listed, vec![written]);
    assert_eq!(later.used(), listed[0].bytes);
    assert_eq!(listed[0].named, [1, 2, 9].map(CourseId::Integer).into());
    assert_eq!(listed[0].courses[&CourseId::Integer(1)], (12, 12 << 19));
    assert!(files(folder.path()).len() >= 3, "it is in parts: {:?}", files(folder.path()));
    assert_eq!(read(&later, &listed[0], None).await.unwrap(), items);
    let of_two: Vec<_> = items.into_iter().filter(|item| item.course == CourseId::Integer(2)).collect();
    assert_eq!(read(&later, &listed[0], Some(2)).await.unwrap(), of_two);
    later.remove(&listed[0]).await.unwrap();
    later.remove(&listed[0]).await.unwrap();
    assert_eq!(later.list(&|_| true).await.unwrap().archives, vec![]);
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
    assert!(!folder.path().join("campus").exists(), "nor is an empty folder left");
}

#[tokio::test]
async fn s12_a_copy_is_made_exclusively_and_nothing_of_nothing() {
    let folder = TempDir::new().unwrap();
    let archives = archives(folder.path(), None, ROOM);
    assert_eq!(write(&archives, 1, &[]).await.unwrap(), None);
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
    let items = [item(1, "k:1", vec![1])];
    write(&archives, 1, &items).await.unwrap().unwrap();
    assert!(write(&archives, 1, &[item(1, "k:1", vec![2])]).await.is_err());
    let listed = archives.list(&|_| true).await.unwrap().archives;
    assert_eq!(read(&archives, &listed[0], None).await.unwrap(), items);
}

#[tokio::test]
async fn s12_what_was_never_finished_is_no_copy() {
    let folder = TempDir::new().unwrap();
    let archives = archives(folder.path(), None, ROOM);
    let mut writer = archives.begin("cache", id(1), &[handle(1, &[])]);
    for item in large() {
        writer.add(item).await.unwrap();
    }
    drop(writer);
    assert!(!files(folder.path()).is_empty());
    assert_eq!(archives.list(&|_| true).await.unwrap().archives, vec![]);
    assert!(archives.used() >= 8 << 20, "but it takes room");
    let unfinished = archives.list(&|_| true).await.unwrap().unfinished;
    archives.remove_unfinished(&unfinished, |run| run != Some(id(1).run)).await.unwrap();
    assert!(!files(folder.path()).is_empty(), "its run is not over");
    archives.remove_unfinished(&unfinished, |_| true).await.unwrap();
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn s12_a_purge_that_is_cut_off_leaves_no_copy_that_cannot_be_read() {
    let folder = TempDir::new().unwrap();
    let archives = archives(folder.path(), None, ROOM);
    let written = write(&archives, 1, &large()).await.unwrap().unwrap();
    // Nobody can remove its first part, as if the purge ended there.
    let first = files(folder.path()).into_iter().find(|file| file.to_string_lossy().contains(".000.")).unwrap();
    std::fs::remove_file(&first).unwrap();
    std::fs::create_dir(&first).unwrap();
    std::fs::write(first.join("in the way"), b"").unwrap();
    archives.remove(&written).await.unwrap_err();
    assert_eq!(archives.list(&|_| true).await.unwrap().archives, vec![]);
    std::fs::remove_dir_all(&first).unwrap();
    let unfinished = archives.list(&|_| true).await.unwrap().unfinished;
    archives.remove_unfinished(&unfinished, |_| true).await.unwrap();
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn s12_a_full_quarantine_keeps_what_it_has_and_takes_no_more() {
    let folder = TempDir::new().unwrap();
    let small = archives(folder.path(), None, Room { max_bytes: 10 << 20, min_free_percent: 0 });
    let items = [item(1, "k:1", vec![1])];
    let kept = write(&small, 1, &items).await.unwrap().unwrap();
    let refused = write(&small, 2, &large()).await.unwrap_err();
    assert!(matches!(refused, QuarantineError::Full(_)), "{refused}");
    assert!(
        small.list(&|_| true).await.unwrap().archives == vec![kept.clone()],
        "what is there stays, what is half there is none"
    );
    assert_eq!(read(&small, &kept, None).await.unwrap(), items);

    let disk = archives(folder.path(), None, Room { max_bytes: u64::MAX, min_free_percent: 100 });
    let refused = write(&disk, 3, &items).await.unwrap_err().to_string();
    assert!(refused.contains("100 % must stay"), "{refused}");
}

#[tokio::test]
async fn s12_a_damaged_copy_is_told_by_name_and_gives_nothing() {
    let folder = TempDir::new().unwrap();
    let archives = archives(folder.path(), None, ROOM);
    let kept = write(&archives, 1, &[item(1, "k:1", vec![7; 100])]).await.unwrap().unwrap();
    let part = files(folder.path()).into_iter().find(|path| path.extension().is_some_and(|it| it == "zst")).unwrap();
    let whole = std::fs::read(&part).unwrap();
    let mut damaged = whole.clone();
    damaged[30] ^= 1;
    let copy = Copy::of_archive(kept.clone());
    let quarantine = Quarantine { archives, keep: CALL };
    for content in [&damaged[..], &whole[..20], b""] {
        std::fs::write(&part, content).unwrap();
        let error = chain(&quarantine.verify(&copy).await.unwrap_err());
        assert!(error.contains("00001.000.tar.zst") && error.contains("checksum"), "{error}");
        assert!(read(&quarantine.archives, &kept, None).await.is_err());
    }
    std::fs::remove_file(&part).unwrap();
    assert!(quarantine.verify(&copy).await.is_err());
    std::fs::write(&part, whole).unwrap();
    quarantine.verify(&copy).await.unwrap();

    let header = part.with_file_name("00001.json");
    std::fs::write(header, "{").unwrap();
    let Listing { copies, errors, .. } = quarantine.copies(&[], &|_| true).await;
    assert!(copies.is_empty());
    assert!(errors["archives"].contains("00001.json"), "{errors:?}");
    let unwanted = quarantine.copies(&[], &|_| false).await;
    assert!(unwanted.errors.is_empty(), "nobody wanted it");
    assert_eq!((unwanted.count, unwanted.runs), (1, [kept.id.run].into()), "it is there all the same");
}
