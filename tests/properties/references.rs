//! Stored paths and what they hold (S9). Input: a layout, the prefix of relative paths, roots a line, the store's own one
//! first; an empty line, and then a stored path of any bytes.

use std::path::{Path, PathBuf};

use course_gc::domain::ids::{CourseId, IdType};
use course_gc::stores::files::{Layout, Mapping, Reference, ReferenceSettings};

use crate::ids::types;
use crate::input::head_and_rest;

/// Checks what the path is taken to name.
///
/// # Panics
/// If a property does not hold.
pub fn check(input: &[u8]) {
    let (lines, path) = head_and_rest(input);
    let [layout, prefix, roots @ ..] = lines.as_slice() else { return };
    let Ok(layout) = Layout::parse(layout) else { return };
    // What the configuration takes for a root is absolute and climbs nowhere.
    let roots: Vec<&str> = roots
        .iter()
        .copied()
        .filter(|root| root.starts_with('/') && !root.split('/').any(|name| name == ".."))
        .collect();
    let Some((own, others)) = roots.split_first() else { return };
    let settings = ReferenceSettings {
        query: String::new(),
        strip_prefix: (*prefix != ".").then(|| (*prefix).to_owned()),
        absolute_roots: others.iter().map(PathBuf::from).collect(),
    };
    let mapping = Mapping::new(&settings, Path::new(own));
    for id_type in types() {
        let readings = readings(&layout, id_type, prefix, &roots, path);
        let reference = mapping.of(&layout, id_type, path);
        match &reference {
            Reference::Mapped(course, rest) => {
                assert!(readings.contains(&Some((*course, rest.clone()))), "{readings:?} {}", path.escape_ascii());
                assert!(path.ends_with(rest));
                assert!(!path.split(|byte| *byte == b'/').any(|name| matches!(name, b"." | b"..")), "it climbs");
            }
            Reference::Elsewhere => assert!(!readings.is_empty(), "{}", path.escape_ascii()),
            Reference::Unmapped(name) => assert_eq!(name, last_name(path), "{}", path.escape_ascii()),
        }
        for reading in readings.into_iter().flatten() {
            let holds = match &reference {
                Reference::Mapped(course, _) => *course == reading.0,
                Reference::Elsewhere => false,
                Reference::Unmapped(_) => true,
            };
            assert!(holds, "{reference:?} does not hold {reading:?} of {}", path.escape_ascii());
        }
        inside(&mapping, &layout, id_type, own, path);
    }
}

/// All that a plain path may name, by each start that it has: a course and what is below its directory, or nothing.
fn readings(
    layout: &Layout,
    id_type: IdType,
    prefix: &str,
    roots: &[&str],
    path: &[u8],
) -> Vec<Option<(CourseId, Vec<u8>)>> {
    let (starts, path) = match path.strip_prefix(b"/") {
        Some(rest) => (roots.to_vec(), rest),
        None => (vec![prefix], path),
    };
    let components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    if components.iter().any(|name| matches!(*name, b"" | b"." | b"..") || name.contains(&0)) {
        return Vec::new();
    }
    let mut readings = Vec::new();
    for start in starts {
        let start: Vec<&[u8]> =
            start.as_bytes().split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
        let Some(below) = components.strip_prefix(start.as_slice()) else { continue };
        if below.first().is_none_or(|first| *first == b".course-gc") {
            continue;
        }
        readings.push(layout.owner(id_type, below).map(|course| (course, below[layout.depth()..].join(&b'/'))));
    }
    readings
}

/// A file in the directory of a course below the store's own root holds that course, or every file of its name.
fn inside(mapping: &Mapping, layout: &Layout, id_type: IdType, root: &str, name: &[u8]) {
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(*byte, b'/' | 0)) {
        return;
    }
    let course = match id_type {
        IdType::Uuid => CourseId::Uuid(uuid::Uuid::from_u128(7)),
        IdType::Integer => CourseId::Integer(7),
        IdType::Text(ids) => CourseId::Text(ids.parse(b"c-7").unwrap()),
    };
    let directory =
        layout.text().replace("{course_id}", &course.to_string()).replace("{organization_id}", "o").replace('*', "o");
    let root: Vec<&str> = root.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    let path = [format!("/{}/{directory}/", root.join("/")).replace("//", "/").as_bytes(), name].concat();
    match mapping.of(layout, id_type, &path) {
        Reference::Mapped(found, _) => assert_eq!(found, course, "{}", path.escape_ascii()),
        Reference::Unmapped(unmapped) => assert_eq!(unmapped, name, "{}", path.escape_ascii()),
        Reference::Elsewhere => panic!("{} is in no course's directory", path.escape_ascii()),
    }
}

/// The last component that can be a name.
fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').find(|name| !matches!(*name, b"" | b"." | b"..")).unwrap_or_default()
}
