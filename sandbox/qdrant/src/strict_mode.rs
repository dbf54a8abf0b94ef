//! Strict mode: what a collection's settings refuse, in a Qdrant server's words and order.
//!
//! Enforced: `max_query_limit`, `max_timeout`, `upsert_max_batchsize`, `filter_max_conditions`,
//! `condition_max_size`, `unindexed_filtering_retrieve`, `unindexed_filtering_update`,
//! `search_allow_exact`, and substring matches. The other settings are kept and shown, not
//! enforced: sizes of storage, rates, searches.

use std::collections::{BTreeSet, HashMap};

use qdrant_client::qdrant::StrictModeConfig;
use qdrant_edge::{
    AnyVariants, Condition, FieldCondition, Filter, JsonPath, Match, PayloadFieldSchema, PayloadSchemaParams,
    PayloadSchemaType, RangeInterface, ValueVariants,
};
use uuid::Uuid;

use crate::collection::Collection;
use crate::error::Error;

/// What of a request strict mode looks at.
#[derive(Default)]
pub struct Checked<'a> {
    /// How many results are asked for, defaults applied.
    pub limit: Option<u64>,
    /// In seconds, if the request sets one.
    pub timeout: Option<u64>,
    /// The filter and whether it reads or writes.
    pub filter: Option<(&'a Filter, Access)>,
    /// Whether the request asks for exact counts.
    pub exact: bool,
    /// How many points are written.
    pub upserts: Option<u64>,
}

/// Which of the two settings about unindexed fields holds for a filter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `unindexed_filtering_retrieve`.
    Read,
    /// `unindexed_filtering_update`.
    Write,
}

/// Refuses what the collection's strict mode does not allow.
pub fn check(collection: &Collection, request: &Checked<'_>) -> Result<(), Error> {
    let Some(config) = collection.strict_mode() else {
        return Ok(());
    };
    check_limit(request.timeout, config.max_timeout.map(u64::from), "timeout")?;
    check_limit(request.upserts, config.upsert_max_batchsize, "upsert limit")?;
    check_limit(request.limit, config.max_query_limit.map(u64::from), "limit")?;
    if let Some((filter, access)) = request.filter {
        check_size(filter, &config)?;
        let unindexed_allowed = match access {
            Access::Read => config.unindexed_filtering_retrieve,
            Access::Write => config.unindexed_filtering_update,
        };
        if unindexed_allowed == Some(false) {
            check_indexed(None, filter, &collection.indexes()?)?;
        }
    }
    if request.exact && config.search_allow_exact == Some(false) {
        return Err(Error::strict_mode("Exact search disabled!", "Set exact=false."));
    }
    Ok(())
}

fn check_limit(value: Option<u64>, limit: Option<u64>, name: &str) -> Result<(), Error> {
    match (value, limit) {
        (Some(value), Some(limit)) if value > limit => Err(Error::strict_mode(
            &format!("Limit exceeded {value} > {limit} for \"{name}\""),
            &format!("Reduce the \"{name}\" parameter to or below {limit}."),
        )),
        _ => Ok(()),
    }
}

fn check_size(filter: &Filter, config: &StrictModeConfig) -> Result<(), Error> {
    if let Some(key) = filter.one_substring_match_key() {
        return Err(Error::strict_mode(
            &format!(
                "Substring matching is not allowed, used for \"{key}\": it scans every value of \
                 the field, with or without an index"
            ),
            "Use a prefix match or a full-text match instead.",
        ));
    }
    let conditions = filter.total_conditions_count() as u64;
    if let Some(limit) = config.filter_max_conditions.filter(|limit| conditions > *limit) {
        return Err(Error::strict_mode(
            &format!("Filter condition limit reached ({conditions} > {limit})"),
            "Reduce the amount of conditions of your filter.",
        ));
    }
    let size = filter.max_condition_input_size() as u64;
    if let Some(limit) = config.condition_max_size.filter(|limit| size > *limit) {
        return Err(Error::strict_mode(
            &format!("Condition size limit reached ({size} > {limit})"),
            "Reduce the size of your condition.",
        ));
    }
    Ok(())
}

type Indexes = HashMap<JsonPath, PayloadFieldSchema>;

fn check_indexed(prefix: Option<&JsonPath>, filter: &Filter, indexes: &Indexes) -> Result<(), Error> {
    for condition in filter.iter_conditions() {
        let (key, usable) = match condition {
            Condition::Field(field) => (&field.key, usable_for_field(field)),
            // The null index beside an index of any kind serves these.
            Condition::IsEmpty(empty) => (&empty.is_empty.key, ANY_INDEX.to_vec()),
            Condition::IsNull(null) => (&null.is_null.key, ANY_INDEX.to_vec()),
            Condition::Filter(filter) => {
                check_indexed(prefix, filter, indexes)?;
                continue;
            }
            Condition::Nested(nested) => {
                let array = JsonPath::extend_or_new(prefix, &nested.array_key());
                check_indexed(Some(&array), nested.filter(), indexes)?;
                continue;
            }
            Condition::HasId(_) | Condition::HasVector(_) | Condition::Slice(_) | Condition::CustomIdChecker(_) => {
                continue;
            }
        };
        let key = JsonPath::extend_or_new(prefix, key);
        let indexed = indexes.get(&key).is_some_and(|schema| {
            let abilities = abilities(schema);
            usable.iter().any(|ability| abilities.contains(ability))
        });
        // A condition that no index could serve better, such as an empty `any`, needs none.
        if !indexed && !usable.is_empty() {
            let names: BTreeSet<_> = usable.into_iter().map(Ability::name).collect();
            let names: Vec<_> = names.into_iter().collect();
            return Err(Error::strict_mode(
                &format!(
                    "Index required but not found for \"{key}\" of one of the following types: \
                     [{}]",
                    names.join(", ")
                ),
                "Create an index for this key or use a different filter.",
            ));
        }
    }
    Ok(())
}

