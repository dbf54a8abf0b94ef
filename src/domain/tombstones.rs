//! Deaths that the application's own database recorded (S6).
//!
//! A tombstone never makes anything dead, nor live: it only says how we know. It is read before the live set is, so whoever is in the
//! live set lived after it, and it is void.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::CourseId;
use super::live_set::LiveSet;

/// A death, as a trigger recorded it in the deleting transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// Whose.
    pub course: CourseId,
    /// The row in its liveness source.
    pub row: i64,
    /// It is so old that it is to be forgotten, unless something of the course is still there.
    pub old: bool,
}

/// Rows of tombstones, by liveness source.
pub type Rows = Vec<(String, Vec<i64>)>;

/// The tombstones that were there before the live set was read. Those that come later are evidence for the next run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Graveyard {
    sources: Vec<(String, Vec<Tombstone>)>,
}

impl Graveyard {
    /// The tombstones of each liveness source that has any.
    pub fn new(sources: Vec<(String, Vec<Tombstone>)>) -> Self {
        Self { sources }
    }

    /// Takes out the tombstones of who is live, and gives back their rows: whoever lived after its tombstone died, if it is
    /// dead now, another time.
    pub fn void(&mut self, live: &LiveSet) -> Rows {
        self.take(|_, course| live.contains(course))
    }

    /// Takes out the tombstones of one source of which nobody knows whether they are older than a sighting of these courses.
    pub fn void_in(&mut self, name: &str, seen: &BTreeSet<CourseId>) -> Rows {
        self.take(|source, course| source == name && seen.contains(&course))
    }

    fn take(&mut self, is_void: impl Fn(&str, CourseId) -> bool) -> Rows {
        let mut rows = Rows::new();
        for (name, tombstones) in &mut self.sources {
            let void: Vec<i64> =
                tombstones.extract_if(.., |tombstone| is_void(name, tombstone.course)).map(|void| void.row).collect();
            if !void.is_empty() {
                rows.push((name.clone(), void));
            }
        }
        rows
    }

    /// The courses that one source has tombstones of.
    pub fn courses_of(&self, name: &str) -> BTreeSet<CourseId> {
        let of = self.sources.iter().filter(|(source, _)| source == name);
        of.flat_map(|(_, tombstones)| tombstones).map(|tombstone| tombstone.course).collect()
    }

    /// The courses that there are tombstones of.
    pub fn courses(&self) -> BTreeSet<CourseId> {
        self.all().map(|tombstone| tombstone.course).collect()
    }

    /// The newest row of each source that has any.
    pub fn newest(&self) -> BTreeMap<String, i64> {
        let newest = |tombstones: &Vec<Tombstone>| tombstones.iter().map(|tombstone| tombstone.row).max();
        self.sources.iter().filter_map(|(name, tombstones)| Some((name.clone(), newest(tombstones)?))).collect()
    }

    /// How many tombstones of one source are evidence.
    pub fn count_of(&self, name: &str) -> u64 {
        let of = self.sources.iter().filter(|(source, _)| source == name);
        of.map(|(_, tombstones)| tombstones.len() as u64).sum()
    }

    /// Which of these courses have a tombstone.
    pub fn among(&self, courses: &BTreeSet<CourseId>) -> BTreeSet<CourseId> {
        self.all().map(|tombstone| tombstone.course).filter(|course| courses.contains(course)).collect()
    }

    /// The courses of old tombstones.
    pub fn old(&self) -> BTreeSet<CourseId> {
        self.all().filter(|tombstone| tombstone.old).map(|tombstone| tombstone.course).collect()
    }

    /// The rows of old tombstones, but for those of courses of which something `remains`.
    pub fn forgettable(&self, remains: &BTreeSet<CourseId>) -> Rows {
        let mut old = self.clone();
        old.take_old(remains)
    }

    fn take_old(&mut self, remains: &BTreeSet<CourseId>) -> Rows {
        for (_, tombstones) in &mut self.sources {
            tombstones.retain(|tombstone| tombstone.old);
        }
        self.take(|_, course| !remains.contains(&course))
    }

    fn all(&self) -> impl Iterator<Item = &Tombstone> {
        self.sources.iter().flat_map(|(_, tombstones)| tombstones)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::IdType;
    use super::*;

    fn id(n: i64) -> CourseId {
        CourseId::Integer(n)
    }

    fn ids(courses: &[i64]) -> BTreeSet<CourseId> {
        courses.iter().copied().map(id).collect()
    }

    fn live(courses: &[i64]) -> LiveSet {
        LiveSet::from_ids(IdType::Integer, ids(courses))
    }

    /// Course 1 died twice in `a` and once in `b`, course 2 long ago in `a`, course 3 long ago in `b`.
    fn graveyard() -> Graveyard {
        let tombstone = |course, row, old| Tombstone { course: id(course), row, old };
        Graveyard::new(vec![
            ("a".to_owned(), vec![tombstone(1, 10, true), tombstone(2, 11, true), tombstone(1, 12, false)]),
            ("b".to_owned(), vec![tombstone(1, 10, false), tombstone(3, 20, true)]),
        ])
    }

    #[test]
    fn s6_a_tombstone_of_who_is_live_is_void_in_every_source() {
        let mut graves = graveyard();
        assert_eq!(graves.among(&ids(&[1, 2, 4])), ids(&[1, 2]));
        assert_eq!(graves.void(&live(&[1, 4])), [("a".to_owned(), vec![10, 12]), ("b".to_owned(), vec![10])]);
        assert_eq!(graves.among(&ids(&[1, 2, 3])), ids(&[2, 3]), "it is not trusted any more");
        assert_eq!(graves.void(&live(&[1, 4])), [], "once is enough");
        assert_eq!(["a", "b", "c"].map(|source| graves.count_of(source)), [1, 1, 0]);
    }

    #[test]
    fn s6_where_the_order_is_unknown_the_tombstones_of_who_was_seen_are_void() {
        let mut graves = graveyard();
        assert_eq!(graves.courses_of("a"), ids(&[1, 2]));
        assert_eq!(graves.courses(), ids(&[1, 2, 3]));
        assert_eq!(["a", "b", "c"].map(|source| graves.count_of(source)), [3, 2, 0]);
        assert_eq!(graves.newest(), [("a".to_owned(), 12), ("b".to_owned(), 20)].into());
        assert_eq!(graves.void_in("a", &ids(&[1])), [("a".to_owned(), vec![10, 12])]);
        assert_eq!(graves.among(&ids(&[1, 2, 3])), ids(&[1, 2, 3]), "the other source's stays");
    }

    #[test]
    fn s6_old_tombstones_are_forgotten_unless_something_remains() {
        let graves = graveyard();
        assert_eq!(graves.old(), ids(&[1, 2, 3]));
        assert_eq!(graves.forgettable(&ids(&[1, 3])), [("a".to_owned(), vec![11])]);
        assert_eq!(graves.forgettable(&ids(&[])), [("a".to_owned(), vec![10, 11]), ("b".to_owned(), vec![20])]);
    }
}
