//! Ids and mentions (S5). Input: a name.

use course_gc::domain::ids::{CourseId, IdType};
use uuid::Uuid;

/// Every type of ids; the texts are such that many words are some.
///
/// # Panics
/// Never: the pattern is one.
pub fn types() -> [IdType; 3] {
    [IdType::Uuid, IdType::Integer, "text:[a-z0-9_-]{1,12}".parse().unwrap()]
}

/// Checks a name, whatever its bytes.
///
/// # Panics
/// If a property does not hold.
pub fn check(name: &[u8]) {
    for id_type in types() {
        if let Some(id) = id_type.parse(name) {
            assert_eq!(id.to_string().as_bytes(), name, "only the canonical text is an id");
            let is_of_it = match id {
                CourseId::Uuid(_) => id_type == IdType::Uuid,
                CourseId::Integer(_) => id_type == IdType::Integer,
                CourseId::Text(_) => matches!(id_type, IdType::Text(_)),
            };
            assert!(is_of_it, "an id is of the type that was asked for");
            assert!(id_type == IdType::Integer || id_type.mentions(name).contains(&id), "an id mentions itself");
        }
        words(id_type, name);
    }
    assert!(IdType::Integer.mentions(name).is_empty(), "a name mentions no integer");
    mentions(name);
    embedded(name);
}

/// Every spelling of a UUID in `name` is among its mentions, and nothing else is.
fn mentions(name: &[u8]) {
    let mut expected = Vec::new();
    for window in name.windows(36) {
        expected.extend(IdType::Uuid.parse(&window.to_ascii_lowercase()));
    }
    for run in name.split(|byte| !byte.is_ascii_hexdigit()).filter(|run| run.len() == 32) {
        let value = run.iter().fold(0u128, |value, digit| value << 4 | u128::from(nibble(*digit)));
        expected.push(CourseId::Uuid(Uuid::from_u128(value)));
    }
    assert_eq!(sorted(IdType::Uuid.mentions(name)), sorted(expected));
}

/// An id whose text is put anywhere into a name is among the name's mentions.
fn embedded(input: &[u8]) {
    let Some((id, around)) = input.split_first_chunk::<16>() else { return };
    let id = Uuid::from_bytes(*id);
    for at in [0, around.len() / 2, around.len()] {
        let (before, after) = around.split_at(at);
        let spelled = [
            id.hyphenated().to_string(),
            id.hyphenated().to_string().to_uppercase(),
            format!("{{{id}}}"),
            id.urn().to_string(),
        ];
        for text in spelled {
            let name = [before, text.as_bytes(), after].concat();
            assert!(IdType::Uuid.mentions(&name).contains(&CourseId::Uuid(id)), "{}", name.escape_ascii());
        }
        let is_cut = [before.last(), after.first()].into_iter().flatten().all(|byte| !byte.is_ascii_hexdigit());
        let name = [before, id.simple().to_string().as_bytes(), after].concat();
        assert!(!is_cut || IdType::Uuid.mentions(&name).contains(&CourseId::Uuid(id)), "{}", name.escape_ascii());
    }
}

/// A text is mentioned wherever neither a letter nor a digit stands beside it.
fn words(id_type: IdType, name: &[u8]) {
    let name = &name[..name.len().min(64)];
    let IdType::Text(_) = id_type else { return };
    let is_bound = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
    let mut expected = Vec::new();
    for from in (0..name.len()).filter(|from| is_bound(name[..*from].last())) {
        let ends = (from..=name.len()).filter(|to| is_bound(name.get(*to)));
        expected.extend(ends.filter_map(|to| id_type.parse(&name[from..to])));
    }
    assert_eq!(sorted(id_type.mentions(name)), sorted(expected), "{}", name.escape_ascii());
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}

fn sorted(mut ids: Vec<CourseId>) -> Vec<CourseId> {
    ids.sort_unstable();
    ids.dedup();
    ids
}
