//! The environment over the file: `COURSE_GC_` and a scalar's path in upper case.
//!
//! Names of stores and sources stand in upper case too, with `_` for whatever is no letter or
//! digit; items of a list by their number, the next one included. The possible names follow from
//! the fields and from what the file names, so `COURSE_GC_STORES_VECTORS_API_KEY` is exact and a
//! misspelt one is refused rather than ignored.
//!
//! Kubernetes gives each container variables for the services beside it; a service named
//! `course-gc` makes some with our prefix. Those are known by their form and left alone.

use super::problem::{Origin, Problem};
use super::read::{FieldDoc, Shape};
use super::suggest::nearest;
use super::yaml::{Content, Entry, Node};

const PREFIX: &str = "COURSE_GC_";

/// The variable that names the configuration file itself: the command line's affair.
const FILE: &str = "COURSE_GC_CONFIG";

/// One step from a node to what is in it.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    /// The first field of a section that a scalar may stand for, and then the field in it.
    Expand(&'static str),
    Index(usize),
}

/// A scalar that can be given, by its variable's name.
struct Target {
    name: String,
    steps: Vec<Step>,
}

/// Puts the variables' values into the tree.
pub(super) fn apply(
    root: &mut Node,
    fields: &'static [FieldDoc],
    environment: impl IntoIterator<Item = (String, String)>,
    problems: &mut Vec<Problem>,
) {
    let mut variables: Vec<(String, String)> =
        environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX) && name != FILE).collect();
    // A store's kind decides about its other fields; an item must exist before the next one.
    variables.sort_by_cached_key(|(name, _)| (!name.ends_with("_KIND"), name.len(), name.clone()));
    for (name, value) in variables {
        let mut targets = Vec::new();
        section_targets(fields, Some(&*root), &Target::root(), &mut targets);
        let mut matching = targets.iter().filter(|target| target.name == name);
        let problem = match (matching.next(), matching.next()) {
            (Some(target), None) => {
                let value = Node { content: Content::Scalar(value), origin: Origin::Environment(name) };
                *root = set(root.clone(), &target.steps, value);
                continue;
            }
            (None, _) if is_service_link(&name, &value) => continue,
            (None, _) => {
                let right = match nearest(&name, targets.iter().map(|target| target.name.as_str())) {
                    Some(known) => format!("did you mean {known}?"),
                    None => "remove it, or see `course-gc config example` for the fields".to_owned(),
                };
                format!("names no field; {right}")
            }
            (Some(_), Some(_)) => "names more than one field; give their names in the file other letters".to_owned(),
        };
        problems.push(Problem { origin: Origin::Environment(name), path: String::new(), message: problem });
    }
}

/// Whether Kubernetes made this variable for a service: `…_SERVICE_HOST`, `…_SERVICE_PORT`,
/// `…_PORT=tcp://…` and `…_PORT_9090_TCP…`.
fn is_service_link(name: &str, value: &str) -> bool {
    let of_port = |rest: &str| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
            && parts.next().is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol))
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && value.contains("://"))
        || name.match_indices("_PORT_").any(|(at, link)| of_port(&name[at + link.len()..]))
}

impl Target {
    fn root() -> Self {
        Self { name: PREFIX.trim_end_matches('_').to_owned(), steps: Vec::new() }
    }

    /// One step further, which the name tells.
    fn then(&self, part: &str, step: Step) -> Self {
        let name = format!("{}_{}", self.name, upper(part));
        Self { name, ..self.with(step) }
    }

    /// One step further under the same name.
    fn with(&self, step: Step) -> Self {
        let steps = self.steps.iter().cloned().chain([step]).collect();
        Self { name: self.name.clone(), steps }
    }
}

fn section_targets(fields: &'static [FieldDoc], node: Option<&Node>, at: &Target, targets: &mut Vec<Target>) {
    for field in fields {
        let next = at.then(field.name, Step::Key(field.name.to_owned()));
        if matches!(field.shape, Shape::Secret { .. }) {
            let key = format!("{}_file", field.name);
            targets.push(at.then(&key, Step::Key(key.clone())));
        }
        shape_targets(field.shape, node.and_then(|node| node.get(field.name)), next, targets);
    }
}

