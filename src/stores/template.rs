//! Key templates: where in a name the course id stands.
//!
//! A template is literal text with `{course_id}` once and `*` anywhere for any bytes, also none: `lesson_md:{course_id}:*`.
//! Everything else, `?`, `[` and single braces included, stands for itself.
//!
//! An id is read strictly (S5). All alignments of a template with a name are considered, and only a name with exactly
//! one distinct canonical id has an owner:
//!
//! - Where a `*` touches `{course_id}`, the id is not cut out of something longer: no digit may stand beside an integer,
//!   no hexadecimal digit beside a UUID, nothing that a text id is written with beside one. `a*{course_id}` finds 123 in `a123`,
//!   not 3 or 23.
//! - A `-` after a `*` may be a separator or a sign: `a*{course_id}` reads both 5 and -5 in `a-5`, which makes the name
//!   unrecognised. `a*-{course_id}` says which.
//!
//! Matching takes time linear in the name (of texts: times the square of the longest id), whatever the number of stars, and allocates nothing. That is why it is no
//! regular expression: the text before the id and the text after it are matched apart, once each, and tell which
//! positions the id can have.

use std::fmt;

use memchr::{memchr_iter, memrchr_iter};

use crate::domain::ids::text::{LONGEST, is_of_an_id};
use crate::domain::ids::{CourseId, IdType, TextIds};
use crate::domain::inventory::SourceIndex;

const PLACEHOLDER: &str = "{course_id}";
/// Length of a UUID's canonical text.
const UUID_BYTES: usize = 36;
/// Length of the longest canonical integer, `i64::MIN`.
const INTEGER_BYTES: usize = 20;

/// A compiled template.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    before: Side,
    after: Side,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It does not say where the id is.
    #[error(
        "template `{0}` has no {{course_id}}: write it where the course's id stands, as in `lesson_md:{{course_id}}:*`"
    )]
    NoCourseId(String),
    /// It says so more than once.
    #[error(
        "template `{0}` has {{course_id}} more than once: keep it where the owner stands and write * for the others"
    )]
    SeveralCourseIds(String),
    /// It holds a placeholder of something else.
    #[error("template `{template}` has {placeholder}, which means nothing here: write * for any text")]
    UnknownPlaceholder {
        /// The whole text.
        template: String,
        /// The part that is not understood.
        placeholder: String,
    },
}

/// What a template reads in a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parse {
    /// The literal text does not match.
    NoMatch,
    /// Exactly one canonical id.
    Id(CourseId),
    /// Several distinct ids: the name is unrecognised.
    Ambiguous,
    /// The literal text matches, but where the id should stand there is none: the name is unrecognised.
    NoId,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// If the text does not hold `{course_id}` exactly once, or holds another placeholder that ends in `_id`.
    pub fn compile(text: &str) -> Result<Self, TemplateError> {
        let Some((before, after)) = text.split_once(PLACEHOLDER) else {
            return Err(match unknown_placeholder(text) {
                Some(placeholder) => TemplateError::UnknownPlaceholder { template: text.into(), placeholder },
                None => TemplateError::NoCourseId(text.into()),
            });
        };
        if after.contains(PLACEHOLDER) {
            return Err(TemplateError::SeveralCourseIds(text.into()));
        }
        if let Some(placeholder) = unknown_placeholder(before).or_else(|| unknown_placeholder(after)) {
            return Err(TemplateError::UnknownPlaceholder { template: text.into(), placeholder });
        }
        Ok(Self { text: text.into(), before: Side::compile(before), after: Side::compile(after) })
    }

    /// The template as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads a name.
    pub fn parse(&self, id_type: IdType, key: &[u8]) -> Parse {
        let (Some(start), Some(end)) = (self.before.shortest_prefix(key), self.after.shortest_suffix(key)) else {
            return Parse::NoMatch;
        };
        if start > end {
            return Parse::NoMatch;
        }
        let frame = Frame { template: self, key, start, end };
        match id_type {
            IdType::Uuid => frame.uuid(),
            IdType::Integer => frame.integer(),
            IdType::Text(ids) => frame.text(ids),
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.text).finish()
    }
}

