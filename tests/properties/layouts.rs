//! File layouts (S5, S13). Input: a layout, an empty line, and then a path of any bytes.

use course_gc::stores::files::Layout;

use crate::ids::types;
use crate::input::head_and_rest;

/// Checks where the layout finds the owner of the path.
///
/// # Panics
/// If a property does not hold.
pub fn check(input: &[u8]) {
    let (lines, path) = head_and_rest(input);
    let text = lines.first().copied().unwrap_or_default();
    let layout = match Layout::parse(text) {
        Ok(layout) => layout,
        Err(error) => {
            assert!(error.to_string().contains(text), "{error}");
            return;
        }
    };
    let pattern: Vec<&str> = text.split('/').collect();
    assert_eq!(layout.text(), text);
    assert_eq!(Layout::parse(layout.text()).as_ref(), Ok(&layout), "what it says is the same layout");
    assert_eq!(layout.depth(), pattern.len());
    assert_eq!(pattern.last(), Some(&"{course_id}"), "a course has a directory of its own");
    assert!(!pattern.iter().any(|name| matches!(*name, "" | "." | "..") || name.contains('\0')), "{text}");
    assert_ne!(pattern.first(), Some(&".course-gc"), "no layout leads through the store's own folder");

    let components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    for id_type in types() {
        let owner = layout.owner(id_type, &components);
        let above = &components[..components.len().min(pattern.len() - 1)];
        let leads_there = above.len() == pattern.len() - 1
            && above.iter().zip(&pattern).all(|(name, pattern)| is_name(name) && fits(pattern, name))
            && components.first() != Some(&b".course-gc".as_slice());
        let expected = components.get(pattern.len() - 1).filter(|_| leads_there).and_then(|name| id_type.parse(name));
        assert_eq!(owner, expected, "{text} {}", path.escape_ascii());
        if let Some(owner) = owner {
            let below = components[..layout.depth()].join(&b'/');
            let place = ["/root/".as_bytes(), &below].concat();
            let place = std::path::Path::new(std::str::from_utf8(&place).unwrap_or("/root/x"));
            assert!(
                place.components().all(|part| part != std::path::Component::ParentDir),
                "{place:?} leaves the root"
            );
            assert!(below.ends_with(owner.to_string().as_bytes()));
        }
    }
}

fn fits(pattern: &str, name: &[u8]) -> bool {
    matches!(pattern, "*" | "{organization_id}") || pattern.as_bytes() == name
}

/// What a directory can hold under: no empty name, none of the two that lead elsewhere, no NUL.
fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&0)
}
