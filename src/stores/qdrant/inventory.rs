//! Whose points there are, and how many: from the index where there is one, else from the points.

use std::collections::BTreeMap;

use qdrant_client::qdrant::facet_value::Variant;

use super::QdrantStore;
use super::collection::Collection;
use super::values::{self, Named, Owner, Which};
use crate::domain::ids::CourseId;
use crate::domain::inventory::{Amount, Census, SourceIndex};
use crate::stores::StoreError;

/// How many values the first facet asks for; doubled as long as as many come back.
const FACET: u64 = 2048;

impl QdrantStore {
    /// Lists one collection.
    pub(super) async fn take_inventory(&self, collection: &Collection, census: &mut Census) -> Result<(), StoreError> {
        let source = collection.source;
        if collection.lists_values()
            && let Some(values) = self.distinct(collection).await?
        {
            self.observe_values(collection, source, values, census).await
        } else {
            self.observe_points(collection, source, census).await
        }
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
            let values = self.client.facet(&collection.physical, &collection.key, limit).await?;
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
        source: SourceIndex,
        values: Vec<(Variant, u64)>,
        census: &mut Census,
    ) -> Result<(), StoreError> {
        let mut dead = Vec::new();
        for (value, count) in values {
            // An index keeps values that were deleted until it is rebuilt.
            if count == 0 {
                continue;
            }
            match collection.spelling.of_facet(self.id_type, &value) {
                Named::Course(course) if census.is_live(course) => {
                    census.observe(source, course, points(count), Vec::new);
                }
                Named::Course(course) => dead.push(course),
                Named::Other(text) => census.unrecognised(source, text.as_bytes(), count),
            }
        }
        let Collection { physical, key, spelling, .. } = collection;
        let arrays = self.client.count(physical, values::with_several_owners(key)).await? > 0;
        for courses in dead.chunks(collection.courses_a_filter()) {
            for (course, count) in self.counts(collection, Which::Owned, courses).await? {
                if count > 0 {
                    census.observe(source, course, points(count), Vec::new);
                }
            }
            if arrays {
                for (course, count) in self.counts(collection, Which::Shared, courses).await? {
                    census.entangled(source, course, count);
                }
            }
        }
        let ownerless = self.client.count(physical, values::without_owner(key)).await?;
        census.unrecognised(source, &without(key), ownerless);
        let outside = self.client.count(physical, spelling.outside_the_index(key)).await?;
        census.unrecognised(source, format!("(`{key}` of a type that its index does not hold)").as_bytes(), outside);
        Ok(())
    }

    async fn observe_points(
        &self,
        collection: &Collection,
        source: SourceIndex,
        census: &mut Census,
    ) -> Result<(), StoreError> {
        let Collection { key, spelling, .. } = collection;
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
