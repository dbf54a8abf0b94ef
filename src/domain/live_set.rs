//! The ids of all live courses, and when their number is not to be believed (S3).

use std::{fmt, thread};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::approvals::digest_of_halts;
use super::ids::{CourseId, IdType, TextId};

/// Every course id that the liveness sources returned; sorted, without duplicates. A UUID takes 16 bytes, a text 47.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveSet {
    /// Ids of [`IdType::Uuid`].
    Uuid(Vec<u128>),
    /// Ids of [`IdType::Integer`].
    Integer(Vec<i64>),
    /// Ids of [`IdType::Text`].
    Text(Vec<TextId>),
}

impl LiveSet {
    /// A set without ids.
    pub fn empty(id_type: IdType) -> Self {
        match id_type {
            IdType::Uuid => Self::Uuid(Vec::new()),
            IdType::Integer => Self::Integer(Vec::new()),
            IdType::Text(_) => Self::Text(Vec::new()),
        }
    }

    /// A set of the given ids; those of another type are left out, since they can name no course here.
    pub fn from_ids(id_type: IdType, ids: impl IntoIterator<Item = CourseId>) -> Self {
        let mut set = Self::empty(id_type);
        for id in ids {
            set.push(id);
        }
        set.normalise();
        set
    }

    /// Adds an id without keeping the order; call [`LiveSet::normalise`] when all are in.
    #[inline]
    pub fn push(&mut self, id: CourseId) {
        match (self, id) {
            (Self::Uuid(ids), CourseId::Uuid(id)) => ids.push(id.as_u128()),
            (Self::Integer(ids), CourseId::Integer(id)) => ids.push(id),
            (Self::Text(ids), CourseId::Text(id)) => ids.push(id),
            (Self::Uuid(_) | Self::Integer(_) | Self::Text(_), _) => {}
        }
    }

    /// Sorts, and drops duplicates.
    pub fn normalise(&mut self) {
        fn normalise<T: Ord>(ids: &mut Vec<T>) {
            ids.sort_unstable();
            ids.dedup();
        }
        match self {
            Self::Uuid(ids) => normalise(ids),
            Self::Integer(ids) => normalise(ids),
            Self::Text(ids) => normalise(ids),
        }
    }

    /// This set and the other one together.
    pub fn union(mut self, other: Self) -> Self {
        self.append(other);
        self.normalise();
        self
    }

    /// Adds all of another one at the end.
    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Uuid(ids), Self::Uuid(more)) => ids.extend(more),
            (Self::Integer(ids), Self::Integer(more)) => ids.extend(more),
            (Self::Text(ids), Self::Text(more)) => ids.extend(more),
            (Self::Uuid(_) | Self::Integer(_) | Self::Text(_), _) => {}
        }
    }

    /// How many courses are live.
    pub fn len(&self) -> usize {
        match self {
            Self::Uuid(ids) => ids.len(),
            Self::Integer(ids) => ids.len(),
            Self::Text(ids) => ids.len(),
        }
    }

    /// True if no course is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of `id` in the set, from 0; `None` if the course is not live.
    pub fn position(&self, id: CourseId) -> Option<usize> {
        match (self, id) {
            (Self::Uuid(ids), CourseId::Uuid(id)) => ids.binary_search(&id.as_u128()).ok(),
            (Self::Integer(ids), CourseId::Integer(id)) => ids.binary_search(&id).ok(),
            (Self::Text(ids), CourseId::Text(id)) => ids.binary_search(&id).ok(),
            _ => None,
        }
    }

    /// True if the course is live.
    pub fn contains(&self, id: CourseId) -> bool {
        self.position(id).is_some()
    }

    /// All ids in order.
    pub fn iter(&self) -> Box<dyn Iterator<Item = CourseId> + Send + '_> {
        match self {
            Self::Uuid(ids) => Box::new(ids.iter().map(|id| CourseId::Uuid(Uuid::from_u128(*id)))),
            Self::Integer(ids) => Box::new(ids.iter().map(|id| CourseId::Integer(*id))),
            Self::Text(ids) => Box::new(ids.iter().map(|id| CourseId::Text(*id))),
        }
    }

    /// The ids of this set that are not in `other`.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = CourseId> + 'a {
        self.iter().filter(|id| !other.contains(*id))
    }
}

