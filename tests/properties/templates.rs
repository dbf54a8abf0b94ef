//! Key templates (S5). Input: a template a line, an empty line, and then a key of any bytes.

use std::collections::BTreeSet;

use course_gc::domain::ids::{CourseId, IdType};
use course_gc::domain::inventory::SourceIndex;
use course_gc::stores::template::{Claim, Parse, Template, Templates};

use crate::ids::types;
use crate::input::head_and_rest;

/// Longer ones cost more than they show.
const LONGEST_KEY: usize = 512;
const LONGEST_TEMPLATE: usize = 128;
/// The longest text of an id of any type.
const LONGEST_ID: usize = 46;

/// Checks what the templates read in the key.
///
/// # Panics
/// If a property does not hold.
pub fn check(input: &[u8]) {
    let (lines, key) = head_and_rest(input);
    if key.len() > LONGEST_KEY || lines.len() > 8 || lines.iter().any(|line| line.len() > LONGEST_TEMPLATE) {
        return;
    }
    let templates: Vec<Template> = lines.into_iter().filter_map(compile).collect();
    for id_type in types() {
        let read: Vec<Parse> = templates.iter().map(|template| parse(template, id_type, key)).collect();
        claim(&templates, id_type, key, &read);
    }
}

/// A template is kept as it was written, and a text that is none is shown with what is wrong.
fn compile(text: &str) -> Option<Template> {
    match Template::compile(text) {
        Ok(template) => {
            assert_eq!(template.text(), text);
            assert_eq!(text.matches("{course_id}").count(), 1, "{text}");
            assert_eq!(Template::compile(template.text()).as_ref(), Ok(&template), "what it says compiles to the same");
            Some(template)
        }
        Err(error) => {
            assert!(error.to_string().contains(text), "{error}");
            None
        }
    }
}

/// A template reads what trying every piece of the key reads: an owner's canonical text stands where the template says.
fn parse(template: &Template, id_type: IdType, key: &[u8]) -> Parse {
    let found = template.parse(id_type, key);
    let Some((before, after)) = template.text().split_once("{course_id}") else { unreachable!("{template:?}") };
    let begins = prefixes(before.as_bytes().iter().copied(), key.iter().copied());
    let mut ends = prefixes(after.bytes().rev(), key.iter().rev().copied());
    ends.reverse();
    let touches = |byte: Option<&u8>| match id_type {
        IdType::Uuid => byte.is_some_and(u8::is_ascii_hexdigit),
        IdType::Integer => byte.is_some_and(u8::is_ascii_digit),
        IdType::Text(_) => byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)),
    };
    let first_end = (0..=key.len()).rev().find(|at| ends[*at]);
    let matches = begins.iter().position(|begin| *begin).zip(first_end).is_some_and(|(from, to)| from <= to);
    let mut ids: BTreeSet<CourseId> = BTreeSet::new();
    for from in (0..=key.len()).filter(|from| begins[*from]) {
        for to in (from..=key.len().min(from + LONGEST_ID)).filter(|to| ends[*to]) {
            let is_cut = (before.ends_with('*') && touches(key[..from].last()))
                || (after.starts_with('*') && touches(key[to..].first()));
            if !is_cut {
                ids.extend(id_type.parse(&key[from..to]));
            }
        }
    }
    let expected = match (matches, ids.len(), ids.first()) {
        (false, ..) => Parse::NoMatch,
        (true, 1, Some(id)) => Parse::Id(*id),
        (true, 0, _) => Parse::NoId,
        (true, ..) => Parse::Ambiguous,
    };
    assert_eq!(found, expected, "{template:?} {}", key.escape_ascii());
    found
}

/// Which prefixes of `text` a pattern matches, by their lengths.
fn prefixes(pattern: impl Iterator<Item = u8>, text: impl Iterator<Item = u8>) -> Vec<bool> {
    let pattern: Vec<u8> = pattern.collect();
    // `reached[n]`: the first n bytes of the pattern match what was read so far.
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    let skip_stars = |reached: &mut Vec<bool>| {
        for (at, byte) in pattern.iter().enumerate() {
            reached[at + 1] |= reached[at] && *byte == b'*';
        }
    };
    skip_stars(&mut reached);
    let mut matched = vec![reached[pattern.len()]];
    for byte in text {
        let mut next = vec![false; pattern.len() + 1];
        for (at, expected) in pattern.iter().enumerate().filter(|(at, _)| reached[*at]) {
            match *expected {
                b'*' => next[at] = true,
                literal => next[at + 1] |= literal == byte,
            }
        }
        skip_stars(&mut next);
        reached = next;
        matched.push(reached[pattern.len()]);
    }
    matched
}

/// Templates that read different ids, or one that reads several, make no owner.
fn claim(templates: &[Template], id_type: IdType, key: &[u8], read: &[Parse]) {
    let ids: BTreeSet<CourseId> =
        read.iter().filter_map(|parse| if let Parse::Id(id) = parse { Some(*id) } else { None }).collect();
    let claim = Templates::new(templates.to_vec(), id_type).claim(key);
    let first = |wanted: fn(&Parse) -> bool| read.iter().position(wanted).map(SourceIndex);
    let is_doubtful = ids.len() > 1 || read.contains(&Parse::Ambiguous);
    match claim {
        Claim::Owned(source, id) => {
            assert!(!is_doubtful, "{templates:?} {}", key.escape_ascii());
            assert_eq!(ids.first(), Some(&id));
            assert_eq!(
                Some(source),
                first(|parse| matches!(parse, Parse::Id(_))),
                "the first that reads the id owns the name"
            );
        }
        Claim::Unrecognised(source) => {
            assert!(is_doubtful || ids.is_empty(), "{templates:?} {}", key.escape_ascii());
            assert_ne!(read[source.0], Parse::NoMatch);
        }
        Claim::Unclaimed => assert!(read.iter().all(|parse| *parse == Parse::NoMatch)),
    }
}
