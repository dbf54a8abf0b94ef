//! What a payload says about a point's owner, and the filters that ask for it. Pure.

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::facet_value::Variant;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{
    Condition, FieldCondition, Filter, IsEmptyCondition, Match, RepeatedIntegers, RepeatedStrings, Value, ValuesCount,
};

use crate::domain::ids::{CourseId, IdType};

/// How a payload spells course ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As strings.
    Text,
    /// As JSON integers.
    Number,
    /// As either; integer ids without an index to tell.
    Either,
}

/// Which points of a course.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that name it alone: what may be deleted (S5).
    Owned,
    /// Those that name others too.
    Shared,
    /// All.
    All,
}

/// What one value of the payload key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// The canonical id of a course.
    Course(CourseId),
    /// Something else, in words.
    Other(String),
}

/// Who a point belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// It names one course.
    One(CourseId),
    /// It has more than one value: these are the ids among them, once each, and the other values.
    Many(Vec<CourseId>, Vec<String>),
    /// It has one value, which is no id.
    Other(String),
    /// It has no value.
    Nobody,
}

impl Spelling {
    /// Reads a value that a facet listed.
    pub(super) fn of_facet(self, id_type: IdType, value: &Variant) -> Named {
        match value {
            Variant::StringValue(text) => self.text(id_type, text),
            Variant::IntegerValue(number) => self.number(id_type, *number),
            Variant::BoolValue(value) => Named::Other(value.to_string()),
        }
    }

    /// Reads the payload of one point at the key.
    pub(super) fn of_payload(self, id_type: IdType, value: Option<&Value>) -> Owner {
        let values = match value.and_then(|value| value.kind.as_ref()) {
            None | Some(Kind::NullValue(_)) => return Owner::Nobody,
            Some(Kind::ListValue(list)) => match list.values.as_slice() {
                [] => return Owner::Nobody,
                [one] => return Self::alone(self.named(id_type, one)),
                many => many,
            },
            Some(_) => return value.map_or(Owner::Nobody, |one| Self::alone(self.named(id_type, one))),
        };
        let (mut courses, mut others) = (Vec::new(), Vec::new());
        for value in values {
            match self.named(id_type, value) {
                Named::Course(course) => courses.push(course),
                Named::Other(text) => others.push(text),
            }
        }
        courses.sort_unstable();
        courses.dedup();
        Owner::Many(courses, others)
    }

    fn alone(named: Named) -> Owner {
        match named {
            Named::Course(course) => Owner::One(course),
            Named::Other(text) => Owner::Other(text),
        }
    }

    fn named(self, id_type: IdType, value: &Value) -> Named {
        match &value.kind {
            Some(Kind::StringValue(text)) => self.text(id_type, text),
            Some(Kind::IntegerValue(number)) => self.number(id_type, *number),
            Some(Kind::DoubleValue(number)) => Named::Other(number.to_string()),
            Some(Kind::BoolValue(value)) => Named::Other(value.to_string()),
            Some(Kind::StructValue(_)) => Named::Other("(an object)".to_owned()),
            Some(Kind::ListValue(_)) => Named::Other("(an array in an array)".to_owned()),
            None | Some(Kind::NullValue(_)) => Named::Other("null".to_owned()),
        }
    }

    fn text(self, id_type: IdType, text: &str) -> Named {
        let course = if self == Self::Number { None } else { id_type.parse(text.as_bytes()) };
        course.map_or_else(|| Named::Other(text.to_owned()), Named::Course)
    }

    fn number(self, id_type: IdType, number: i64) -> Named {
        match (id_type, self) {
            (IdType::Integer, Self::Number | Self::Either) => Named::Course(CourseId::Integer(number)),
            _ => Named::Other(number.to_string()),
        }
    }

    /// Any of these courses is among the values at the key.
    fn names(self, key: &str, courses: &[CourseId]) -> Condition {
        let texts =
            || MatchValue::Keywords(RepeatedStrings { strings: courses.iter().map(CourseId::to_string).collect() });
        let numbers =
            || MatchValue::Integers(RepeatedIntegers { integers: courses.iter().filter_map(integer).collect() });
        match self {
            Self::Text => matches(key, texts()),
            Self::Number => matches(key, numbers()),
            Self::Either => {
                let filter = Filter::should([matches(key, texts()), matches(key, numbers())]);
                Condition { condition_one_of: Some(ConditionOneOf::Filter(filter)) }
            }
        }
    }

    /// The points of any of these courses.
    pub(super) fn points(self, key: &str, which: Which, courses: &[CourseId]) -> Filter {
        let mut must = vec![self.names(key, courses)];
        match which {
            Which::Owned => must.push(values(key, ValuesCount { lt: Some(2), ..ValuesCount::default() })),
            Which::Shared => must.push(several(key)),
            Which::All => {}
        }
        Filter::must(must)
    }

    /// The points that have values at the key, but none of the type that the index holds: "any value except none" is
    /// answered by the index.
    pub(super) fn outside_the_index(self, key: &str) -> Filter {
        let any = match self {
            Self::Text | Self::Either => MatchValue::ExceptKeywords(RepeatedStrings::default()),
            Self::Number => MatchValue::ExceptIntegers(RepeatedIntegers::default()),
        };
        Filter::must_not([empty(key), matches(key, any)])
    }
}

/// The points without a value at the key.
pub(super) fn without_owner(key: &str) -> Filter {
    Filter::must([empty(key)])
}

