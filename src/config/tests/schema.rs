//! The schema and the reader judge alike, as far as a schema can. It is judged by a validator of its own kind.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Map, Value as Json, json};

use super::*;
use crate::config::read::default_items;
use crate::config::schema::Form;

/// Prints what is wrong with each instance.
const VALIDATE: &str = "\
import json, sys, jsonschema
it = json.load(sys.stdin)
jsonschema.Draft7Validator.check_schema(it['schema'])
validator = jsonschema.Draft7Validator(it['schema'])
json.dump([[error.message for error in validator.iter_errors(one)] for one in it['instances']], sys.stdout)";

/// What the schema says is wrong with each.
fn judged(instances: &[&Json]) -> Vec<Vec<String>> {
    judged_by(&schema(), instances)
}

fn judged_by(schema: &Json, instances: &[&Json]) -> Vec<Vec<String>> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("sandbox/.venv/bin/python");
    assert!(python.is_file(), "jsonschema is not in sandbox/.venv: `make setup` prepares it");
    let mut validator = Command::new(python);
    validator.args(["-c", VALIDATE]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut validator = validator.spawn().unwrap();
    let asked = json!({ "schema": schema, "instances": instances }).to_string();
    validator.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
    let answer = validator.wait_with_output().unwrap();
    assert!(answer.status.success());
    serde_json::from_slice(&answer.stdout).unwrap()
}

/// A configuration with every field that there is, in its long form.
fn full(fields: &[FieldDoc]) -> Json {
    let field = |field: &FieldDoc| {
        let text = field.default.or(field.example).or(field.mention);
        let value = match field.shape {
            Shape::Scalar(form) => form.value(text.filter(|text| !text.is_empty())?),
            Shape::Secret { in_file: true } => text?.into(),
            Shape::Secret { in_file: false } => return None,
            Shape::Section { fields, .. } => full(fields),
            Shape::Kinds(_) => panic!("kinds are a map's"),
            Shape::List(Shape::Section { fields, .. }) => {
                let short = default_items(text.unwrap_or_default()).skip(1).map(Json::from);
                [full(fields)].into_iter().chain(short).collect()
            }
            Shape::List(Shape::Scalar(form)) => {
                default_items(text.unwrap_or_default()).map(|it| form.value(it)).collect()
            }
            Shape::List(_) => json!([]),
            Shape::Map(Shape::Kinds(kinds)) => {
                let each = kinds.iter().map(|kind| {
                    let mut store = full(kind.fields);
                    store["kind"] = kind.name.into();
                    (kind.example.to_owned(), store)
                });
                Json::Object(each.collect())
            }
            Shape::Map(Shape::Section { fields, .. }) => json!({ text.unwrap_or("name"): full(fields) }),
            Shape::Map(_) => panic!("a map of something else"),
        };
        Some((field.name.to_owned(), value))
    };
    Json::Object(fields.iter().filter_map(field).collect::<Map<_, _>>())
}

/// [`full`], without what cannot be said together.
fn everything() -> Json {
    let mut all = full(Config::FIELDS);
    for (section, field) in [("/api/jwt", "jwks_url"), ("/stores/cache", "ca"), ("/stores/jobs", "ca")] {
        all.pointer_mut(section).unwrap().as_object_mut().unwrap().shift_remove(field).unwrap();
    }
    all["api"]["jwt"]["read_roles"] = json!(["teacher"]);
    all
}

fn reads(instance: &Json) -> bool {
    read(&instance.to_string(), &[]).is_ok()
}

/// Every place in an instance, as a JSON pointer.
fn places(instance: &Json, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match instance {
        Json::Object(fields) => fields.iter().for_each(|(name, inner)| places(inner, &format!("{at}/{name}"), found)),
        Json::Array(items) => {
            items.iter().enumerate().for_each(|(n, inner)| places(inner, &format!("{at}/{n}"), found))
        }
        _ => {}
    }
}

fn with(instance: &Json, place: &str, value: Json) -> Json {
    let mut changed = instance.clone();
    *changed.pointer_mut(place).unwrap() = value;
    changed
}

#[test]
fn every_configuration_of_the_repository_keeps_to_the_schema() {
    let yaml = |text: &str| serde_saphyr::from_str::<Json>(text).unwrap();
    let readme = include_str!("../../../README.md").split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let addresses = sandbox::Addresses {
        postgres: "postgres://db/campus".to_owned(),
        redis: "redis://cache/0".to_owned(),
        qdrant: "http://vectors:6334".to_owned(),
        qdrant_api_key: None,
        alias: "courses".to_owned(),
        files: "/data".into(),
        objects: Some("http://s3".to_owned()),
    };
    let settings =
        sandbox::config::Settings { tombstoned: Some("1m".to_owned()), exclusive: true, ..Default::default() };
    let campus = sandbox::config::file(&addresses, &settings);
    let all = [&example(), LEAST, readme, &campus].map(yaml);
    let wrong = judged(&all.iter().collect::<Vec<_>>());
    assert_eq!(wrong, vec![Vec::<String>::new(); all.len()]);
}

