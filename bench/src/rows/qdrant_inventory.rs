//! Whose points there are.

use anyhow::Result;
use futures::FutureExt;
use sandbox::Qdrant;

use super::points;
use crate::bed::Bed;
use crate::contest::{Contest, alone};
use crate::report::Row;
use crate::size::Size;
use crate::task::Task;

pub(super) async fn measure(size: Size, rounds: u32) -> Result<Row> {
    let (courses, each) = size.of((200, 10), (2000, 50), (2000, 500));
    let bed = Bed::with_courses(0..courses).await?;
    let qdrant = Qdrant::start().await?;
    let place = points::create(&qdrant, "course_embeddings").await?;
    points::seed(&place, 0..courses, each).await?;
    bed.adopt(&points::store(&place, false)).await?;

    let ours = Task::Inventory(bed.config(), "vectors".to_owned());
    let (facet, scroll) = (Task::Facet(place.clone()), Task::Scroll(place));
    let lanes = Contest::new(rounds, vec![qdrant.pid()?])
        .enter("ours", |_| alone(&ours).boxed_local())
        .enter("bare facet", |_| alone(&facet).boxed_local())
        .enter("scroll of all points", |_| alone(&scroll).boxed_local())
        .slow(2, 1.0)
        .hold()
        .await?;
    Row::new("qdrant inventory", format!("{} points of {courses} courses", courses * each), lanes)
        .agree(&["bare facet", "scroll of all points"])?
        .faster("ours", 20.0, "scroll of all points")?
        .at_most("ours", 1.2, "bare facet")
}