fn several(key: &str) -> Condition {
    values(key, ValuesCount { gte: Some(2), ..ValuesCount::default() })
}

fn values(key: &str, values_count: ValuesCount) -> Condition {
    FieldCondition { key: key.to_owned(), values_count: Some(values_count), ..FieldCondition::default() }.into()
}

fn empty(key: &str) -> Condition {
    IsEmptyCondition { key: key.to_owned() }.into()
}

fn matches(key: &str, value: MatchValue) -> Condition {
    let r#match = Some(Match { match_value: Some(value) });
    FieldCondition { key: key.to_owned(), r#match, ..FieldCondition::default() }.into()
}

fn integer(course: &CourseId) -> Option<i64> {
    match course {
        CourseId::Integer(number) => Some(*number),
        CourseId::Uuid(_) | CourseId::Text(_) => None,
    }
}

/// The value at a dotted key in a point's payload.
pub(super) fn at<'a>(payload: &'a std::collections::HashMap<String, Value>, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let mut value = payload.get(parts.next()?)?;
    for part in parts {
        let Some(Kind::StructValue(object)) = &value.kind else { return None };
        value = object.fields.get(part)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::json;

    use super::*;

    const ID: &str = "0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d";
    const OTHER: &str = "1b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d";

    fn uuid(text: &str) -> CourseId {
        IdType::Uuid.parse(text.as_bytes()).unwrap()
    }

    fn payload(spelling: Spelling, id_type: IdType, value: serde_json::Value) -> Owner {
        spelling.of_payload(id_type, Some(&Value::from(value)))
    }

    #[test]
    fn s5_a_facet_value_is_an_id_only_in_its_canonical_form() {
        let facet = |spelling: Spelling, id_type, value| spelling.of_facet(id_type, &value);
        let text = |text: &str| Variant::StringValue(text.to_owned());
        assert_eq!(facet(Spelling::Text, IdType::Uuid, text(ID)), Named::Course(uuid(ID)));
        for bad in [ID.to_uppercase(), ID.replace('-', ""), format!("{{{ID}}}"), String::new(), "../../etc".to_owned()]
        {
            assert_eq!(facet(Spelling::Text, IdType::Uuid, text(&bad)), Named::Other(bad));
        }
        assert_eq!(facet(Spelling::Text, IdType::Uuid, Variant::IntegerValue(7)), Named::Other("7".to_owned()));
        let seven = Named::Course(CourseId::Integer(7));
        assert_eq!(facet(Spelling::Number, IdType::Integer, Variant::IntegerValue(7)), seven);
        assert_eq!(facet(Spelling::Text, IdType::Integer, text("7")), seven);
        assert_eq!(facet(Spelling::Text, IdType::Integer, text("07")), Named::Other("07".to_owned()));
        assert_eq!(facet(Spelling::Text, IdType::Uuid, Variant::BoolValue(true)), Named::Other("true".to_owned()));
    }

    #[test]
    fn s5_a_point_belongs_to_a_course_only_if_it_names_nothing_else() {
        let of = |value| payload(Spelling::Text, IdType::Uuid, value);
        assert_eq!(of(json!(ID)), Owner::One(uuid(ID)));
        assert_eq!(of(json!([ID])), Owner::One(uuid(ID)));
        assert_eq!(of(json!([OTHER, ID])), Owner::Many(vec![uuid(ID), uuid(OTHER)], vec![]));
        assert_eq!(of(json!([ID, ID])), Owner::Many(vec![uuid(ID)], vec![]));
        assert_eq!(of(json!([ID, "x", null])), Owner::Many(vec![uuid(ID)], vec!["x".to_owned(), "null".to_owned()]));
        assert_eq!(of(json!(["x"])), Owner::Other("x".to_owned()));
        assert_eq!(of(json!({ "id": ID })), Owner::Other("(an object)".to_owned()));
        assert_eq!(of(json!([[ID]])), Owner::Other("(an array in an array)".to_owned()));
        for nobody in [json!(null), json!([])] {
            assert_eq!(of(nobody), Owner::Nobody);
        }
        assert_eq!(Spelling::Text.of_payload(IdType::Uuid, None), Owner::Nobody);
    }

    #[test]
    fn integers_are_read_from_what_the_index_can_ask_for() {
        let seven = Owner::One(CourseId::Integer(7));
        for (spelling, text, number) in
            [(Spelling::Text, true, false), (Spelling::Number, false, true), (Spelling::Either, true, true)]
        {
            assert_eq!(payload(spelling, IdType::Integer, json!("7")) == seven, text);
            assert_eq!(payload(spelling, IdType::Integer, json!(7)) == seven, number);
            assert_eq!(payload(spelling, IdType::Integer, json!(7.5)), Owner::Other("7.5".to_owned()));
        }
    }

    #[test]
    fn a_dotted_key_leads_into_objects_only() {
        let payload = json!({ "meta": { "course": ID }, "list": [{ "course": ID }], "course": ID });
        let payload: HashMap<String, Value> =
            payload.as_object().unwrap().iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect();
        let value = Value::from(json!(ID));
        assert_eq!(at(&payload, "course"), Some(&value));
        assert_eq!(at(&payload, "meta.course"), Some(&value));
        for nowhere in ["meta.other", "list.course", "course.x", "other"] {
            assert_eq!(at(&payload, nowhere), None, "{nowhere}");
        }
    }
}
