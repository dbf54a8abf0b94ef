//! From the tree to the types: each value is read by its type, and all problems are collected.

use std::path::PathBuf;

use super::environment::upper;
use super::files::Files;
use super::named::Named;
use super::problem::{Origin, Problem};
use super::scalar::Scalar;
use super::schema::Form;
use super::suggest::nearest;
use super::yaml::{Content, Node, join};

/// What a field looks like in the file.
pub(super) enum Shape {
    Scalar(Form),
    /// A scalar that may also come from the file that `…_file` names; and without `in_file` never from this file.
    Secret {
        in_file: bool,
    },
    /// Fields by name; with `shorthand`, a scalar may stand for the first of them.
    Section {
        fields: &'static [FieldDoc],
        shorthand: bool,
    },
    /// A section whose other fields depend on its field `kind`.
    Kinds(&'static [Kind]),
    List(&'static Shape),
    Map(&'static Shape),
}

/// One of the kinds that a section can have.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// What the example calls a section of this kind.
    pub(super) example: &'static str,
    pub(super) fields: &'static [FieldDoc],
}

/// A field as its declaration describes it.
pub(super) struct FieldDoc {
    pub(super) name: &'static str,
    /// It may be absent although it has no default.
    pub(super) optional: bool,
    /// The doc comment, a line of it each.
    pub(super) doc: &'static [&'static str],
    pub(super) shape: &'static Shape,
    /// What an absent field has: a scalar's text, an item a line for a list (`[]` if it is empty), or `{}`.
    pub(super) default: Option<&'static str>,
    /// A value for the example where there is no default, an item a line for a list.
    pub(super) example: Option<&'static str>,
    /// A value that the example only mentions, in a comment.
    pub(super) mention: Option<&'static str>,
}

/// The items of a list's default.
pub(super) fn default_items(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|item| *item != "[]")
}

fn default_item(text: &str) -> Node {
    Node { content: Content::Scalar(text.to_owned()), origin: Origin::Default }
}

/// A place in the tree that is to be read.
pub(super) struct At<'a> {
    pub(super) path: String,
    /// `None` where the file and the environment say nothing and there is no default.
    pub(super) node: Option<&'a Node>,
    /// The sibling `…_file` of a secret.
    pub(super) file: Option<&'a Node>,
    /// Where to point when the value is missing.
    pub(super) section: &'a Origin,
}

impl At<'_> {
    pub(super) fn origin(&self) -> &Origin {
        self.node.map_or(self.section, |node| &node.origin)
    }
}

/// What a field has in effect, and where that comes from.
#[derive(Clone, Debug)]
pub(super) struct Effective {
    pub(super) path: String,
    /// The value as it may be shown; `None` for what has fields or items.
    pub(super) value: Option<String>,
    pub(super) origin: Origin,
    /// The file that a secret was read from.
    pub(super) secret_file: Option<PathBuf>,
}

/// Collects what reading finds.
#[derive(Debug)]
pub(super) struct Reader {
    /// Where relative `…_file` paths start.
    pub(super) folder: PathBuf,
    pub(super) problems: Vec<Problem>,
    pub(super) effective: Vec<Effective>,
    /// What was read for it.
    pub(super) files: Files,
}

/// A type that can be read from the tree.
pub(super) trait Value: Sized {
    const SHAPE: Shape;
    /// Whether it may be absent.
    const OPTIONAL: bool = false;

    /// Reads it, or records what is wrong.
    fn read(at: &At<'_>, reader: &mut Reader) -> Option<Self>;
}

impl Reader {
    pub(super) fn problem(&mut self, origin: &Origin, path: &str, message: impl Into<String>) {
        let (origin, path) = (origin.clone(), path.to_owned());
        self.problems.push(Problem { origin, path, message: message.into() });
    }

    pub(super) fn record(&mut self, at: &At<'_>, value: Option<String>) {
        let origin = at.node.map_or(Origin::Default, |node| node.origin.clone());
        self.effective.push(Effective { path: at.path.clone(), value, origin, secret_file: None });
    }

    /// Reads one field of the section at `at`.
    pub(super) fn field<T: Value>(&mut self, at: &At<'_>, field: &FieldDoc) -> Option<T> {
        let get = |key: &str| at.node.and_then(|node| node.get(key));
        let default = field.default.map(|text| {
            let content = match field.shape {
                Shape::Scalar(_) | Shape::Secret { .. } => Content::Scalar(text.to_owned()),
                Shape::List(_) => Content::List(default_items(text).map(default_item).collect()),
                _ => Content::Map(Vec::new()),
            };
            Node { content, origin: Origin::Default }
        });
        let file = match field.shape {
            Shape::Secret { .. } => get(&format!("{}_file", field.name)),
            _ => None,
        };
        let node = get(field.name).or(default.as_ref());
        T::read(&At { path: join(&at.path, field.name), node, file, section: at.origin() }, self)
    }

