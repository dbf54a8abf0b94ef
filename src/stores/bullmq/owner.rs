//! Whose a job is: what its data and its id say (S5). Pure.
//!
//! The owner is read strictly: where a pointer leads into the data, or where a template says that the id stands in the job's
//! id, the canonical text of an id must be written, byte for byte. A value there that is anything else (another spelling, a
//! fraction, an object) makes the job unrecognised: it names a course that we cannot tell. What else looks like an id anywhere
//! in the data or in the job's id is a mention.

use serde_json::Value;

use crate::domain::ids::{CourseId, IdType};
use crate::stores::template::{Parse, Template};

/// How to read whose a job is.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Where in the data the course's id may be: JSON pointers, as in `/courseId`.
    pub pointers: Vec<String>,
    /// Where in a job's id it may be.
    pub job_ids: Vec<Template>,
    /// The type of course ids.
    pub id_type: IdType,
}

/// Whom a job names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Whose it is: the first id that a pointer leads to, or else the one in its own id.
    pub owner: CourseId,
    /// All the others, each once; all of them must be dead too.
    pub mentions: Vec<CourseId>,
}

impl Named {
    /// Everybody who is named.
    pub fn all(&self) -> impl Iterator<Item = CourseId> + '_ {
        std::iter::once(self.owner).chain(self.mentions.iter().copied())
    }
}

impl Reading {
    /// Whom a job of this id and these data (JSON, as BullMQ keeps them; `None` if it has none) names; `None` if nobody can
    /// tell.
    pub fn read(&self, job_id: &[u8], data: Option<&[u8]>) -> Option<Named> {
        let mut ids = Vec::new();
        let mut mentions = self.id_type.mentions(job_id);
        if let Some(data) = data {
            let json: Value = serde_json::from_slice(data).ok()?;
            for pointer in &self.pointers {
                self.values(json.pointer(pointer), data, &mut ids)?;
            }
            mentions.extend(self.id_type.mentions(data));
            self.texts(&json, &mut mentions);
        }
        for template in &self.job_ids {
            match template.parse(self.id_type, job_id) {
                Parse::Id(id) => ids.push(id),
                Parse::Ambiguous => return None,
                Parse::NoMatch | Parse::NoId => {}
            }
        }
        let owner = *ids.first()?;
        mentions.extend(ids);
        Some(Named { owner, mentions: owner.others(mentions) })
    }

    /// Adds the ids that a pointer led to. `None` if something else is there.
    fn values(&self, value: Option<&Value>, data: &[u8], ids: &mut Vec<CourseId>) -> Option<()> {
        match value {
            None | Some(Value::Null) => {}
            Some(Value::Array(values)) => {
                for value in values {
                    ids.push(self.id(value, data)?);
                }
            }
            Some(value) => ids.push(self.id(value, data)?),
        }
        Some(())
    }

    fn id(&self, value: &Value, data: &[u8]) -> Option<CourseId> {
        let id = match (value, self.id_type) {
            (Value::String(text), id_type) => id_type.parse(text.as_bytes())?,
            (Value::Number(number), IdType::Integer) => CourseId::Integer(number.as_i64()?),
            _ => return None,
        };
        // JSON can write the same text in several ways, a number as well; only one of them is canonical.
        let text = match value {
            Value::String(_) => format!("\"{id}\""),
            _ => id.to_string(),
        };
        data.windows(text.len()).any(|window| window == text.as_bytes()).then_some(id)
    }

