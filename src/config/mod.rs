//! The configuration: one YAML file, and the environment over it.
//!
//! The file is parsed into a tree in which each node knows its line and column (`yaml`), the
//! environment's variables replace or add scalars in it (`environment`), the types read
//! themselves from it (`read`, `section`, `model`), and what the types cannot say is checked (`check`).
//! All problems are reported together, each with its place, what is wrong and what would be right.
//!
//! The environment is an argument: nothing here, and nothing else in the program, reads it.
//! Secrets come from the environment or from files; see `secret`.
//!
//! Rejected: deriving the types from a general deserializer. It stops at the first problem, and
//! the names, defaults and documentation of fields would be written down a second time for the
//! example and for the environment.

mod check;
mod describe;
mod environment;
mod files;
mod model;
mod named;
mod problem;
mod read;
mod scalar;
mod schema;
mod secret;
mod section;
mod suggest;
mod yaml;

#[cfg(test)]
mod tests;

pub use describe::{check_report, example};
pub use files::Files;
pub use model::{
    Api, ApiToken, ArchiveBucket, BullmqStore, Collection, Config, FilesStore, Grace, Http, Jwt, Ledger, Limits,
    LivenessSource, Log, ObjectsStore, PaceConfig, QdrantStore, Quarantine, Queue, RedisStore, References,
    ScheduleConfig, StoreConfig, Table, TableStore, Template, Tls, Tombstones,
};
pub use named::Named;
pub use problem::ConfigErrors;
pub use scalar::{ApiScope, ByteSize, Cron, LimitAccept, LivenessAccept, LogFormat, Percent};
pub use schema::schema;
pub use secret::SecretUrl;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use problem::{Origin, Problem};
use read::{At, Effective, Reader};
use section::Section;
use yaml::{Content, Node};

/// A configuration, and where each of its values comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    file: String,
    effective: Vec<Effective>,
    files: Files,
}

impl Loaded {
    /// What it was read from.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The fields beneath these sections that `other` has another value for. Of secrets it cannot tell.
    pub fn changed(&self, other: &Self, sections: &[&str]) -> Vec<String> {
        let of = |loaded: &Self| -> BTreeMap<String, Option<String>> {
            let is_in = |path: &str| sections.iter().any(|section| path.split('.').next() == Some(section));
            loaded.effective.iter().filter(|it| is_in(&it.path)).map(|it| (it.path.clone(), it.value.clone())).collect()
        };
        let (ours, theirs) = (of(self), of(other));
        let paths: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        paths.into_iter().filter(|path| ours.get(*path) != theirs.get(*path)).cloned().collect()
    }
}

impl Config {
    /// Reads the file at `path`, and the variables that begin with `COURSE_GC_` over it. Other
    /// variables are ignored, as is `COURSE_GC_CONFIG`.
    ///
    /// # Errors
    /// Everything that is wrong, or why the file cannot be read.
    pub fn load(path: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigErrors> {
        load(path, environment).map(|loaded| loaded.config)
    }
}

/// As [`Config::load`], with the origin of each value for [`check_report`].
///
/// # Errors
/// Everything that is wrong, or why the file cannot be read.
pub fn load(path: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, ConfigErrors> {
    let file = path.display().to_string();
    let mut files = Files::default();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let message =
                format!("cannot be read: {error}; give the path of a file like that of `course-gc config example`");
            let problem = Problem { origin: Origin::Default, path: String::new(), message };
            files.note(path, None);
            return Err(ConfigErrors::new(file, vec![problem], files));
        }
    };
    files.note(path, Some(text.as_bytes()));
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    read_text(&text, (file, files), folder, environment)
}

/// Reads `text`, which `file` names in messages and whose relative paths start at `folder`.
///
/// # Errors
/// Everything that is wrong.
pub fn parse(
    text: &str,
    file: String,
    folder: PathBuf,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigErrors> {
    read_text(text, (file, Files::default()), folder, environment)
}

fn read_text(
    text: &str,
    (file, files): (String, Files),
    folder: PathBuf,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigErrors> {
    let (mut root, mut problems) = yaml::parse(text);
    if root.is_null() && problems.is_empty() {
        root.content = Content::Map(Vec::new());
    }
    let is_yaml = !root.is_null();
    environment::apply(&mut root, Config::FIELDS, environment, &mut problems);
    let mut reader = Reader { folder, problems, effective: Vec::new(), files };
    let config = if is_yaml { read_root(&root, &mut reader) } else { None };
    match config {
        Some(config) if reader.problems.is_empty() => {
            let Reader { effective, mut files, .. } = reader;
            config.authorities().for_each(|ca| files.note_file(ca));
            Ok(Loaded { config, file, effective, files })
        }
        _ => Err(ConfigErrors::new(file, reader.problems, reader.files)),
    }
}

fn read_root(root: &Node, reader: &mut Reader) -> Option<Config> {
    let at = At { path: String::new(), node: Some(root), file: None, section: &Origin::Default };
    let config = Config::read_section(&at, reader, &[])?;
    if config.ledger.url.is_none() {
        let from = format!("as liveness.{}.url", config.liveness.first().0);
        let ledger = reader.effective.iter_mut().filter(|effective| effective.path == "ledger.url");
        ledger.for_each(|effective| effective.value = Some(from.clone()));
    }
    check::check(&config, reader);
    Some(config)
}