/// What an index can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ability {
    IntegerMatch,
    IntegerRange,
    Keyword,
    KeywordPrefix,
    Float,
    Text,
    TextPhrase,
    Bool,
    Uuid,
    Datetime,
    Geo,
}

const ANY_INDEX: [Ability; 11] = [
    Ability::IntegerMatch,
    Ability::IntegerRange,
    Ability::Keyword,
    Ability::KeywordPrefix,
    Ability::Float,
    Ability::Text,
    Ability::TextPhrase,
    Ability::Bool,
    Ability::Uuid,
    Ability::Datetime,
    Ability::Geo,
];

impl Ability {
    /// The index to create for it, as the refusal names it.
    fn name(self) -> &'static str {
        match self {
            Self::IntegerMatch | Self::IntegerRange => "integer",
            Self::Keyword => "keyword",
            Self::KeywordPrefix => "keyword (with prefix: true)",
            Self::Float => "float",
            Self::Text => "text",
            Self::TextPhrase => "text (with phrase_matching: true)",
            Self::Bool => "bool",
            Self::Uuid => "uuid",
            Self::Datetime => "datetime",
            Self::Geo => "geo",
        }
    }
}

/// Any one of these serves the condition; none at all means that it needs no index.
fn usable_for_field(field: &FieldCondition) -> Vec<Ability> {
    let mut usable = Vec::new();
    if let Some(wanted) = &field.r#match {
        usable.extend(usable_for_match(wanted));
    }
    match field.range {
        Some(RangeInterface::Float(_)) => usable.extend([Ability::Float, Ability::IntegerRange]),
        Some(RangeInterface::DateTime(_)) => usable.push(Ability::Datetime),
        None => {}
    }
    if field.values_count.is_some() || field.is_empty.is_some() || field.is_null.is_some() {
        usable.extend(ANY_INDEX);
    }
    usable
}

fn usable_for_match(wanted: &Match) -> Vec<Ability> {
    match wanted {
        Match::Value(value) => match &value.value {
            ValueVariants::String(text) => for_texts([text]),
            ValueVariants::Integer(_) => vec![Ability::IntegerMatch],
            ValueVariants::Bool(_) => vec![Ability::Bool],
        },
        Match::Any(any) => for_list(&any.any),
        Match::Except(except) => for_list(&except.except),
        Match::Text(_) | Match::TextAny(_) => vec![Ability::Text],
        Match::Phrase(_) => vec![Ability::TextPhrase],
        Match::Prefix(_) => vec![Ability::KeywordPrefix],
        // Refused before indexes are looked at.
        Match::Substring(_) => Vec::new(),
    }
}

fn for_list(list: &AnyVariants) -> Vec<Ability> {
    match list {
        AnyVariants::Strings(texts) if !texts.is_empty() => for_texts(texts),
        AnyVariants::Integers(integers) if !integers.is_empty() => vec![Ability::IntegerMatch],
        _ => Vec::new(),
    }
}

/// A uuid index serves strings if all of them are uuids.
fn for_texts<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<Ability> {
    if texts.into_iter().all(|text| Uuid::parse_str(text).is_ok()) {
        vec![Ability::Uuid, Ability::Keyword]
    } else {
        vec![Ability::Keyword]
    }
}

fn abilities(schema: &PayloadFieldSchema) -> Vec<Ability> {
    match schema {
        PayloadFieldSchema::FieldParams(PayloadSchemaParams::Keyword(params)) => {
            let prefix = params.prefix.unwrap_or_default();
            let mut abilities = vec![Ability::Keyword];
            abilities.extend(prefix.then_some(Ability::KeywordPrefix));
            abilities
        }
        PayloadFieldSchema::FieldParams(PayloadSchemaParams::Integer(params)) => {
            let lookup = params.lookup.unwrap_or(true);
            let range = params.range.unwrap_or(true);
            let mut abilities = Vec::new();
            abilities.extend(lookup.then_some(Ability::IntegerMatch));
            abilities.extend(range.then_some(Ability::IntegerRange));
            abilities
        }
        PayloadFieldSchema::FieldParams(PayloadSchemaParams::Text(params)) => {
            let phrases = params.phrase_matching.unwrap_or_default();
            let mut abilities = vec![Ability::Text];
            abilities.extend(phrases.then_some(Ability::TextPhrase));
            abilities
        }
        other => match other.kind() {
            PayloadSchemaType::Keyword => vec![Ability::Keyword],
            PayloadSchemaType::Integer => vec![Ability::IntegerMatch, Ability::IntegerRange],
            PayloadSchemaType::Float => vec![Ability::Float],
            PayloadSchemaType::Geo => vec![Ability::Geo],
            PayloadSchemaType::Text => vec![Ability::Text],
            PayloadSchemaType::Bool => vec![Ability::Bool],
            PayloadSchemaType::Datetime => vec![Ability::Datetime],
            PayloadSchemaType::Uuid => vec![Ability::Uuid],
        },
    }
}