    /// Where the value at `path` stands, or the nearest section around it that stands anywhere.
    pub(super) fn origin_of(&self, path: &str) -> Origin {
        let mut path = path;
        loop {
            let found = self.effective.iter().find(|effective| effective.path == path);
            match (found, path.rfind(['.', '['])) {
                (Some(found), _) if found.origin != Origin::Default => return found.origin.clone(),
                (_, Some(end)) => path = &path[..end],
                (_, None) => return Origin::Default,
            }
        }
    }

    /// Whether `at` is a map; refuses its keys that are no field's.
    pub(super) fn section(&mut self, at: &At<'_>, fields: &[&[FieldDoc]]) -> bool {
        match at.node.map(|node| &node.content) {
            None => self.problem(at.section, &at.path, "is missing"),
            Some(Content::Map(_)) => {}
            Some(_) => self.problem(at.origin(), &at.path, "has no fields; write `name: value` lines beneath it"),
        }
        let known: Vec<String> = fields.iter().flat_map(|fields| keys(fields)).collect();
        for entry in at.node.map(Node::entries).unwrap_or_default() {
            if !known.contains(&entry.key) {
                let right = match nearest(&entry.key, known.iter().map(String::as_str)) {
                    Some(key) => format!("did you mean `{key}`?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                let path = join(&at.path, &entry.key);
                self.problem(&entry.key_origin, &path, format!("is no known field; {right}"));
            }
        }
        matches!(at.node.map(|node| &node.content), Some(Content::Map(_)))
    }
}

/// The keys under which the file may give these fields.
pub(super) fn keys(fields: &[FieldDoc]) -> impl Iterator<Item = String> {
    fields.iter().flat_map(|field| {
        let file = matches!(field.shape, Shape::Secret { .. }).then(|| format!("{}_file", field.name));
        [Some(field.name.to_owned()), file].into_iter().flatten()
    })
}

impl<T: Scalar> Value for T {
    const SHAPE: Shape = Shape::Scalar(T::FORM);

    fn read(at: &At<'_>, reader: &mut Reader) -> Option<Self> {
        let Some(node) = at.node else {
            reader.problem(at.section, &at.path, "is missing");
            return None;
        };
        let Some(text) = node.scalar() else {
            reader.problem(&node.origin, &at.path, "is not a single value; write one");
            return None;
        };
        match T::parse(text) {
            Ok(value) => {
                reader.record(at, Some(value.show()));
                Some(value)
            }
            Err(message) => {
                reader.problem(&node.origin, &at.path, message);
                None
            }
        }
    }
}

impl<T: Value> Value for Option<T> {
    const SHAPE: Shape = T::SHAPE;
    const OPTIONAL: bool = true;

    fn read(at: &At<'_>, reader: &mut Reader) -> Option<Self> {
        if at.node.is_none() && at.file.is_none() {
            reader.record(at, Some("none".to_owned()));
            return Some(None);
        }
        T::read(at, reader).map(Some)
    }
}

impl<T: Value> Value for Vec<T> {
    const SHAPE: Shape = Shape::List(&T::SHAPE);

    fn read(at: &At<'_>, reader: &mut Reader) -> Option<Self> {
        let items = match at.node.map(|node| &node.content) {
            None => {
                reader.problem(at.section, &at.path, "is missing");
                return None;
            }
            Some(Content::List(items)) => items,
            Some(_) => {
                reader.problem(at.origin(), &at.path, "is not a list; write `- ` before each item");
                return None;
            }
        };
        reader.record(at, items.is_empty().then(|| "[]".to_owned()));
        let read: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(index, node)| {
                let path = format!("{}[{index}]", at.path);
                T::read(&At { path, node: Some(node), file: None, section: at.origin() }, reader)
            })
            .collect();
        read.into_iter().collect()
    }
}

impl<T: Value> Value for Named<T> {
    const SHAPE: Shape = Shape::Map(&T::SHAPE);

    fn read(at: &At<'_>, reader: &mut Reader) -> Option<Self> {
        reader.record(at, None);
        let entries = at.node.map(Node::entries).unwrap_or_default();
        if entries.is_empty() {
            reader.problem(at.origin(), &at.path, "has no entry; write at least one `name:` beneath it");
            return None;
        }
        for (index, entry) in entries.iter().enumerate() {
            let twin = entries[..index].iter().find(|other| upper(&other.key) == upper(&entry.key));
            if let Some(twin) = twin {
                let message = format!("has the same environment variables as `{}`; change one name", twin.key);
                reader.problem(&entry.key_origin, &join(&at.path, &entry.key), message);
            }
        }
        let read: Vec<Option<(String, T)>> = entries
            .iter()
            .map(|entry| {
                let path = join(&at.path, &entry.key);
                if !is_name(&entry.key) {
                    let message = "is no name; use a to z, 0 to 9, hyphens and underscores, at most 40";
                    reader.problem(&entry.key_origin, &path, message);
                }
                let at = At { path, node: Some(&entry.value), file: None, section: &entry.key_origin };
                T::read(&at, reader).map(|value| (entry.key.clone(), value))
            })
            .collect();
        Named::new(read.into_iter().collect::<Option<_>>()?)
    }
}

/// Whether `text` can name a store or a source: it stands in metrics, tables and variables' names.
fn is_name(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
}
