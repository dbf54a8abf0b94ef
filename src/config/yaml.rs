//! The configuration file as a tree in which each node knows its place.
//!
//! Scalars stay text: what they mean is decided by the field that they are for, so that a name
//! like `1e3` stays a name and the environment means the same as the file. Duplicate keys are
//! refused here, as are aliases, tags and further documents, which no configuration needs.

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::problem::{Origin, Problem};

/// Deeper than any configuration; what nests deeper is refused.
const MAX_DEPTH: usize = 32;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    pub(super) origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Nothing: an empty value, `~` or `null`.
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value, in the file's order.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_origin: Origin,
    pub(super) value: Node,
}

impl Node {
    /// The entries of a map; none of anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value under `key`, unless it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value).filter(|value| !value.is_null())
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    /// The text of a scalar.
    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(text) => Some(text),
            _ => None,
        }
    }
}

/// Parses one document. What could be read is returned together with everything that is wrong.
pub(super) fn parse(text: &str) -> (Node, Vec<Problem>) {
    let mut loader = Loader { parser: Parser::new_from_str(text), problems: Vec::new() };
    let root = loader.document().unwrap_or(Node { content: Content::Null, origin: Origin::Default });
    (root, loader.problems)
}

struct Loader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    problems: Vec<Problem>,
}

impl<'a> Loader<'a> {
    /// `None` at an error, which is recorded, and at the end.
    fn next(&mut self) -> Option<(Event<'a>, Origin)> {
        match self.parser.next_event()? {
            Ok((event, Span { start, .. })) => {
                Some((event, Origin::File { line: start.line(), column: start.col() + 1 }))
            }
            Err(error) => {
                let at = error.marker();
                let origin = Origin::File { line: at.line(), column: at.col() + 1 };
                self.problem(origin, "", format!("is not YAML: {}", error.info()));
                None
            }
        }
    }

    fn problem(&mut self, origin: Origin, path: &str, message: impl Into<String>) {
        self.problems.push(Problem { origin, path: path.to_owned(), message: message.into() });
    }

    fn document(&mut self) -> Option<Node> {
        let mut root = None;
        while let Some((event, origin)) = self.next() {
            match event {
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(_) if root.is_some() => {
                    self.problem(origin, "", "a second document begins; keep one");
                    break;
                }
                Event::DocumentStart(_) => {}
                event => root = Some(self.node(event, origin, "", 0)?),
            }
        }
        root
    }

    fn node(&mut self, event: Event<'a>, origin: Origin, path: &str, depth: usize) -> Option<Node> {
        if depth > MAX_DEPTH {
            self.problem(origin, path, format!("nests deeper than {MAX_DEPTH} levels"));
            return None;
        }
        if let Event::Scalar(_, _, _, Some(tag))
        | Event::SequenceStart(_, Some(tag))
        | Event::MappingStart(_, Some(tag)) = &event
        {
            let message = format!("has the tag `{tag}`; tags are not supported, write the value alone");
            self.problem(origin.clone(), path, message);
        }
        let content = match event {
            Event::Scalar(text, ScalarStyle::Plain, _, _)
                if matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL") =>
            {
                Content::Null
            }
            Event::Scalar(text, ..) => Content::Scalar(text.into_owned()),
            Event::SequenceStart(..) => Content::List(self.list(path, depth)?),
            Event::MappingStart(..) => Content::Map(self.map(path, depth)?),
            Event::Alias(_) => {
                let message = "is an alias; aliases are not supported, write the value again";
                self.problem(origin.clone(), path, message);
                Content::Null
            }
            // The parser is between two values only where a value must follow.
            _ => return None,
        };
        Some(Node { content, origin })
    }

    fn list(&mut self, path: &str, depth: usize) -> Option<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Some(items),
                (event, origin) => {
                    let path = format!("{path}[{}]", items.len());
                    items.push(self.node(event, origin, &path, depth + 1)?);
                }
            }
        }
    }

    fn map(&mut self, path: &str, depth: usize) -> Option<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (key, key_origin) = match self.next()? {
                (Event::MappingEnd, _) => return Some(entries),
                (Event::Scalar(key, ..), origin) => (key.into_owned(), origin),
                (event, origin) => {
                    self.problem(origin.clone(), path, "has a key that is no text; write a name");
                    self.node(event, origin, path, depth + 1)?;
                    (String::new(), Origin::Default)
                }
            };
            let path = join(path, &key);
            let (event, origin) = self.next()?;
            let value = self.node(event, origin, &path, depth + 1)?;
            if key_origin == Origin::Default {
                continue;
            }
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let line = match first.key_origin {
                    Origin::File { line, .. } => line,
                    _ => 0,
                };
                let message = format!("is given twice, first in line {line}; keep one");
                self.problem(key_origin, &path, message);
            } else {
                entries.push(Entry { key, key_origin, value });
            }
        }
    }
}

/// The path of `key` in the section at `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
