//! What Qdrant's own client does.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{
    Condition, CountPointsBuilder, DeletePointsBuilder, FacetCountsBuilder, Filter, PayloadIncludeSelector,
    ScrollPointsBuilder,
};
use serde::{Deserialize, Serialize};

use crate::contest::Timed;
use crate::ids;

/// A collection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    /// The server's URL.
    pub url: String,
    /// The collection's name.
    pub collection: String,
}

/// The payload key that names a course.
pub(crate) const KEY: &str = "course_id";
/// How many points one page of a scroll has.
const PAGE: u32 = 1000;

impl Place {
    /// # Errors
    /// If the URL is none.
    pub(crate) fn connect(&self) -> Result<Qdrant> {
        let config = Qdrant::from_url(&self.url).timeout(Duration::from_secs(600)).skip_compatibility_check();
        Ok(config.build()?)
    }
}

/// The values of the key, by its index.
pub(crate) async fn facet(place: &Place) -> Result<Timed> {
    let client = place.connect()?;
    client.health_check().await?;
    let began = Instant::now();
    let request = FacetCountsBuilder::new(&place.collection, KEY).limit(1 << 20);
    let hits = client.facet(request).await?.hits;
    let seconds = began.elapsed().as_secs_f64();
    let resources = hits.iter().map(|hit| hit.count).sum();
    Ok(Timed { seconds, courses: hits.len() as u64, resources, ..Timed::default() })
}

/// All points, with that key alone.
pub(crate) async fn scroll(place: &Place) -> Result<Timed> {
    let client = place.connect()?;
    client.health_check().await?;
    let began = Instant::now();
    let (mut resources, mut offset) = (0, None);
    loop {
        let mut request = ScrollPointsBuilder::new(&place.collection)
            .limit(PAGE)
            .with_payload(PayloadIncludeSelector::new(vec![KEY.to_owned()]))
            .with_vectors(false);
        if let Some(offset) = offset.take() {
            request = request.offset::<qdrant_client::qdrant::PointId>(offset);
        }
        let page = client.scroll(request).await?;
        resources += page.result.len() as u64;
        offset = page.next_page_offset;
        if offset.is_none() {
            return Ok(Timed { seconds: began.elapsed().as_secs_f64(), resources, ..Timed::default() });
        }
    }
}

/// Deletes by filter, so many courses a call.
pub(crate) async fn delete(place: &Place, dead: Range<u64>, together: usize) -> Result<Timed> {
    let client = place.connect()?;
    let before = count(&client, place).await?;
    let courses: Vec<String> = dead.map(|n| ids::course(n).to_string()).collect();
    let began = Instant::now();
    for courses in courses.chunks(together.max(1)) {
        let filter = Filter::must([Condition::matches(KEY, courses.to_vec())]);
        client.delete_points(DeletePointsBuilder::new(&place.collection).points(filter).wait(true)).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let resources = before - count(&client, place).await?;
    Ok(Timed { seconds, courses: courses.len() as u64, resources, ..Timed::default() })
}

async fn count(client: &Qdrant, place: &Place) -> Result<u64> {
    let answer = client.count(CountPointsBuilder::new(&place.collection).exact(true)).await?;
    Ok(answer.result.context("a count without a number")?.count)
}
