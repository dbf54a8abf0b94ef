//! What the copies on a shelf are: one file beside it, which is there before the first of them.

use std::fs::File;
use std::io::Read;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::Place;
use super::super::beneath::Dir;
use super::super::delete::{Inspected, Part};
use super::super::tree::join;
use super::super::watch::Fault;
use super::Spot;
use crate::domain::ids::CourseId;
use crate::stores::copies::{CopyId, NameText, PlacedCopy};

/// Ends the name of a description; what it begins with is the shelf's.
const DESCRIPTION: &[u8] = b".json";
/// Ends the name of one that is being written.
const UNFINISHED: &[u8] = b".new";
/// Paths, and forty bytes for each id that a name in the copies holds: six million of them.
const MOST_BYTES: usize = 1 << 28;

/// What lies on a shelf.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Description {
    pub taken_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    /// What was to come; not all of it need have.
    pub copies: Vec<What>,
}

/// What a copy is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct What {
    /// On the shelf.
    pub name: String,
    /// Below the root.
    path: NameText,
    course: String,
    mentions: Vec<String>,
    pub resources: u64,
    pub bytes: u64,
    /// The directories from the root's down to its own.
    pub above: Vec<Above>,
}

/// What a directory above a course's is: it may have gone when the course comes back.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Above {
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

impl What {
    /// Describes what was inspected; it has no name on a shelf yet.
    pub fn of(inspected: &Inspected, part: &Part) -> Result<Self, Fault> {
        Ok(Self {
            name: String::new(),
            path: NameText::from(&inspected.path[..]),
            course: inspected.owner.clone(),
            mentions: inspected.seen.mentions.iter().map(CourseId::to_string).collect(),
            resources: part.going.resources,
            bytes: part.going.bytes.unwrap_or(0),
            above: above(&inspected.root, inspected.above().1)?,
        })
    }

    /// Gives it a name on its shelf. Sixteen digits: nothing that could be read as an id.
    pub fn numbered(self, number: usize) -> Self {
        Self { name: format!("{}.{number:016x}", self.course), ..self }
    }
}

impl Description {
    /// Writes it in place of what was said before; durable once the batch's folder is synced.
    pub fn write(&self, batch: &Dir, shelf: &[u8]) -> Result<(), Fault> {
        let (name, new_name) = (beside(shelf), [&beside(shelf)[..], UNFINISHED].concat());
        let json = serde_json::to_vec(self).map_err(|why| Fault::Unusable(format!("cannot describe copies: {why}")))?;
        if json.len() > MOST_BYTES {
            return Err(Fault::Unusable("names too many courses to be described in quarantine".to_owned()));
        }
        batch.write(&new_name, &json).map_err(Fault::at("write", &new_name))?;
        batch.replace(&new_name, &name).map_err(Fault::at("rename", &new_name))
    }

    /// What lies on this shelf of a batch's folder; `None` if nothing says so.
    pub fn read(batch: &Dir, spot: &Spot<'_>) -> Result<Option<Self>, Fault> {
        let name = beside(spot.shelf);
        let file = match batch.open_file(&name) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Fault::at("open", &name)(errno)),
        };
        let mut json = Vec::new();
        let read = file.take(MOST_BYTES as u64).read_to_end(&mut json);
        read.map_err(|error| Fault::at("read", &name)(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        let told = serde_json::from_slice(&json);
        told.map(Some)
            .map_err(|why| spot.unreadable(&format!("cannot be read: what says what lies there is broken ({why})")))
    }

    /// One of its copies, as everybody else knows it.
    pub fn placed(&self, place: &Place, source: &str, spot: &Spot<'_>, what: &What) -> Result<PlacedCopy, Fault> {
        let course = |text: &String| {
            let parsed = place.id_type.parse(text.as_bytes());
            parsed.ok_or_else(|| spot.unreadable(&format!("names `{text}`, which is no id as course_id says")))
        };
        let owner = course(&what.course)?;
        let mentions = what.mentions.iter().map(course).collect::<Result<Vec<_>, _>>()?;
        Ok(PlacedCopy {
            id: self.id(spot).ok_or_else(|| spot.unreadable("lies in no run and batch"))?,
            source: source.to_owned(),
            course: owner,
            mentions: mentions.into_iter().filter(|id| *id != owner).collect(),
            name: what.path.clone().into(),
            key: Bytes::from(join(&spot.key(), what.name.as_bytes())),
            resources: what.resources,
            bytes: what.bytes,
        })
    }

    fn id(&self, spot: &Spot<'_>) -> Option<CopyId> {
        let run = Uuid::try_parse_ascii(spot.run).ok()?;
        let batch = std::str::from_utf8(spot.batch).ok()?.parse().ok()?;
        Some(CopyId { run, batch, taken_at: self.taken_at, expires_at: self.expires_at })
    }
}

/// The name of the description of a shelf.
pub(super) fn beside(shelf: &[u8]) -> Vec<u8> {
    [shelf, DESCRIPTION].concat()
}

/// True if this file of a batch's folder was never finished, or describes a shelf that is not there.
pub(super) fn stands_for_nothing(batch: &Dir, name: &[u8]) -> bool {
    let has_gone = |shelf| batch.stat(shelf).is_err_and(|errno| errno == Errno::NOENT);
    name.strip_suffix(DESCRIPTION).is_some_and(has_gone) || name.ends_with(&[DESCRIPTION, UNFINISHED].concat())
}

/// What the directories on the way to `path` are, that one included.
fn above(root: &Dir, path: &[u8]) -> Result<Vec<Above>, Fault> {
    let mut dir = root.descend(&[]).map_err(Fault::at("open the directory", b"."))?;
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    names
        .map(|name| {
            dir = dir.open(name).map_err(Fault::at("open the directory", path))?;
            let stat = dir.own_stat().map_err(Fault::at("look at", path))?;
            Ok(Above { mode: stat.mode, owner: stat.owner })
        })
        .collect()
}