/// How many buckets UUIDs are put into: one for each first byte.
const BUCKETS: usize = 256;

/// A live set of which not all has come: UUIDs are kept apart by their first byte, so that many small sorts, at the same time, take the place
/// of a large one. (Most UUIDs are random. Those that are not, and other ids, are one bucket, and mostly in order.)
#[derive(Debug)]
pub struct Buckets {
    id_type: IdType,
    buckets: Vec<LiveSet>,
}

impl Buckets {
    /// Nothing has come.
    pub fn new(id_type: IdType) -> Self {
        let buckets = if id_type == IdType::Uuid { BUCKETS } else { 1 };
        Self { id_type, buckets: (0..buckets).map(|_| LiveSet::empty(id_type)).collect() }
    }

    /// Adds an id, unless it is of another type.
    #[inline]
    pub fn push(&mut self, id: CourseId) {
        let bucket = if let CourseId::Uuid(id) = id { usize::from(id.as_bytes()[0]) } else { 0 };
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.push(id);
        }
    }

    /// All that has come, put in order on so many threads, and one more.
    pub fn finish(self, threads: usize) -> LiveSet {
        let Self { id_type, mut buckets } = self;
        thread::scope(|scope| {
            let mut shares = buckets.chunks_mut(BUCKETS.div_ceil(threads + 1));
            let mine = shares.next();
            for share in shares {
                scope.spawn(|| share.iter_mut().for_each(LiveSet::normalise));
            }
            mine.into_iter().flatten().for_each(LiveSet::normalise);
        });
        let mut all = LiveSet::empty(id_type);
        buckets.into_iter().for_each(|bucket| all.append(bucket));
        all
    }
}

/// How many live ids one source (or the union) has, and had at most in the last seven days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Population {
    /// The liveness source's name, or `union`.
    pub source: String,
    /// Live ids now.
    pub live: u64,
    /// The most live ids of any run in the last seven days; `None` if there was none. Where a person accepted a size, the
    /// most since then, with that size.
    pub highest: Option<u64>,
    /// The size that a person accepted, while that approval is in force.
    pub accepted: Option<u64>,
}

/// Why the live set is not believed: the run halts before any store is touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Halt {
    /// A source returned no id at all.
    #[error("liveness source {source_name} returned no live course; an empty answer is never taken for the truth")]
    Empty {
        /// The source.
        source_name: String,
    },
    /// Fewer live ids than `refuse_below`.
    #[error(
        "liveness source {source_name} returned {live} live courses, fewer than `limits.refuse_below` ({refuse_below})"
    )]
    Below {
        /// The source.
        source_name: String,
        /// Live ids now.
        live: u64,
        /// The limit.
        refuse_below: u64,
    },
    /// The number of live ids dropped by more than `refuse_drop` from the highest of seven days.
    #[error(
        "liveness source {source_name} returned {live} live courses, more than {refuse_drop_percent} % fewer than the {highest} \
         of the last seven days"
    )]
    Drop {
        /// The source.
        source_name: String,
        /// Live ids now.
        live: u64,
        /// The highest number of the last seven days.
        highest: u64,
        /// The limit in percent.
        refuse_drop_percent: u8,
    },
}

impl Halt {
    /// Its name in reports.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "empty",
            Self::Below { .. } => "below",
            Self::Drop { .. } => "drop",
        }
    }

    /// The liveness source, or `union`.
    pub fn source_name(&self) -> &str {
        match self {
            Self::Empty { source_name } | Self::Below { source_name, .. } | Self::Drop { source_name, .. } => {
                source_name
            }
        }
    }

    /// Live ids now.
    pub fn live(&self) -> u64 {
        match self {
            Self::Empty { .. } => 0,
            Self::Below { live, .. } | Self::Drop { live, .. } => *live,
        }
    }

    /// What it was compared with, if it was a drop.
    pub fn highest(&self) -> Option<u64> {
        match self {
            Self::Drop { highest, .. } => Some(*highest),
            Self::Empty { .. } | Self::Below { .. } => None,
        }
    }

    /// Nobody can accept that no course is live: an empty answer is what a wrong query looks like.
    pub fn can_be_approved(&self) -> bool {
        !matches!(self, Self::Empty { .. })
    }
}

