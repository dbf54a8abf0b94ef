//! Stored paths, as liveness sources tell them, mapped to what they name below a root. Pure.
//!
//! A path that is mapped holds its course's directory (S9). One that cannot be mapped holds every file of its base name:
//! so whatever is doubtful is left unmapped, never guessed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::layout::{Layout, OWN_FOLDER};
use crate::domain::ids::{CourseId, IdType};

/// How the paths that a reference query returns relate to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceSettings {
    /// A query that returns one path a row.
    pub query: String,
    /// What relative paths start with, before what is relative to the root (`uploads/`); without one they are relative
    /// to the root itself.
    pub strip_prefix: Option<String>,
    /// Further absolute paths of the root, as other hosts or earlier installations mounted it.
    pub absolute_roots: Vec<PathBuf>,
}

/// What a stored path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A path in the directory of a course; the rest is relative to that directory, empty for the directory itself.
    Mapped(CourseId, Vec<u8>),
    /// A path below the root that belongs to no course.
    Elsewhere,
    /// A path of which only its last component is sure. Empty if there is none.
    Unmapped(Vec<u8>),
}

impl Reference {
    /// The course whose directory it names.
    pub fn course(&self) -> Option<CourseId> {
        match self {
            Self::Mapped(course, _) => Some(*course),
            Self::Elsewhere | Self::Unmapped(_) => None,
        }
    }
}

/// Maps stored paths; made once from the settings.
#[derive(Debug, Clone)]
pub struct Mapping {
    prefix: Vec<Vec<u8>>,
    /// Longest first.
    roots: Vec<Vec<Vec<u8>>>,
}

impl Mapping {
    /// `root` is the store's own root, an absolute path.
    pub fn new(settings: &ReferenceSettings, root: &Path) -> Self {
        let prefix = owned(settings.strip_prefix.as_deref().unwrap_or_default().as_bytes());
        let all = settings.absolute_roots.iter().map(PathBuf::as_path).chain([root]);
        let mut roots: Vec<_> = all.map(|root| owned(root.as_os_str().as_encoded_bytes())).collect();
        roots.sort_by_key(|root| std::cmp::Reverse(root.len()));
        Self { prefix, roots }
    }

    /// What `path` names. In doubt, [`Reference::Unmapped`].
    pub fn of(&self, layout: &Layout, id_type: IdType, path: &[u8]) -> Reference {
        let unmapped = || Reference::Unmapped(base_name(path).to_vec());
        let (is_absolute, text) = path.strip_prefix(b"/").map_or((false, path), |rest| (true, rest));
        let components: Vec<_> = text.split(|byte| *byte == b'/').collect();
        let is_plain = |name: &&[u8]| !matches!(*name, b"" | b"." | b"..") && !name.contains(&0);
        if !components.iter().all(is_plain) {
            return unmapped();
        }
        let starts: &[_] = if is_absolute { &self.roots } else { std::slice::from_ref(&self.prefix) };
        let below = starts.iter().filter_map(|start| strip(&components, start));
        let found: Vec<_> = below.filter_map(|below| below_root(layout, id_type, below)).collect();
        let courses: BTreeSet<_> = found.iter().filter_map(Reference::course).collect();
        if courses.len() > 1 {
            return unmapped();
        }
        // Roots may lie in each other: what leads into a course's directory counts, since that holds more.
        let first = found.iter().position(|reference| reference.course().is_some()).unwrap_or_default();
        found.into_iter().nth(first).unwrap_or_else(unmapped)
    }
}

/// What a path relative to the root names; `None` if that cannot be told.
fn below_root(layout: &Layout, id_type: IdType, below: &[&[u8]]) -> Option<Reference> {
    if below.first().is_none_or(|first| *first == OWN_FOLDER) {
        return None;
    }
    Some(match layout.owner(id_type, below) {
        Some(course) => Reference::Mapped(course, below[layout.depth()..].join(&b'/')),
        None => Reference::Elsewhere,
    })
}

/// The components of a configured path, without the empty ones.
fn owned(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec).collect()
}

/// What follows `start` in `components`; `None` if they do not start with it.
fn strip<'a, 'b>(components: &'a [&'b [u8]], start: &[Vec<u8>]) -> Option<&'a [&'b [u8]]> {
    let (head, rest) = components.split_at_checked(start.len())?;
    head.iter().zip(start).all(|(name, expected)| *name == expected.as_slice()).then_some(rest)
}