/// A `{…_id}` that is not `{course_id}`; other braces are literal, since Redis Cluster's hash tags are written so.
fn unknown_placeholder(text: &str) -> Option<String> {
    text.match_indices('{').find_map(|(at, _)| {
        let rest = &text[at..];
        let name = rest[1..].split('}').next().filter(|name| name.len() + 1 < rest.len())?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        (is_name && name.ends_with("_id")).then(|| format!("{{{name}}}"))
    })
}

/// The text on one side of the id: literals with a `*` between each two. At least one literal, which may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Side {
    literals: Vec<Box<[u8]>>,
}

impl Side {
    fn compile(text: &str) -> Self {
        let pieces: Vec<&str> = text.split('*').collect();
        let last = pieces.len() - 1;
        let literals = pieces
            .iter()
            .enumerate()
            .filter(|(at, piece)| *at == 0 || *at == last || !piece.is_empty())
            .map(|(_, piece)| piece.as_bytes().into())
            .collect();
        Self { literals }
    }

    fn has_star(&self) -> bool {
        self.literals.len() > 1
    }

    fn first(&self) -> &[u8] {
        self.literals.first().map_or(&[], |literal| literal)
    }

    fn last(&self) -> &[u8] {
        self.literals.last().map_or(&[], |literal| literal)
    }

    /// The length of the shortest prefix of `key` that this side matches, taking each literal as early as it comes.
    fn shortest_prefix(&self, key: &[u8]) -> Option<usize> {
        if !key.starts_with(self.first()) {
            return None;
        }
        self.literals.iter().skip(1).try_fold(self.first().len(), |from, literal| {
            let rest = key.get(from..)?;
            Some(from + find(rest, literal)? + literal.len())
        })
    }

    /// Where the shortest suffix of `key` that this side matches begins, taking each literal as late as it comes.
    fn shortest_suffix(&self, key: &[u8]) -> Option<usize> {
        if !key.ends_with(self.last()) {
            return None;
        }
        self.literals.iter().rev().skip(1).try_fold(key.len() - self.last().len(), |to, literal| {
            let rest = key.get(..to)?;
            rfind(rest, literal)
        })
    }
}

fn find(text: &[u8], literal: &[u8]) -> Option<usize> {
    let Some(first) = literal.first() else { return Some(0) };
    memchr_iter(*first, text).find(|at| text[*at..].starts_with(literal))
}

fn rfind(text: &[u8], literal: &[u8]) -> Option<usize> {
    let Some(first) = literal.first() else { return Some(text.len()) };
    memrchr_iter(*first, text).find(|at| text[*at..].starts_with(literal))
}

/// A name whose literal text matches: the id lies between `start` and `end` at the latest.
struct Frame<'a> {
    template: &'a Template,
    key: &'a [u8],
    start: usize,
    end: usize,
}

