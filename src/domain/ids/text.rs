//! Ids that are texts: what they may be written with, and the pattern that tells them from other words.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use regex::bytes::{Regex, RegexBuilder};

/// The most bytes of a text id. It is kept in place, so that ids stay `Copy` and take no memory beside themselves.
pub const LONGEST: usize = 46;

/// An id of [`TextIds`]: 1 to [`LONGEST`] bytes, each a letter or digit of ASCII, `-` or `_`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextId {
    /// Zero after the id, so that comparing them compares the texts.
    bytes: [u8; LONGEST],
    length: u8,
}

impl TextId {
    fn new(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > LONGEST || !text.iter().all(is_of_an_id) {
            return None;
        }
        let mut bytes = [0; LONGEST];
        bytes[..text.len()].copy_from_slice(text);
        Some(Self { bytes, length: u8::try_from(text.len()).ok()? })
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        // Only letters, digits, `-` and `_` are in one.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Debug for TextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// True for what a text id may be written with. Nothing of it has a meaning in SQL, JSON, paths or templates.
pub fn is_of_an_id(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// The texts that are ids: those that a regular expression matches from end to end.
#[derive(Clone, Copy)]
pub struct TextIds(&'static Pattern);

struct Pattern {
    text: String,
    whole: Regex,
}

/// Why a text is no pattern of ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is no regular expression.
    #[error("`{pattern}` is no regular expression: {reason}")]
    Syntax {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing would be an id.
    #[error("`{0}` matches the empty text; write what every id consists of, as in `[a-z0-9]{{24}}`")]
    MatchesNothing(String),
}

/// The patterns of this process. They are never given back: an id's type is `Copy`, and there are as many as configurations name.
static PATTERNS: Mutex<Vec<&'static Pattern>> = Mutex::new(Vec::new());

impl TextIds {
    /// The texts that `pattern` matches from end to end.
    ///
    /// # Errors
    /// If it is no regular expression, or matches the empty text.
    pub fn matching(pattern: &str) -> Result<Self, PatternError> {
        let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = patterns.iter().find(|known| known.text == pattern) {
            return Ok(Self(known));
        }
        let syntax = |error: regex::Error| PatternError::Syntax {
            pattern: pattern.to_owned(),
            reason: error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        };
        // Alone first: an alternative or a flag in it must not reach beyond the anchors.
        RegexBuilder::new(pattern).unicode(false).build().map_err(syntax)?;
        let whole = RegexBuilder::new(&format!("^(?:{pattern})$")).unicode(false).build().map_err(syntax)?;
        if whole.is_match(b"") {
            return Err(PatternError::MatchesNothing(pattern.to_owned()));
        }
        let known: &'static Pattern = Box::leak(Box::new(Pattern { text: pattern.to_owned(), whole }));
        patterns.push(known);
        Ok(Self(known))
    }

    /// The regular expression.
    pub fn pattern(self) -> &'static str {
        &self.0.text
    }

    /// The id that `text` is, if it is one.
    pub fn parse(self, text: &[u8]) -> Option<TextId> {
        TextId::new(text).filter(|id| self.0.whole.is_match(id.as_str().as_bytes()))
    }

    /// The ids that stand in `name` as words: between bytes that are in no id, or `-` or `_`, or its ends.
    pub(super) fn words(self, name: &[u8]) -> impl Iterator<Item = TextId> + '_ {
        name.split(|byte| !is_of_an_id(byte)).flat_map(move |run| {
            let is_end = |at: usize| run.get(at).is_none_or(|byte| !byte.is_ascii_alphanumeric());
            let begins = (0..run.len()).filter(|at| *at == 0 || !run[at - 1].is_ascii_alphanumeric());
            let words = begins.flat_map(move |from| {
                (from + 1..=run.len().min(from + LONGEST)).filter(move |to| is_end(*to)).map(move |to| &run[from..to])
            });
            words.filter_map(move |word| self.parse(word)).collect::<Vec<_>>()
        })
    }
}

impl PartialEq for TextIds {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for TextIds {}

impl Hash for TextIds {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl fmt::Debug for TextIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TextIds").field(&self.0.text).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(pattern: &str) -> TextIds {
        TextIds::matching(pattern).unwrap()
    }

    #[test]
    fn s5_a_text_is_an_id_only_as_a_whole_and_without_what_means_something_elsewhere() {
        let c = ids("c[a-z0-9]{3}|x-1");
        for good in ["cabc", "c000", "x-1"] {
            assert_eq!(c.parse(good.as_bytes()).unwrap().as_str(), good);
        }
        for bad in ["", "cab", "cabcd", "Cabc", "cabc\n", " cabc", "x-12", "y-1"] {
            assert_eq!(c.parse(bad.as_bytes()), None, "{bad:?}");
        }
        let any = ids(".+");
        for bad in ["a/b", "a:b", "a.b", "a'b", "a\"b", "a\\b", "a,b", "{a}", "a b", "a\0", "\u{e9}", "..", "*"] {
            assert_eq!(any.parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert!(any.parse(&[b'a'; LONGEST]).is_some());
        assert_eq!(any.parse(&[b'a'; LONGEST + 1]), None);
        assert_eq!(ids("(?m)^a$").parse(b"a\nb"), None);
    }

    #[test]
    fn a_pattern_that_is_none_says_why_and_one_is_made_once() {
        let error = TextIds::matching("[a").unwrap_err().to_string();
        assert!(error.starts_with("`[a` is no regular expression: ") && error.contains("unclosed"), "{error}");
        assert!(TextIds::matching("a)|(b").is_err(), "it must be one by itself");
        assert_eq!(TextIds::matching("[a-z]*"), Err(PatternError::MatchesNothing("[a-z]*".to_owned())));
        assert!(std::ptr::eq(ids("[a-z]{7}").0, ids("[a-z]{7}").0));
        assert_ne!(ids("[a-z]{7}"), ids("[a-z]{8}"));
    }

    #[test]
    fn ids_are_in_the_order_of_their_texts() {
        let any = ids(".+");
        let mut texts = ["b", "a-b", "aa", "a", "a0", "A", "_"];
        let mut sorted: Vec<_> = texts.iter().filter_map(|text| any.parse(text.as_bytes())).collect();
        sorted.sort_unstable();
        texts.sort_unstable();
        assert_eq!(sorted.iter().map(TextId::as_str).collect::<Vec<_>>(), texts);
    }
}