/// The last component that can be a name.
fn base_name(path: &[u8]) -> &[u8] {
    let names = path.rsplit(|byte| *byte == b'/');
    names.into_iter().find(|name| !matches!(*name, b"" | b"." | b"..")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d";

    fn map(path: &[u8]) -> Reference {
        let settings = ReferenceSettings {
            query: String::new(),
            strip_prefix: Some("uploads/".into()),
            absolute_roots: vec!["/app".into(), "/app/uploads/".into()],
        };
        let layout = Layout::parse("{organization_id}/{course_id}").unwrap();
        Mapping::new(&settings, Path::new("/srv/files")).of(&layout, IdType::Uuid, path)
    }

    fn mapped(rest: &[u8]) -> Reference {
        Reference::Mapped(IdType::Uuid.parse(ID.as_bytes()).unwrap(), rest.to_vec())
    }

    #[test]
    fn s9_a_path_below_the_root_names_its_course() {
        assert_eq!(map(format!("uploads/org/{ID}/a/b.pdf").as_bytes()), mapped(b"a/b.pdf"));
        assert_eq!(map(format!("uploads/org/{ID}").as_bytes()), mapped(b""));
        assert_eq!(map(format!("/srv/files/org/{ID}/b.pdf").as_bytes()), mapped(b"b.pdf"));
        assert_eq!(map(format!("/app/uploads/org/{ID}/b.pdf").as_bytes()), mapped(b"b.pdf"), "an older root");
        assert_eq!(map(format!("/app/org/{ID}/b.pdf").as_bytes()), mapped(b"b.pdf"), "roots may lie in each other");
        let bytes = [format!("uploads/org/{ID}/").as_bytes(), b"\xff\n"].concat();
        assert_eq!(map(&bytes), mapped(b"\xff\n"), "names are bytes");
    }

    #[test]
    fn s9_a_path_that_may_lead_to_two_courses_is_not_guessed() {
        let settings = ReferenceSettings {
            query: String::new(),
            strip_prefix: None,
            absolute_roots: vec!["/app".into(), "/app/5".into()],
        };
        let mapping = Mapping::new(&settings, Path::new("/srv/files"));
        let of = |path: &str| mapping.of(&Layout::parse("{course_id}").unwrap(), IdType::Integer, path.as_bytes());
        let course = |id, rest: &str| Reference::Mapped(CourseId::Integer(id), rest.into());
        assert_eq!(of("/app/5/7/a.pdf"), Reference::Unmapped(b"a.pdf".to_vec()), "a file of 5 or of 7");
        assert_eq!(of("/app/5/5/a.pdf"), course(5, "a.pdf"));
        assert_eq!(of("/app/5/x/a.pdf"), course(5, "x/a.pdf"));
        assert_eq!(of("/app/6/7/a.pdf"), course(6, "7/a.pdf"));
    }

    #[test]
    fn s9_a_path_past_all_courses_is_elsewhere() {
        for path in ["uploads/org/career-playbooks/p/a.pdf", "uploads/a.pdf", "/srv/files/org/notes.txt"] {
            assert_eq!(map(path.as_bytes()), Reference::Elsewhere, "{path}");
        }
    }

    #[test]
    fn s9_what_cannot_be_mapped_keeps_its_base_name() {
        let inside = format!("org/{ID}");
        for (path, name) in [
            (format!("{inside}/a.pdf"), "a.pdf"),
            (format!("/other/{inside}/a.pdf"), "a.pdf"),
            (format!("/srv/filesystem/{inside}/a.pdf"), "a.pdf"),
            (format!("uploads/../{inside}/a.pdf"), "a.pdf"),
            (format!("uploads/./{inside}/a.pdf"), "a.pdf"),
            (format!("uploads//{inside}/a.pdf"), "a.pdf"),
            (format!("uploads/{inside}/x/../a.pdf"), "a.pdf"),
            (format!("uploads/{inside}/"), ID),
            (format!("https://campus/uploads/{inside}/a.pdf"), "a.pdf"),
            (format!("uploads/.course-gc/trash/{ID}.x/a.pdf"), "a.pdf"),
            ("uploads/org/x/a.pdf\0".into(), "a.pdf\0"),
            ("uploads".into(), "uploads"),
            ("a.pdf".into(), "a.pdf"),
            ("".into(), ""),
            ("/".into(), ""),
            ("..".into(), ""),
        ] {
            assert_eq!(map(path.as_bytes()), Reference::Unmapped(name.as_bytes().to_vec()), "{path}");
        }
    }

    proptest! {
        #[test]
        fn s9_no_path_climbs(path in "(uploads|/srv/files)?(/(\\.\\.|\\.|org|x|0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d|)){0,6}") {
            if let Reference::Mapped(_, rest) = map(path.as_bytes()) {
                prop_assert!(!path.split('/').any(|name| name == ".."));
                prop_assert!(path.as_bytes().ends_with(&rest));
            }
        }
    }
}
