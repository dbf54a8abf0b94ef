//! The documented example, made from the sections' declarations, and the report of what is in
//! effect.

use std::fmt::Write;

use super::Loaded;
use super::model::Config;
use super::problem::Origin;
use super::read::{FieldDoc, Shape, default_items};
use super::section::Section;

const HEAD: &str = "\
# The configuration of course-gc: every field, with its default or an example, and what it means.
#
# Each value can come from the environment too, and then replaces what stands here. The variable's
# name is COURSE_GC_ and the path in upper case, such as COURSE_GC_LIMITS_REFUSE_DROP,
# COURSE_GC_STORES_VECTORS_URL or COURSE_GC_STORES_CACHE_TEMPLATES_0.
#
# Secrets do not belong in this file: give them by such a variable, or name a file that holds the
# secret alone (url_file, api_key_file). A relative path of one starts at this file's folder.
";

/// A configuration with every field, documented: that of a course platform with one database, its
/// vectors, its cache and its uploads.
pub fn example() -> String {
    let mut out = HEAD.to_owned();
    fields(&mut out, Config::FIELDS, "", "");
    out
}

/// What is in effect, a line for each value: its path, itself (secrets as `***`) and its origin.
pub fn check_report(loaded: &Loaded) -> String {
    let rows: Vec<[String; 3]> = loaded
        .effective
        .iter()
        .filter_map(|effective| {
            let value = effective.value.as_ref()?;
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            let origin = match (&effective.origin, &effective.secret_file) {
                (Origin::Default, _) => "default".to_owned(),
                (origin, None) => origin.place(&loaded.file),
                (origin, Some(file)) => format!("{}, named at {}", file.display(), origin.place(&loaded.file)),
            };
            Some([effective.path.clone(), value, origin])
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (paths, values) = (width(0), width(1).min(60));
    let mut out = format!("{}: ok\n\n", loaded.file);
    for [path, value, origin] in &rows {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{path:paths$}  {value:values$}  {origin}");
    }
    out
}

/// Writes a section's fields; `path` joins the names above them with `_`.
fn fields(out: &mut String, list: &[FieldDoc], indent: &str, path: &str) {
    for field in list {
        if indent.is_empty() {
            out.push('\n');
        }
        comment(out, field.doc, indent);
        value(out, field, indent, &format!("{path}{}", field.name));
    }
}

fn comment(out: &mut String, doc: &[&str], indent: &str) {
    for line in doc {
        let _ = writeln!(out, "{indent}#{line}");
    }
}

fn value(out: &mut String, field: &FieldDoc, indent: &str, path: &str) {
    let FieldDoc { name, shape, example, .. } = field;
    let (off, shown) = match field.mention {
        Some(mention) => ("# ", Some(mention)),
        None => ("", field.default.or(*example)),
    };
    let inner = format!("{indent}  ");
    let below = format!("{path}_");
    let _ = match shape {
        Shape::Scalar(_) => writeln!(out, "{indent}{off}{name}: {}", quoted(shown.unwrap_or_default())),
        Shape::Secret { .. } => {
            if let Some(shown) = shown {
                let _ = writeln!(out, "{indent}{off}{name}: {}", quoted(shown));
            }
            writeln!(out, "{indent}# {name}_file: /run/secrets/{path}")
        }
        Shape::Section { fields: list, .. } => {
            let mut section = format!("{indent}{name}:\n");
            fields(&mut section, list, &inner, &below);
            // What is only mentioned is off, all of it.
            section.lines().try_for_each(|line| match line.strip_prefix(indent) {
                Some(line) if !off.is_empty() => writeln!(out, "{indent}{off}{line}"),
                _ => writeln!(out, "{line}"),
            })
        }
        Shape::List(item) => match (item, example) {
            (Shape::Section { fields: list, .. }, Some(example)) => {
                let _ = writeln!(out, "{indent}{name}:");
                items(out, list, example, &inner);
                Ok(())
            }
            _ => match default_items(field.default.unwrap_or_default()).collect::<Vec<_>>()[..] {
                [] => writeln!(out, "{indent}{name}: []"),
                ref items => {
                    let _ = writeln!(out, "{indent}{name}:");
                    items.iter().try_for_each(|item| writeln!(out, "{inner}- {}", quoted(item)))
                }
            },
        },
        Shape::Map(item) => {
            let _ = writeln!(out, "{indent}{name}:");
            match item {
                Shape::Kinds(kinds) => {
                    for kind in *kinds {
                        let _ = writeln!(out, "{inner}{}:\n{inner}  kind: {}", kind.example, kind.name);
                        fields(out, kind.fields, &format!("{inner}  "), &format!("{below}{}_", kind.example));
                    }
                }
                Shape::Section { fields: list, .. } => {
                    let entry = example.unwrap_or("name");
                    let _ = writeln!(out, "{inner}{entry}:");
                    fields(out, list, &format!("{inner}  "), &format!("{below}{entry}_"));
                }
                _ => {}
            }
            Ok(())
        }
        Shape::Kinds(_) => Ok(()),
    };
}

/// Writes a list of sections: the first with all its fields, the others as scalars.
fn items(out: &mut String, list: &[FieldDoc], example: &str, indent: &str) {
    let mut lines = example.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    for (index, field) in list.iter().enumerate() {
        comment(out, field.doc, &format!("{indent}{}", if index == 0 { "" } else { "  " }));
        let shown = if index == 0 { first } else { field.default.or(field.example).unwrap_or_default() };
        let (dash, shown) = match field.mention {
            Some(mention) => ("  # ", mention),
            None if index == 0 => ("- ", shown),
            None => ("  ", shown),
        };
        let _ = writeln!(out, "{indent}{dash}{}: {}", field.name, quoted(shown));
    }
    for line in lines {
        let _ = writeln!(out, "{indent}- {}", quoted(line));
    }
}

/// A scalar as YAML: plain where that is safe.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.contains(['{', '"', '\\'])
        && !text.ends_with(':');
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}
