//! A collection as its settings say: how it is indexed, what its strict mode allows. Pure.

use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::{CollectionInfo, PayloadSchemaInfo, PayloadSchemaType};

use super::names::{Claim, Place};
use super::places::Key;
use super::values::Spelling;
use crate::domain::ids::IdType;
use crate::domain::inventory::SourceIndex;

/// The most values that one condition is given where strict mode names no limit.
const CONDITION_SIZE: usize = 256;
/// The most point ids that one condition is given.
const IDS: usize = 1000;
/// The most points that one page is asked for where strict mode names no limit.
const PAGE: u32 = 1000;

/// A collection as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Collection {
    /// Whose it is.
    pub(super) source: SourceIndex,
    /// How that source comes to it.
    pub(super) claim: Claim,
    /// Its own name, not an alias.
    pub(super) physical: String,
    /// The payload key that names the course.
    pub(super) key: String,
    /// How many points it has, about.
    pub(super) points: u64,
    /// How many of them have a value that the index on the key holds, about.
    pub(super) indexed_points: Option<u64>,
    /// True if an index on the key lists and finds course ids.
    pub(super) indexed: bool,
    /// How the payload spells course ids.
    pub(super) spelling: Spelling,
    /// What strict mode allows.
    pub(super) limits: Limits,
}

/// Strict mode's limits, as far as they concern the store. They are respected, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Limits {
    /// The most points or values that one answer may hold.
    max_query: Option<u32>,
    /// The most values in one condition.
    condition_size: Option<u64>,
    /// Filters on keys without an index are refused, in reads or in updates.
    indexed_only: bool,
    /// Exact counts are refused.
    no_exact: bool,
}

impl Collection {
    /// Reads a collection's settings.
    pub(super) fn new(place: Place, key: &str, id_type: IdType, info: &CollectionInfo) -> Self {
        let index = info.payload_schema.get(key);
        let spelling = index.and_then(|index| spelling(index, id_type));
        let Place { source, claim, physical } = place;
        Self {
            source,
            claim,
            physical,
            key: key.to_owned(),
            points: info.points_count.unwrap_or_default(),
            indexed_points: index.and_then(|index| index.points),
            indexed: spelling.is_some(),
            spelling: spelling.unwrap_or(match id_type {
                IdType::Uuid | IdType::Text(_) => Spelling::Text,
                IdType::Integer => Spelling::Either,
            }),
            limits: Limits::of(info),
        }
    }

    /// True if this is the collection that a handle names.
    pub(super) fn is(&self, (source, physical): Key<'_>) -> bool {
        (self.source, self.physical.as_bytes()) == (source, physical)
    }

    /// True if the server lists the key's values by itself and counts them exactly.
    pub(super) fn lists_values(&self) -> bool {
        self.indexed && !self.limits.no_exact
    }

    /// True if, as far as the server tells without looking at points, each of them has just one value and the index holds it: `values` are
    /// how often all of its values were counted together.
    pub(super) fn has_one_value_a_point(&self, values: u64) -> bool {
        self.indexed_points == Some(self.points) && values == self.points
    }

    /// Why courses cannot be looked for by filter here, if so, and what to do about it.
    pub(super) fn unsearchable(&self) -> Option<String> {
        let Self { physical, key, .. } = self;
        if !self.indexed && self.limits.indexed_only {
            Some(format!(
                "collection `{physical}` has no index on `{key}` that can find course ids, and its strict mode refuses \
                 filters without one: create a keyword, uuid or integer index on `{key}`, as its values are"
            ))
        } else if self.limits.no_exact {
            Some(format!(
                "collection `{physical}` refuses exact counts, without which nothing is deleted: allow \
                 `search_allow_exact` in its strict mode"
            ))
        } else {
            None
        }
    }

    /// The most courses to ask for in one filter; at least one.
    pub(super) fn courses_a_filter(&self) -> usize {
        let allowed =
            self.limits.condition_size.map_or(CONDITION_SIZE, |size| usize::try_from(size).unwrap_or(usize::MAX));
        allowed.clamp(1, CONDITION_SIZE)
    }

    /// The most point ids to name in one filter; at least one.
    pub(super) fn ids_a_filter(&self) -> usize {
        self.limits.condition_size.map_or(IDS, |size| usize::try_from(size).unwrap_or(IDS)).clamp(1, IDS)
    }

    /// The most points to ask for in one page; at least one.
    pub(super) fn page(&self) -> u32 {
        self.limits.max_query.map_or(PAGE, |limit| limit.clamp(1, PAGE))
    }

    /// The limit of a facet that should list `wanted` values, or `None` if so many may not be asked for and
    /// `asked` (the limit before) was already all that is allowed.
    pub(super) fn facet_limit(&self, wanted: u64, asked: u64) -> Option<u64> {
        let limit = self.limits.max_query.map_or(wanted, |most| wanted.min(u64::from(most)));
        (limit > asked).then_some(limit)
    }
}

impl Limits {
    fn of(info: &CollectionInfo) -> Self {
        let strict = info.config.as_ref().and_then(|config| config.strict_mode_config.as_ref());
        let Some(strict) = strict.filter(|strict| strict.enabled == Some(true)) else { return Self::default() };
        Self {
            max_query: strict.max_query_limit,
            condition_size: strict.condition_max_size,
            indexed_only: [strict.unindexed_filtering_retrieve, strict.unindexed_filtering_update]
                .contains(&Some(false)),
            no_exact: strict.search_allow_exact == Some(false),
        }
    }
}

