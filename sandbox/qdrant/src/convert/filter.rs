//! Filters.

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue as Wanted;
use qdrant_client::qdrant::{self as grpc};
use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    AnyVariants, Condition, FieldCondition, Filter, HasIdCondition, HasVectorCondition, IsEmptyCondition,
    IsNullCondition, Match, MatchAny, MatchExcept, MatchTextAny, MinShould, Nested, NestedCondition, Range,
    RangeInterface, ValuesCount,
};

use super::{json_path, point_ids};
use crate::error::Error;

/// A filter; geographic, date and slice conditions are refused.
pub fn to_engine(filter: grpc::Filter) -> Result<Filter, Error> {
    let min_should = filter
        .min_should
        .map(|group| {
            Ok::<_, Error>(MinShould {
                conditions: conditions(group.conditions)?.unwrap_or_default(),
                min_count: group.min_count as usize,
            })
        })
        .transpose()?;
    Ok(Filter {
        should: conditions(filter.should)?,
        min_should,
        must: conditions(filter.must)?,
        must_not: conditions(filter.must_not)?,
    })
}

/// No conditions are no list of conditions.
fn conditions(conditions: Vec<grpc::Condition>) -> Result<Option<Vec<Condition>>, Error> {
    if conditions.is_empty() {
        return Ok(None);
    }
    conditions.into_iter().map(condition).collect::<Result<_, _>>().map(Some)
}

fn condition(condition: grpc::Condition) -> Result<Condition, Error> {
    let condition = condition.condition_one_of.ok_or_else(|| Error::missing("Condition"))?;
    Ok(match condition {
        ConditionOneOf::Field(field) => Condition::Field(field_condition(field)?),
        ConditionOneOf::IsEmpty(empty) => Condition::IsEmpty(IsEmptyCondition::from(json_path(&empty.key)?)),
        ConditionOneOf::IsNull(null) => Condition::IsNull(IsNullCondition::from(json_path(&null.key)?)),
        ConditionOneOf::HasId(ids) => Condition::HasId(point_ids(ids.has_id)?.into_iter().collect::<HasIdCondition>()),
        ConditionOneOf::HasVector(vector) => Condition::HasVector(HasVectorCondition::from(vector.has_vector)),
        ConditionOneOf::Filter(filter) => Condition::Filter(to_engine(filter)?),
        ConditionOneOf::Nested(nested) => Condition::Nested(NestedCondition::new(Nested {
            key: json_path(&nested.key)?,
            filter: to_engine(nested.filter.ok_or_else(|| Error::missing("Nested filter"))?)?,
        })),
        ConditionOneOf::Slice(_) => {
            return Err(Error::Unimplemented("slice conditions".to_owned()));
        }
    })
}

fn field_condition(field: grpc::FieldCondition) -> Result<FieldCondition, Error> {
    if field.geo_bounding_box.is_some() || field.geo_radius.is_some() || field.geo_polygon.is_some() {
        return Err(Error::Unimplemented("geographic conditions".to_owned()));
    }
    if field.datetime_range.is_some() {
        return Err(Error::Unimplemented("date conditions".to_owned()));
    }
    Ok(FieldCondition {
        key: json_path(&field.key)?,
        r#match: field.r#match.map(matching).transpose()?,
        range: field.range.map(range),
        geo_bounding_box: None,
        geo_radius: None,
        geo_polygon: None,
        values_count: field.values_count.map(values_count),
        is_empty: field.is_empty,
        is_null: field.is_null,
    })
}

fn matching(wanted: grpc::Match) -> Result<Match, Error> {
    let wanted = wanted.match_value.ok_or_else(|| Error::missing("Match"))?;
    let strings = |list: grpc::RepeatedStrings| AnyVariants::Strings(list.strings.into_iter().collect());
    let integers = |list: grpc::RepeatedIntegers| AnyVariants::Integers(list.integers.into_iter().collect());
    Ok(match wanted {
        Wanted::Keyword(keyword) => Match::from(keyword),
        Wanted::Integer(integer) => Match::from(integer),
        Wanted::Boolean(flag) => Match::from(flag),
        Wanted::Keywords(list) => Match::Any(MatchAny { any: strings(list) }),
        Wanted::Integers(list) => Match::Any(MatchAny { any: integers(list) }),
        Wanted::ExceptKeywords(list) => Match::Except(MatchExcept { except: strings(list) }),
        Wanted::ExceptIntegers(list) => Match::Except(MatchExcept { except: integers(list) }),
        Wanted::Text(text) => Match::Text(text.into()),
        Wanted::TextAny(text_any) => Match::TextAny(MatchTextAny { text_any }),
        Wanted::Phrase(phrase) => Match::Phrase(phrase.into()),
        Wanted::Prefix(prefix) => Match::Prefix(prefix.into()),
        Wanted::Substring(substring) => Match::Substring(substring.into()),
    })
}

fn range(range: grpc::Range) -> RangeInterface {
    RangeInterface::Float(Range {
        lt: range.lt.map(OrderedFloat),
        gt: range.gt.map(OrderedFloat),
        gte: range.gte.map(OrderedFloat),
        lte: range.lte.map(OrderedFloat),
    })
}

fn values_count(count: grpc::ValuesCount) -> ValuesCount {
    let bound = |bound: Option<u64>| bound.map(|bound| bound as usize);
    ValuesCount { lt: bound(count.lt), gt: bound(count.gt), gte: bound(count.gte), lte: bound(count.lte) }
}