#[test]
fn what_the_reader_knows_the_schema_knows_and_what_one_refuses_the_other_does() {
    let all = everything();
    read(&all.to_string(), &[]).unwrap();
    assert_eq!(judged(&[&all]), [Vec::<String>::new()]);

    let mut found = Vec::new();
    places(&all, "", &mut found);
    assert!(found.len() > 150, "{}", found.len());
    let mut wrong: Vec<(String, Json)> = Vec::new();
    for place in found.iter().skip(1) {
        let value = all.pointer(place).unwrap();
        match value {
            Json::Object(fields) => {
                wrong.push((format!("a list in place of the section {place}"), with(&all, place, json!([]))));
                let mut more = fields.clone();
                more.insert("no_such_field".to_owned(), json!("x"));
                wrong.push((format!("a field too many in {place}"), with(&all, place, Json::Object(more))));
            }
            Json::Array(_) => {
                wrong.push((format!("a section in place of the list {place}"), with(&all, place, json!({}))))
            }
            _ => {
                wrong.push((format!("a list in place of {place}"), with(&all, place, json!([]))));
                wrong.push((format!("a blank in place of {place}"), with(&all, place, json!(" "))));
            }
        }
    }
    let schemas = judged(&wrong.iter().map(|(_, instance)| instance).collect::<Vec<_>>());
    for ((what, instance), said) in wrong.iter().zip(schemas) {
        assert!(!reads(instance), "the reader takes {what}");
        assert!(!said.is_empty(), "the schema takes {what}");
    }
}

#[test]
fn what_may_be_absent_may_be_so_for_both_but_for_secrets_that_the_environment_may_give() {
    let all = everything();
    let mut found = Vec::new();
    places(&all, "", &mut found);
    let (mut lacking, mut required) = (Vec::new(), 0);
    for place in &found {
        let Some((above, name)) = place.rsplit_once('/') else { continue };
        let mut without = all.clone();
        if let Some(fields) = without.pointer_mut(above).and_then(Json::as_object_mut) {
            fields.shift_remove(name).unwrap();
            lacking.push((place, without));
        }
    }
    let schemas = judged(&lacking.iter().map(|(_, instance)| instance).collect::<Vec<_>>());
    for ((place, instance), said) in lacking.iter().zip(schemas) {
        let is_missing = match read(&instance.to_string(), &[]) {
            Ok(_) => false,
            // What must fit together is not the schema's.
            Err(errors) => errors.lines().any(|line| line.contains("is missing") || line.contains("has no entry")),
        };
        let is_secret = place.ends_with("/url");
        assert_eq!(!said.is_empty(), is_missing && !is_secret, "without {place}: {said:?}");
        required += usize::from(!said.is_empty());
    }
    assert!(required > 15, "{required}");
}

#[test]
fn a_form_says_of_a_text_what_its_parser_says() {
    fn check<T: crate::config::scalar::Scalar>(good: &[&str], bad: &[&str]) {
        let wrap = |text: &&str| {
            let value = match T::FORM {
                Form::Boolean | Form::Number | Form::Decimal => {
                    serde_json::from_str(text).unwrap_or_else(|_| (*text).into())
                }
                _ => Json::from(*text),
            };
            json!({ "form": value })
        };
        let all: Vec<Json> = good.iter().chain(bad).map(wrap).collect();
        let of_field = json!({ "type": "object", "properties": { "form": T::FORM.schema() } });
        let said = judged_by(&of_field, &all.iter().collect::<Vec<_>>());
        for (at, text) in good.iter().chain(bad).enumerate() {
            let is_good = at < good.len();
            assert_eq!((T::parse(text).is_ok(), said[at].is_empty()), (is_good, is_good), "`{text}`: {:?}", said[at]);
        }
    }
    check::<Percent>(&["0%", "20%", "100%", "51 %", "007%"], &["", "20", "101%", "-1%", "2.5%", "%", "200%"]);
    check::<ByteSize>(&["50GB", "5 MiB", "0B", "12tb", "1kb"], &["", "50", "GB", "1.5GB", "5 XB", "-1B", "1 i B"]);
    check::<Duration>(&["10s", "15m", "24h", "7d", "1h 30m", "0s", "100ms"], &["", "soon", "-5m", "s"]);
    check::<bool>(&["true", "false"], &["", "yes", "1"]);
    check::<u32>(&["0", "1000"], &["", "-1", "1.5", "many"]);
    check::<LogFormat>(&["text", "json"], &["xml"]);
    check::<tracing::Level>(&["error", "warn", "info", "debug", "trace"], &["", "loud"]);
    check::<std::net::SocketAddr>(
        &["127.0.0.1:9090", "[::]:8080", "0.0.0.0:0"],
        &["", "9090", "localhost:9090", "127.0.0.1"],
    );
    check::<Cron>(&["*/15 * * * *", "0 30 2 * * *", "30 2 * * MON-FRI"], &["", "daily", "* * * *", "0 0 0 1 1 * 2020"]);
    check::<String>(&["x", " x "], &["", " "]);
}
