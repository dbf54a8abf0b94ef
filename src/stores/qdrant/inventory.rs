//! Whose points there are, and how many: from the index where there is one, else from the points.

use std::collections::BTreeMap;

use futures::future::join_all;
use futures::try_join;
use qdrant_client::qdrant::facet_value::Variant;

use super::QdrantStore;
use super::client::Facet;
use super::collection::Collection;
use super::values::{self, Named, Owner, Which};
use crate::domain::ids::CourseId;
use crate::domain::inventory::{Amount, Census};
use crate::stores::StoreError;

/// How many values the first facet asks for; doubled as long as as many come back.
const FACET: u64 = 2048;

/// How many collections' values are listed at once.
const CONCURRENT_FACETS: usize = 4;

impl QdrantStore {
    /// Lists these collections, some that list their values by themselves at a time.
    pub(super) async fn take_inventories(
        &self,
        collections: &[Collection],
        census: &mut Census,
    ) -> Result<(), StoreError> {
        for some in collections.chunks(CONCURRENT_FACETS) {
            let listed: Vec<_> = some.iter().map(|collection| self.list(collection)).collect();
            // All of them, before anything else is asked: a call that is left half way keeps its place among those under way.
            for (collection, values) in join_all(listed).await {
                let taken = match values {
                    Ok(Some(values)) => self.observe_values(collection, values, census).await,
                    Ok(None) => self.observe_points(collection, census).await,
                    Err(error) => Err(error),
                };
                // What was counted of one that went meanwhile is looked for, and not found, before anything is deleted.
                self.unless_gone(collection.claim, &collection.physical, taken).await?;
            }
        }
        Ok(())
    }

    /// The values of a collection, if it lists them by itself.
    async fn list<'c>(
        &self,
        collection: &'c Collection,
    ) -> (&'c Collection, Result<Option<Vec<(Variant, u64)>>, StoreError>) {
        let values = if collection.lists_values() { self.distinct(collection).await } else { Ok(None) };
        (collection, values)
    }

    /// Says that a pattern's match came after the store was adopted, and is held.
    pub(super) fn tell_of(&self, held: &Collection, census: &mut Census) {
        let Collection { source, physical, points, .. } = held;
        tracing::warn!(
            store = %self.name,
            collection = physical,
            points,
            "it matches a pattern, and came after the store was adopted: it is held until `course-gc adopt` is confirmed again"
        );
        let told = format!("(collection {physical}, which is not adopted: adopt the store again)");
        census.unrecognised(*source, told.as_bytes(), *points);
    }

    /// All distinct values of the key with approximate counts, or `None` if strict mode does not let us ask for so many.
    async fn distinct(&self, collection: &Collection) -> Result<Option<Vec<(Variant, u64)>>, StoreError> {
        let (mut wanted, mut asked) = (FACET, 0);
        while let Some(limit) = collection.facet_limit(wanted, asked) {
            let facet = Facet { limit, ..Facet::default() };
            let values = self.client.facet(&collection.physical, &collection.key, facet).await?;
            // As many as asked for: the rest was cut.
            if u64::try_from(values.len()).is_ok_and(|len| len < limit) {
                return Ok(Some(values));
            }
            (wanted, asked) = (limit.saturating_mul(2), limit);
        }
        Ok(None)
    }

    async fn observe_values(
        &self,
        collection: &Collection,
        values: Vec<(Variant, u64)>,
        census: &mut Census,
    ) -> Result<(), StoreError> {
        let Collection { source, physical, key, spelling, .. } = collection;
        let one_a_point = collection.has_one_value_a_point(values.iter().map(|(_, count)| count).sum());
        let mut dead = Vec::new();
        for (value, count) in values {
            // An index keeps values that were deleted until it is rebuilt.
            if count == 0 {
                continue;
            }
            match spelling.of_facet(self.id_type, &value) {
                Named::Course(course) => {
                    if !census.pass_by(*source, course, count) {
                        dead.push(course);
                    }
                }
                Named::Other(text) => census.unrecognised(*source, text.as_bytes(), count),
            }
        }
        for courses in dead.chunks(collection.courses_a_filter()) {
            for (course, count) in self.counts(collection, Which::Owned, courses).await? {
                if count > 0 {
                    census.observe(*source, course, points(count), Vec::new);
                }
            }
            // Whatever the numbers say: of several values at a point the index may hold one, and not show the others. Mostly there are none,
            // which is one count.
            if self.client.count(physical, spelling.points(key, Which::Shared, courses)).await? > 0 {
                for (course, count) in self.counts(collection, Which::Shared, courses).await? {
                    census.entangled(*source, course, count);
                }
            }
        }
        // Each of these is a look at all points.
        if one_a_point {
            return Ok(());
        }
        let count = |filter| self.client.count(physical, filter);
        let (ownerless, outside) =
            try_join!(count(values::without_owner(key)), count(spelling.outside_the_index(key)))?;
        census.unrecognised(*source, &without(key), ownerless);
        census.unrecognised(*source, format!("(`{key}` of a type that its index does not hold)").as_bytes(), outside);
        Ok(())
    }

    async fn observe_points(&self, collection: &Collection, census: &mut Census) -> Result<(), StoreError> {
        let Collection { source, key, spelling, .. } = collection;
        let source = *source;
        let mut shared: BTreeMap<CourseId, u64> = BTreeMap::new();
        let mut ownerless = 0;
        self.read(collection, None, |value| match spelling.of_payload(self.id_type, value) {
            Owner::One(course) => census.observe(source, course, points(1), Vec::new),
            Owner::Many(courses, others) => {
                for course in courses {
                    if census.is_live(course) {
                        census.observe(source, course, points(1), Vec::new);
                    } else {
                        *shared.entry(course).or_default() += 1;
                    }
                }
                for other in others {
                    census.unrecognised(source, other.as_bytes(), 1);
                }
            }
            Owner::Other(text) => census.unrecognised(source, text.as_bytes(), 1),
            Owner::Nobody => ownerless += 1,
        })
        .await?;
        for (course, count) in shared {
            census.entangled(source, course, count);
        }
        census.unrecognised(source, &without(key), ownerless);
        Ok(())
    }
}

/// An index shows values, not points: their fingerprint is 0, however they were counted.
fn points(resources: u64) -> Amount {
    Amount { resources, bytes: None, fingerprint: 0 }
}

fn without(key: &str) -> Vec<u8> {
    format!("(points without `{key}`)").into_bytes()
}
