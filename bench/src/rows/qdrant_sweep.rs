//! Dead courses' points go.

use anyhow::Result;
use futures::FutureExt;
use sandbox::Qdrant;

use super::points;
use crate::bed::Bed;
use crate::contest::{Contest, alone};
use crate::ours::Part;
use crate::report::Row;
use crate::size::Size;
use crate::task::Task;

/// How many courses a filter of ours has at most.
const TOGETHER: usize = 256;

pub(super) async fn measure(size: Size, rounds: u32) -> Result<Row> {
    let (live, dead, each) = size.of((100, 10, 10), (1800, 200, 50), (1800, 200, 500));
    let bed = Bed::with_courses(0..live).await?;
    let qdrant = Qdrant::start().await?;
    // A collection each: what one side deleted would lie in the other's way.
    let mut places = Vec::new();
    for name in ["ours", "batches", "one_by_one"] {
        let place = points::create(&qdrant, name).await?;
        points::seed(&place, 0..live, each).await?;
        places.push(place);
    }
    let [our_place, batches, one_by_one] = places.as_slice() else { anyhow::bail!("three collections") };
    bed.adopt(&points::store(our_place, false)).await?;

    let the_dead = |round: u32| {
        let first = live + u64::from(round) * dead;
        first..first + dead
    };
    let run = Task::Run(bed.config(), Part::Sweep);
    let lanes = Contest::new(rounds, vec![qdrant.pid()?])
        .enter("ours", |_| alone(&run).boxed_local())
        .prepared(|round| points::seed(our_place, the_dead(round), each).boxed_local())
        .enter("bare delete by filter, in batches", |round| {
            let task = Task::DeleteByFilter(batches.clone(), the_dead(round), TOGETHER);
            async move { alone(&task).await }.boxed_local()
        })
        .prepared(|round| points::seed(batches, the_dead(round), each).boxed_local())
        .enter("bare delete by filter, one by one", |round| {
            let task = Task::DeleteByFilter(one_by_one.clone(), the_dead(round), 1);
            async move { alone(&task).await }.boxed_local()
        })
        .prepared(|round| points::seed(one_by_one, the_dead(round), each).boxed_local())
        .slow(2, 1.0)
        .hold()
        .await?;
    Row::new("qdrant sweep", format!("{dead} dead courses of {each} points beside {live}, quarantine off"), lanes)
        .agree(&["bare delete by filter, in batches", "bare delete by filter, one by one"])?
        .at_most("ours", 1.2, "bare delete by filter, in batches")?
        .faster("ours", 1.0, "bare delete by filter, one by one")
}