impl Frame<'_> {
    fn uuid(&self) -> Parse {
        let Some(last) = self.end.checked_sub(UUID_BYTES).filter(|last| *last >= self.start) else {
            return Parse::NoId;
        };
        let first = if self.template.after.has_star() { self.start } else { last };
        let last = if self.template.before.has_star() { last } else { self.start };
        let mut read = Read::default();
        for from in first..=last {
            let to = from + UUID_BYTES;
            if self.key[from + 8] == b'-'
                && self.may_begin(from, u8::is_ascii_hexdigit)
                && self.may_end(to, u8::is_ascii_hexdigit)
                && let Some(id) = IdType::Uuid.parse(&self.key[from..to])
            {
                read.add(id);
            }
        }
        read.result()
    }

    fn integer(&self) -> Parse {
        let last = if self.template.before.has_star() { self.end } else { self.start };
        let mut read = Read::default();
        for from in self.start..=last {
            if !self.may_begin(from, u8::is_ascii_digit) {
                continue;
            }
            for to in from + 1..=self.end.min(from + INTEGER_BYTES) {
                let byte = self.key[to - 1];
                let is_sign = byte == b'-' && to == from + 1;
                if !byte.is_ascii_digit() && !is_sign {
                    break;
                }
                if self.may_end(to, u8::is_ascii_digit)
                    && let Some(id) = IdType::Integer.parse(&self.key[from..to])
                {
                    read.add(id);
                }
            }
        }
        read.result()
    }

    fn text(&self, ids: TextIds) -> Parse {
        let last = if self.template.before.has_star() { self.end } else { self.start };
        let mut read = Read::default();
        for from in (self.start..=last).filter(|from| self.may_begin(*from, is_of_an_id)) {
            // The fixed end of a template may lie beyond the longest id: then there is none.
            for to in (from + 1..=self.end.min(from + LONGEST)).filter(|to| self.may_end(*to, is_of_an_id)) {
                if let Some(id) = ids.parse(&self.key[from..to]) {
                    read.add(CourseId::Text(id));
                }
            }
        }
        read.result()
    }

    /// True if the text before the id can end at `at`, and does not cut an id's first `digit`s off.
    fn may_begin(&self, at: usize, digit: impl Fn(&u8) -> bool) -> bool {
        let side = &self.template.before;
        let before = &self.key[..at];
        if !side.has_star() {
            return at == self.start;
        }
        at >= self.start
            && before.ends_with(side.last())
            && !(side.last().is_empty() && before.last().is_some_and(digit))
    }

    /// True if the text after the id can begin at `at`, and does not cut an id's last `digit`s off.
    fn may_end(&self, at: usize, digit: impl Fn(&u8) -> bool) -> bool {
        let side = &self.template.after;
        let after = &self.key[at..];
        if !side.has_star() {
            return at == self.end;
        }
        at <= self.end
            && after.starts_with(side.first())
            && !(side.first().is_empty() && after.first().is_some_and(digit))
    }
}

/// The distinct ids that were read, as far as it matters.
#[derive(Default)]
struct Read {
    id: Option<CourseId>,
    several: bool,
}

impl Read {
    fn add(&mut self, id: CourseId) {
        self.several |= self.id.is_some_and(|other| other != id);
        self.id = Some(id);
    }

    fn result(&self) -> Parse {
        match self.id {
            _ if self.several => Parse::Ambiguous,
            Some(id) => Parse::Id(id),
            None => Parse::NoId,
        }
    }
}

/// Which template claims a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// No template matches.
    Unclaimed,
    /// All templates that read an id read this one; the first of them owns the name.
    Owned(SourceIndex, CourseId),
    /// The first template that matches reads no id, or the templates together read more than one (S5).
    Unrecognised(SourceIndex),
}

/// The templates of one store, in order.
#[derive(Debug, Clone)]
pub struct Templates {
    templates: Vec<Template>,
    id_type: IdType,
}

impl Templates {
    /// Templates whose [`SourceIndex`]es are their places in the list.
    pub fn new(templates: Vec<Template>, id_type: IdType) -> Self {
        Self { templates, id_type }
    }

    /// Says which template claims `key`. A template that reads an id goes before one that matches without an id: of
    /// `lesson:{course_id}:*` and `lesson:uuid:{course_id}:*` only the second reads one in `lesson:uuid:…:intro`.
    pub fn claim(&self, key: &[u8]) -> Claim {
        let mut owned: Option<(SourceIndex, CourseId)> = None;
        let mut unrecognised = None;
        for (place, template) in self.templates.iter().enumerate() {
            let source = SourceIndex(place);
            match template.parse(self.id_type, key) {
                Parse::NoMatch => {}
                Parse::NoId => unrecognised = unrecognised.or(Some(source)),
                Parse::Ambiguous => return Claim::Unrecognised(source),
                Parse::Id(id) => match owned {
                    None => owned = Some((source, id)),
                    Some((first, other)) if other != id => return Claim::Unrecognised(first),
                    Some(_) => {}
                },
            }
        }
        match (owned, unrecognised) {
            (Some((source, id)), _) => Claim::Owned(source, id),
            (None, Some(source)) => Claim::Unrecognised(source),
            (None, None) => Claim::Unclaimed,
        }
    }
}

#[cfg(test)]
mod tests;