fn shape_targets(shape: &'static Shape, node: Option<&Node>, at: Target, targets: &mut Vec<Target>) {
    match shape {
        Shape::Scalar(_) | Shape::Secret { .. } => targets.push(at),
        Shape::Section { fields, shorthand: false } => section_targets(fields, node, &at, targets),
        Shape::Section { fields, shorthand: true } => {
            let Some(first) = fields.first() else { return };
            // The value alone is the first field; what else the file says of the item stays.
            section_targets(fields, node, &at.with(Step::Expand(first.name)), targets);
            targets.push(match node.map(|node| &node.content) {
                Some(Content::Map(_)) => at.with(Step::Key(first.name.to_owned())),
                _ => at,
            });
        }
        Shape::Kinds(kinds) => {
            targets.push(at.then("kind", Step::Key("kind".to_owned())));
            let given = node.and_then(|node| node.get("kind")).and_then(Node::scalar);
            if let Some(kind) = kinds.iter().find(|kind| Some(kind.name) == given) {
                section_targets(kind.fields, node, &at, targets);
            }
        }
        Shape::List(item) => {
            let items = match node.map(|node| &node.content) {
                Some(Content::List(items)) => items.as_slice(),
                _ => &[],
            };
            for index in 0..=items.len() {
                let next = at.then(&index.to_string(), Step::Index(index));
                shape_targets(item, items.get(index), next, targets);
            }
        }
        Shape::Map(value) => {
            for entry in node.map(Node::entries).unwrap_or_default() {
                let next = at.then(&entry.key, Step::Key(entry.key.clone()));
                shape_targets(value, Some(&entry.value), next, targets);
            }
        }
    }
}

/// Puts a value where the steps lead, and makes what is missing on the way. What has another form
/// than the steps expect stays as it is, to be refused when it is read.
fn set(mut node: Node, steps: &[Step], value: Node) -> Node {
    let Some((step, rest)) = steps.split_first() else {
        return value;
    };
    let absent = || Node { content: Content::Null, origin: value.origin.clone() };
    node.content = match (step, node.content) {
        (Step::Key(key), content @ (Content::Map(_) | Content::Null)) => {
            let mut entries = if let Content::Map(entries) = content { entries } else { Vec::new() };
            match entries.iter_mut().find(|entry| entry.key == *key) {
                Some(entry) => entry.value = set(entry.value.clone(), rest, value),
                None => {
                    let key_origin = value.origin.clone();
                    let value = set(absent(), rest, value);
                    entries.push(Entry { key: key.clone(), key_origin, value });
                }
            }
            Content::Map(entries)
        }
        (Step::Expand(first), Content::Scalar(text)) => {
            let origin = node.origin.clone();
            let scalar = Node { content: Content::Scalar(text), origin: origin.clone() };
            let entry = Entry { key: (*first).to_owned(), key_origin: origin.clone(), value: scalar };
            return set(Node { content: Content::Map(vec![entry]), origin }, rest, value);
        }
        (Step::Expand(_), content) => return set(Node { content, ..node }, rest, value),
        (Step::Index(index), content @ (Content::List(_) | Content::Null)) => {
            let mut items = if let Content::List(items) = content { items } else { Vec::new() };
            match items.get_mut(*index) {
                Some(item) => *item = set(item.clone(), rest, value),
                None => items.push(set(absent(), rest, value)),
            }
            Content::List(items)
        }
        (_, content) => content,
    };
    node
}

/// The name of the variable for the field at `path`.
pub(super) fn variable(path: &str) -> String {
    path.split(['.', '[', ']'])
        .filter(|part| !part.is_empty())
        .fold(PREFIX.trim_end_matches('_').to_owned(), |name, part| format!("{name}_{}", upper(part)))
}

/// A name as it stands in a variable's.
pub(super) fn upper(part: &str) -> String {
    part.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
