//! The JSON Schema of a configuration file, made from the sections' declarations: what editors and the chart judge by.
//!
//! It is draft 7, which Helm's validators of all versions read. It says less than the program: what a text means (a cron expression, a template) and what
//! must fit together is `check`'s. And it asks for more in one point: a text is to be quoted where YAML would take it for a number, since who reads and
//! writes the file again (as Helm does) makes another text of it. Where a secret may come from the environment, it asks for none.

use serde_json::{Map, Value as Json, json};

use super::model::Config;
use super::read::{FieldDoc, Kind, Shape, default_items};
use super::section::Section;

/// How a scalar is written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A text that is not blank.
    Text,
    /// A text of this form: a regular expression of those that all validators know.
    Pattern(&'static str),
    /// true or false.
    Boolean,
    /// A whole number, 0 or more.
    Number,
    /// A number.
    Decimal,
    /// One of these words.
    Words(&'static [&'static str]),
}

/// The schema of the whole file.
pub fn schema() -> Json {
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "The configuration of course-gc",
        "description": "As `course-gc config schema` prints it. A value may come from the environment instead; of those, secrets alone are not asked for here.",
    });
    extend(&mut schema, section(Config::FIELDS, None));
    schema
}

fn extend(schema: &mut Json, more: Json) {
    if let (Json::Object(fields), Json::Object(more)) = (schema, more) {
        fields.extend(more);
    }
}

/// A section with these fields, and no others; `kind` is what its field of that name must be.
fn section(fields: &[FieldDoc], kind: Option<&str>) -> Json {
    let mut properties = Map::new();
    let mut required = Vec::new();
    if let Some(kind) = kind {
        properties.insert("kind".to_owned(), json!({ "const": kind }));
    }
    for field in fields {
        match field.shape {
            Shape::Secret { in_file } => {
                if *in_file {
                    properties.insert(field.name.to_owned(), described(field, Form::Text.schema()));
                }
                let mut file = json!({ "description": format!("The file that holds `{}` alone.", field.name) });
                extend(&mut file, Form::Text.schema());
                properties.insert(format!("{}_file", field.name), file);
            }
            shape => {
                properties.insert(field.name.to_owned(), described(field, of(shape)));
                if field.default.is_none() && !field.optional {
                    required.push(field.name);
                }
            }
        }
    }
    // One of which nothing has to be said may stand there without anything beneath it.
    let kind = if required.is_empty() { json!(["object", "null"]) } else { json!("object") };
    json!({ "type": kind, "additionalProperties": false, "required": required, "properties": properties })
}

/// What a field's declaration says besides its form.
fn described(field: &FieldDoc, form: Json) -> Json {
    let lines: Vec<&str> = field.doc.iter().map(|line| line.trim()).collect();
    let mut schema = json!({ "description": lines.join(" ") });
    if let Some(default) = default(field) {
        extend(&mut schema, json!({ "default": default }));
    }
    extend(&mut schema, form);
    schema
}

fn default(field: &FieldDoc) -> Option<Json> {
    let text = field.default?;
    match field.shape {
        Shape::Scalar(form) => Some(form.value(text)),
        Shape::List(Shape::Scalar(form)) => Some(default_items(text).map(|item| form.value(item)).collect()),
        _ => None,
    }
}

fn of(shape: &Shape) -> Json {
    match shape {
        Shape::Scalar(form) => form.schema(),
        Shape::Secret { .. } => Form::Text.schema(),
        Shape::Section { fields, shorthand: false } => section(fields, None),
        Shape::Section { fields, shorthand: true } => {
            let mut schema = section(fields, None);
            // Of these words, some are about texts alone and the others about sections alone.
            if let Some(FieldDoc { shape: Shape::Scalar(form), .. }) = fields.first() {
                extend(&mut schema, form.schema());
            }
            extend(&mut schema, json!({ "type": ["string", "object"] }));
            schema
        }
        Shape::Kinds(kinds) => of_kinds(kinds),
        Shape::List(item) => json!({ "type": "array", "items": of(item) }),
        Shape::Map(value) => json!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": "^[a-z0-9][a-z0-9_-]{0,39}$" },
            "additionalProperties": of(value),
        }),
    }
}

/// Each kind by itself, so that what is wrong is said of the kind that is meant.
fn of_kinds(kinds: &[Kind]) -> Json {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    let each = kinds.iter().map(|kind| {
        json!({
            "if": { "required": ["kind"], "properties": { "kind": { "const": kind.name } } },
            "then": section(kind.fields, Some(kind.name)),
        })
    });
    json!({
        "type": "object",
        "required": ["kind"],
        "properties": { "kind": { "description": "What it is.", "enum": names } },
        "allOf": each.collect::<Vec<_>>(),
    })
}

impl Form {
    pub(super) fn schema(self) -> Json {
        match self {
            Self::Text => json!({ "type": "string", "pattern": "\\S" }),
            Self::Pattern(pattern) => json!({ "type": "string", "pattern": pattern }),
            Self::Boolean => json!({ "type": "boolean" }),
            Self::Number => json!({ "type": "integer", "minimum": 0 }),
            Self::Decimal => json!({ "type": "number" }),
            Self::Words(words) => json!({ "enum": words }),
        }
    }

    /// A default, as it would be written.
    pub(super) fn value(self, text: &str) -> Json {
        match self {
            Self::Boolean | Self::Number | Self::Decimal => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
            Self::Text | Self::Pattern(_) | Self::Words(_) => text.into(),
        }
    }
}