/// How the values of an index are spelled, if it can hold course ids of this type and find them.
fn spelling(index: &PayloadSchemaInfo, id_type: IdType) -> Option<Spelling> {
    match (index.data_type(), id_type) {
        (PayloadSchemaType::Keyword, _) | (PayloadSchemaType::Uuid, IdType::Uuid) => Some(Spelling::Text),
        (PayloadSchemaType::Integer, IdType::Integer) => {
            let params = index.params.as_ref().and_then(|params| params.index_params.as_ref());
            let ranges_only =
                matches!(params, Some(IndexParams::IntegerIndexParams(index)) if index.lookup == Some(false));
            (!ranges_only).then_some(Spelling::Number)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use qdrant_client::qdrant::{CollectionConfig, IntegerIndexParams, PayloadIndexParams, StrictModeConfig};

    use super::*;

    fn index(data_type: PayloadSchemaType) -> PayloadSchemaInfo {
        PayloadSchemaInfo { data_type: data_type.into(), ..PayloadSchemaInfo::default() }
    }

    fn info(index: Option<PayloadSchemaInfo>, strict: Option<StrictModeConfig>) -> CollectionInfo {
        CollectionInfo {
            config: Some(CollectionConfig { strict_mode_config: strict, ..CollectionConfig::default() }),
            payload_schema: index.map(|index| ("course_id".to_owned(), index)).into_iter().collect(),
            ..CollectionInfo::default()
        }
    }

    fn collection(id_type: IdType, index: Option<PayloadSchemaInfo>, strict: Option<StrictModeConfig>) -> Collection {
        let place = Place { source: SourceIndex(0), claim: Claim::Named, physical: "courses".to_owned() };
        Collection::new(place, "course_id", id_type, &info(index, strict))
    }

    #[test]
    fn an_index_counts_only_if_it_can_hold_the_ids() {
        use PayloadSchemaType::{Bool, Datetime, Float, Integer, Keyword, Text, Uuid};
        for (id_type, kind, expected) in [
            (IdType::Uuid, Keyword, Some(Spelling::Text)),
            (IdType::Uuid, Uuid, Some(Spelling::Text)),
            (IdType::Uuid, Integer, None),
            (IdType::Integer, Keyword, Some(Spelling::Text)),
            (IdType::Integer, Integer, Some(Spelling::Number)),
            (IdType::Integer, Uuid, None),
            (IdType::Uuid, Text, None),
            (IdType::Uuid, Bool, None),
            (IdType::Integer, Float, None),
            (IdType::Uuid, Datetime, None),
        ] {
            assert_eq!(spelling(&index(kind), id_type), expected, "{id_type:?} {kind:?}");
        }
        let ranges = IntegerIndexParams { lookup: Some(false), range: Some(true), ..IntegerIndexParams::default() };
        let params = PayloadIndexParams { index_params: Some(IndexParams::IntegerIndexParams(ranges)) };
        let ranges = PayloadSchemaInfo { params: Some(params), ..index(Integer) };
        assert_eq!(spelling(&ranges, IdType::Integer), None);
        assert_eq!(collection(IdType::Integer, Some(ranges), None).spelling, Spelling::Either);
    }

    #[test]
    fn points_with_none_or_several_values_show_in_the_numbers() {
        let with = |points, indexed| Collection {
            points,
            indexed_points: indexed,
            ..collection(IdType::Uuid, Some(index(PayloadSchemaType::Keyword)), None)
        };
        assert!(with(10, Some(10)).has_one_value_a_point(10));
        assert!(!with(10, Some(10)).has_one_value_a_point(11), "one has two");
        assert!(!with(10, Some(9)).has_one_value_a_point(10), "one has two and one has none");
        assert!(!with(10, Some(9)).has_one_value_a_point(9), "one has none");
        assert!(!with(10, None).has_one_value_a_point(10), "nobody tells");
    }

    #[test]
    fn strict_mode_is_obeyed_only_where_it_is_on() {
        let strict = |enabled| StrictModeConfig {
            enabled,
            max_query_limit: Some(100),
            condition_max_size: Some(16),
            unindexed_filtering_update: Some(false),
            ..StrictModeConfig::default()
        };
        for off in [None, Some(strict(None)), Some(strict(Some(false)))] {
            let free = collection(IdType::Uuid, None, off);
            assert_eq!((free.page(), free.courses_a_filter(), free.unsearchable()), (PAGE, CONDITION_SIZE, None));
            assert_eq!(free.facet_limit(4096, 2048), Some(4096));
        }
        let keyword = Some(index(PayloadSchemaType::Keyword));
        let bound = collection(IdType::Uuid, keyword, Some(strict(Some(true))));
        assert_eq!((bound.page(), bound.courses_a_filter(), bound.unsearchable()), (100, 16, None));
        assert_eq!(bound.facet_limit(1024, 0), Some(100));
        assert_eq!(bound.facet_limit(2048, 100), None);
        let unindexed = collection(IdType::Uuid, None, Some(strict(Some(true))));
        assert!(unindexed.unsearchable().unwrap().contains("create a keyword"));
    }
}
