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
                set(root, &target.steps, &name, value);
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

    fn then(&self, part: &str, step: Step) -> Self {
        let part: String =
            part.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        let steps = self.steps.iter().cloned().chain([step]).collect();
        Self { name: format!("{}_{part}", self.name), steps }
    }
}

fn section_targets(fields: &'static [FieldDoc], node: Option<&Node>, at: &Target, targets: &mut Vec<Target>) {
    for field in fields {
        let next = at.then(field.name, Step::Key(field.name.to_owned()));
        if matches!(field.shape, Shape::Secret) {
            let key = format!("{}_file", field.name);
            targets.push(at.then(&key, Step::Key(key.clone())));
        }
        shape_targets(field.shape, node.and_then(|node| node.get(field.name)), next, targets);
    }
}

fn shape_targets(shape: &'static Shape, node: Option<&Node>, at: Target, targets: &mut Vec<Target>) {
    match shape {
        Shape::Scalar | Shape::Secret => targets.push(at),
        Shape::Section { fields, shorthand: false } => section_targets(fields, node, &at, targets),
        Shape::Section { fields, shorthand: true } => {
            if let Some(first) = fields.first() {
                let steps = at.steps.iter().cloned().chain([Step::Expand(first.name)]).collect();
                let inner = Target { name: at.name.clone(), steps };
                section_targets(fields, node, &inner, targets);
            }
            targets.push(at);
        }
        Shape::Kinds(kinds) => {
            targets.push(at.then("kind", Step::Key("kind".to_owned())));
            let kind = node.and_then(|node| node.get("kind")).and_then(Node::scalar);
            if let Some((_, fields)) = kinds.iter().find(|(name, _)| Some(*name) == kind) {
                section_targets(fields, node, &at, targets);
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

/// Puts a value where the steps lead, and makes what is missing on the way.
fn set(root: &mut Node, steps: &[Step], name: &str, value: String) {
    let origin = Origin::Environment(name.to_owned());
    let absent = || Node { content: Content::Null, origin: origin.clone() };
    let mut node = root;
    for step in steps {
        node = match step {
            Step::Key(key) => {
                let entries = node.entries_mut();
                let index = entries.iter().position(|entry| entry.key == *key).unwrap_or_else(|| {
                    entries.push(Entry { key: key.clone(), key_origin: origin.clone(), value: absent() });
                    entries.len() - 1
                });
                &mut entries[index].value
            }
            Step::Expand(first) => {
                if node.scalar().is_some() {
                    let entry =
                        Entry { key: (*first).to_owned(), key_origin: node.origin.clone(), value: node.clone() };
                    node.content = Content::Map(vec![entry]);
                }
                node
            }
            Step::Index(index) => {
                let items = node.items_mut();
                while items.len() <= *index {
                    items.push(absent());
                }
                &mut items[*index]
            }
        };
    }
    *node = Node { content: Content::Scalar(value), origin };
}

impl Node {
    /// The entries of a map; what is none becomes an empty one.
    fn entries_mut(&mut self) -> &mut Vec<Entry> {
        if !matches!(self.content, Content::Map(_)) {
            self.content = Content::Map(Vec::new());
        }
        match &mut self.content {
            Content::Map(entries) => entries,
            _ => unreachable!("just made a map"),
        }
    }

    /// The items of a list; what is none becomes an empty one.
    fn items_mut(&mut self) -> &mut Vec<Node> {
        if !matches!(self.content, Content::List(_)) {
            self.content = Content::List(Vec::new());
        }
        match &mut self.content {
            Content::List(items) => items,
            _ => unreachable!("just made a list"),
        }
    }
}