    /// Adds what all texts mention, names of fields included: JSON may hide an id from who looks at its bytes.
    fn texts(&self, value: &Value, mentions: &mut Vec<CourseId>) {
        match value {
            Value::String(text) => mentions.extend(self.id_type.mentions(text.as_bytes())),
            Value::Array(values) => values.iter().for_each(|value| self.texts(value, mentions)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    mentions.extend(self.id_type.mentions(name.as_bytes()));
                    self.texts(value, mentions);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const A: &str = "0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d";
    const B: &str = "1c5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d";

    fn uuid(text: &str) -> CourseId {
        CourseId::Uuid(Uuid::parse_str(text).unwrap())
    }

    fn reading(id_type: IdType) -> Reading {
        Reading {
            pointers: vec!["/courseId".into(), "/course_id".into(), "/in/deep".into()],
            job_ids: vec![
                Template::compile("auto-{course_id}-stage*").unwrap(),
                Template::compile("*:{course_id}").unwrap(),
            ],
            id_type,
        }
    }

    fn read(job_id: &str, data: &str) -> Option<(CourseId, Vec<CourseId>)> {
        let named = reading(IdType::Uuid).read(job_id.as_bytes(), Some(data.as_bytes()))?;
        Some((named.owner, named.mentions))
    }

    fn integers(job_id: &str, data: &str) -> Option<(i64, Vec<i64>)> {
        let named = reading(IdType::Integer).read(job_id.as_bytes(), Some(data.as_bytes()))?;
        let number = |id| match id {
            CourseId::Integer(n) => n,
            CourseId::Uuid(_) | CourseId::Text(_) => panic!("no integer"),
        };
        Some((number(named.owner), named.mentions.into_iter().map(number).collect()))
    }

    #[test]
    fn a_job_is_whose_its_data_say_or_else_its_id() {
        let alone = Some((uuid(A), vec![]));
        assert_eq!(read("7", &format!(r#"{{"courseId":"{A}"}}"#)), alone);
        assert_eq!(read("7", &format!(r#"{{"course_id":["{A}","{A}"],"n":1}}"#)), alone);
        assert_eq!(read("7", &format!(r#"{{"in":{{"deep":"{A}"}}}}"#)), alone);
        assert_eq!(read(&format!("auto-{A}-stage2"), "{}"), alone);
        assert_eq!(read(&format!("auto-{A}-stage6-lesson-x"), &format!(r#"{{"courseId":"{A}"}}"#)), alone);
        assert_eq!(reading(IdType::Uuid).read(format!("auto-{A}-stage2").as_bytes(), None).unwrap().owner, uuid(A));
        assert_eq!(integers("1", r#"{"courseId":7}"#), Some((7, vec![])));
        assert_eq!(integers("1", r#"{"courseId":"-7"}"#), Some((-7, vec![])));
        assert_eq!(integers("auto-7-stage2", "{}"), Some((7, vec![])), "and 2 is no course");
    }

    #[test]
    fn s5_whoever_else_is_named_is_mentioned() {
        let both = Some((uuid(A), vec![uuid(B)]));
        assert_eq!(read("7", &format!(r#"{{"courseId":["{A}","{B}"]}}"#)), both);
        assert_eq!(read("7", &format!(r#"{{"courseId":"{A}","course_id":"{B}"}}"#)), both);
        assert_eq!(read(&format!("auto-{B}-stage2"), &format!(r#"{{"courseId":"{A}"}}"#)), both);
        assert_eq!(read(&format!("x{}", B.to_uppercase()), &format!(r#"{{"courseId":"{A}"}}"#)), both);
        assert_eq!(read("7", &format!(r#"{{"courseId":"{A}","path":"uploads/{B}/x"}}"#)), both);
        assert_eq!(read("7", &format!(r#"{{"courseId":"{A}","{B}":1}}"#)), both);
        let hidden = B.replacen('1', "\\u0031", 1);
        assert_eq!(read("7", &format!(r#"{{"courseId":"{A}","x":["{hidden}"]}}"#)), both);
        assert_eq!(integers("1", r#"{"courseId":[7,8],"course_id":9}"#), Some((7, vec![8, 9])));
        assert_eq!(integers("auto-8-stage2", r#"{"courseId":7}"#), Some((7, vec![8])));
    }

    #[test]
    fn s5_what_is_written_otherwise_names_nobody() {
        let id = format!("auto-{A}-stage2");
        for value in ["\"\"", "7", "true", "{}", "[[]]", "\"x\"", "[null]"] {
            assert_eq!(
                read(&id, &format!(r#"{{"courseId":{value}}}"#)),
                None,
                "{value} is a course that we cannot tell"
            );
        }
        for other in [A.to_uppercase(), A.replace('-', ""), format!("{A} "), A.replacen('0', "\\u0030", 1)] {
            assert_eq!(read("7", &format!(r#"{{"courseId":"{other}"}}"#)), None, "{other}");
        }
        for data in ["", "{", "{}", "[]", "null", r#"{"other":"x"}"#, r#"{"courseId":null}"#, r#"{"courseId":[]}"#] {
            assert_eq!(read("7", data), None, "{data}");
        }
        assert_eq!(read(&id, "{"), None, "what cannot be read may name anybody");
        for value in ["7.0", "7e0", "-0", "\"07\"", "\"+7\"", "9223372036854775808", "\"7 \""] {
            assert_eq!(integers("1", &format!(r#"{{"courseId":{value}}}"#)), None, "{value}");
        }
        assert_eq!(read(&format!("x{A}:{A}:{B}"), "{}"), Some((uuid(B), vec![uuid(A)])));
    }
}