/// Every reason not to believe the live sets: at least one. They are one event, and approved as one: where a source drops,
/// the union drops with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halts(Vec<Halt>);

impl Halts {
    /// These reasons; `None` if there are none.
    pub fn new(halts: Vec<Halt>) -> Option<Self> {
        (!halts.is_empty()).then_some(Self(halts))
    }

    /// By source, the union last.
    pub fn all(&self) -> &[Halt] {
        &self.0
    }

    /// True if a person can accept these sizes.
    pub fn can_be_approved(&self) -> bool {
        self.0.iter().all(Halt::can_be_approved)
    }
}

impl fmt::Display for Halts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, halt) in self.0.iter().enumerate() {
            write!(f, "{}{halt}", if index == 0 { "" } else { "; " })?;
        }
        if self.can_be_approved() {
            let digest = digest_of_halts(&self.0);
            write!(
                f,
                "; check the query and the database; if the size is right: `course-gc approve {digest} --reason …`"
            )
        } else {
            write!(f, "; check the query and the database: this cannot be approved")
        }
    }
}

impl std::error::Error for Halts {}

/// Judges the sizes of the live sets (S3): every reason not to believe them.
///
/// An accepted size takes the place of `refuse_below` while its approval is in force; a further drop from it halts again.
pub fn judge(populations: &[Population], refuse_below: u64, refuse_drop_percent: u8) -> Option<Halts> {
    let judge = |population: &Population| {
        let source_name = population.source.clone();
        let live = population.live;
        if live == 0 {
            return Some(Halt::Empty { source_name });
        }
        let is_accepted = population.accepted.is_some_and(|accepted| accepted < refuse_below);
        if live < refuse_below && !is_accepted {
            return Some(Halt::Below { source_name, live, refuse_below });
        }
        let highest = population.highest?;
        let lost = u128::from(highest.saturating_sub(live));
        let dropped = lost * 100 > u128::from(highest) * u128::from(refuse_drop_percent);
        dropped.then_some(Halt::Drop { source_name, live, highest, refuse_drop_percent })
    };
    Halts::new(populations.iter().filter_map(judge).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn population(live: u64, highest: Option<u64>) -> Vec<Population> {
        vec![Population { source: "campus".into(), live, highest, accepted: None }]
    }

    /// The names of the halts, by source.
    fn halts(populations: &[Population], refuse_below: u64, refuse_drop: u8) -> Vec<(String, &'static str)> {
        let halts = judge(populations, refuse_below, refuse_drop);
        let all = halts.iter().flat_map(|halts| halts.all());
        all.map(|halt| (halt.source_name().to_owned(), halt.as_str())).collect()
    }

    fn of_campus(kind: &'static str) -> Vec<(String, &'static str)> {
        vec![("campus".to_owned(), kind)]
    }

    #[test]
    fn s3_empty_is_not_dead() {
        assert_eq!(halts(&population(0, None), 0, 100), of_campus("empty"));
        assert_eq!(halts(&population(0, Some(5)), 1, 100), of_campus("empty"));
    }

    #[test]
    fn s3_one_bad_source_halts_although_the_others_are_well() {
        let mut sources = population(100, Some(100));
        sources.push(Population { source: "other".into(), ..population(0, None).remove(0) });
        assert_eq!(halts(&sources, 1, 20), [("other".to_owned(), "empty")]);
    }

    #[test]
    fn s3_a_drop_is_judged_from_the_highest() {
        assert_eq!(judge(&population(80, Some(100)), 1, 20), None, "exactly the limit passes");
        assert_eq!(halts(&population(79, Some(100)), 1, 20), of_campus("drop"));
        assert_eq!(judge(&population(500, Some(100)), 1, 20), None);
        assert_eq!(halts(&population(9, Some(10)), 10, 20), of_campus("below"));
        assert_eq!(judge(&population(10, None), 10, 20), None, "exactly as many as must be there");
        assert_eq!(judge(&population(u64::MAX, Some(u64::MAX)), 1, 0), None, "no overflow");
    }

    #[test]
    fn s3_an_accepted_size_stands_in_for_refuse_below_and_a_further_drop_halts() {
        let accepted = |live| vec![Population { accepted: Some(8), ..population(live, Some(8)).remove(0) }];
        assert_eq!(judge(&accepted(8), 10, 20), None);
        assert_eq!(judge(&accepted(7), 10, 20), None, "an eighth less is no drop");
        assert_eq!(halts(&accepted(6), 10, 20), of_campus("drop"));
        assert_eq!(halts(&accepted(0), 10, 20), of_campus("empty"));
        let larger = vec![Population { accepted: Some(50), ..population(9, Some(10)).remove(0) }];
        assert_eq!(halts(&larger, 10, 20), of_campus("below"), "a size above the limit accepts none below it");
        let limit = vec![Population { accepted: Some(10), ..population(9, Some(10)).remove(0) }];
        assert_eq!(halts(&limit, 10, 20), of_campus("below"), "nor does the limit itself");
    }

    #[test]
    fn s3_a_halt_names_the_command_that_accepts_it_but_for_an_empty_answer() {
        let text = |populations: &[Population]| judge(populations, 1, 20).map(|halts| halts.to_string()).unwrap();
        let dropped = population(70, Some(100));
        let digest = digest_of_halts(judge(&dropped, 1, 20).unwrap().all());
        assert!(text(&dropped).contains(&format!("course-gc approve {digest} --reason")), "{}", text(&dropped));
        let both = [dropped, population(0, None)].concat();
        assert!(text(&both).contains("cannot be approved"), "{}", text(&both));
    }

    #[test]
    fn a_set_tells_places_and_what_another_one_lacks() {
        let set = |ids: &[i64]| LiveSet::from_ids(IdType::Integer, ids.iter().map(|id| CourseId::Integer(*id)));
        let ids = set(&[9, 3, 5, 3]);
        let positions: Vec<_> = [3, 5, 9, 4].map(|id| ids.position(CourseId::Integer(id))).into();
        assert_eq!(positions, [Some(0), Some(1), Some(2), None]);
        let lacking: Vec<_> = ids.without(&set(&[5])).collect();
        assert_eq!(lacking, [CourseId::Integer(3), CourseId::Integer(9)]);
        assert!(set(&[]).is_empty() && !ids.is_empty());
        let uuid =
            LiveSet::from_ids(IdType::Uuid, [CourseId::Uuid(Uuid::from_u128(1)), CourseId::Uuid(Uuid::from_u128(0))]);
        assert_eq!(uuid.position(CourseId::Uuid(Uuid::from_u128(1))), Some(1));
        assert_eq!(uuid.position(CourseId::Integer(1)), None, "an id of another type names no course here");
    }

    proptest! {
        #[test]
        fn a_set_holds_just_what_was_put_in(ids in proptest::collection::vec(0i64..50, 0..60), probe in 0i64..50) {
            let set = LiveSet::from_ids(IdType::Integer, ids.iter().map(|id| CourseId::Integer(*id)));
            prop_assert_eq!(set.contains(CourseId::Integer(probe)), ids.contains(&probe));
            let listed: Vec<_> = set.iter().collect();
            prop_assert!(listed.is_sorted());
            prop_assert_eq!(listed.len(), set.len());
        }

        #[test]
        fn a_union_is_never_smaller_than_a_part(a in proptest::collection::vec(any::<u128>(), 0..20), b in proptest::collection::vec(any::<u128>(), 0..20)) {
            let set = |ids: &[u128]| LiveSet::from_ids(IdType::Uuid, ids.iter().map(|id| CourseId::Uuid(Uuid::from_u128(*id))));
            let both = set(&a).union(set(&b));
            for id in set(&a).iter().chain(set(&b).iter()) {
                prop_assert!(both.contains(id));
            }
        }

        #[test]
        fn in_buckets_comes_together_what_comes_at_once(ids in proptest::collection::vec(any::<u128>(), 0..400), threads in 0usize..5) {
            let ids: Vec<CourseId> = ids.iter().flat_map(|id| [*id, id >> 120, *id]).map(|id| CourseId::Uuid(Uuid::from_u128(id))).collect();
            let mut buckets = Buckets::new(IdType::Uuid);
            ids.iter().for_each(|id| buckets.push(*id));
            buckets.push(CourseId::Integer(1));
            prop_assert_eq!(buckets.finish(threads), LiveSet::from_ids(IdType::Uuid, ids));
        }
    }
}
