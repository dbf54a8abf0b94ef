//! How time grows with each thing that there can be more of: three sizes, from one to ten times as much, and the exponent that fits them.

use anyhow::Result;
use futures::FutureExt;
use sandbox::{Qdrant, Redis};

use super::{files, keys, points};
use crate::bed::Bed;
use crate::contest::{Contest, Lane, alone};
use crate::report::{Row, Target};
use crate::size::Size;
use crate::task::Task;

/// A tenth more than the design says is what a measurement may be off.
const SLACK: f64 = 0.1;

pub(super) async fn measure(size: Size, rounds: u32) -> Result<Row> {
    let mut row = Row::new("growth", "one, three and ten times as much of each".to_owned(), Vec::new());
    for (what, expected) in [
        ("live ids", 1.0),
        ("keys", 1.0),
        ("courses with points", 1.0),
        ("points of a course", 0.0),
        ("directories", 1.0),
    ] {
        let mut times = Vec::new();
        for times_as_much in [1, 3, 10] {
            let mut lane = at(what, size, times_as_much, rounds).await?;
            lane.name = format!("{what} × {times_as_much}");
            times.push((times_as_much as f64, lane.median()));
            row.lanes.push(lane);
        }
        let target = (size != Size::Small).then_some(Target::AtMost(expected + SLACK));
        row = row.number(&format!("exponent of {what}"), exponent(&times), target);
    }
    Ok(row)
}

/// Ours alone, with so many times as much of this.
async fn at(what: &str, size: Size, times: u64, rounds: u32) -> Result<Lane> {
    let bed;
    let (mut redis, mut qdrant) = (None, None);
    let task = match what {
        "live ids" => {
            bed = Bed::with_courses(0..size.of(2_000, 100_000, 500_000) * times).await?;
            bed.adopt(&files::none(&bed)?).await?;
            Task::ReadLive(bed.config())
        }
        "keys" => {
            let courses = size.of(20, 1_000, 5_000) * times;
            bed = Bed::with_courses(0..courses).await?;
            let redis = redis.insert(Redis::start().await?);
            keys::seed(redis, 0..courses, 100)?;
            bed.adopt(&keys::store(redis, false)).await?;
            Task::Inventory(bed.config(), "cache".to_owned())
        }
        "directories" => {
            let courses = size.of(200, 5_000, 20_000) * times;
            bed = Bed::with_courses(0..courses).await?;
            let root = bed.folder().join("uploads");
            files::seed(&root, 0..courses, 0)?;
            bed.adopt(&files::store(&root, true)).await?;
            Task::Inventory(bed.config(), "uploads".to_owned())
        }
        of_points => {
            let (courses, each) = match of_points {
                "points of a course" => (size.of(20, 200, 200), 5 * times),
                _ => (size.of(20, 1_000, 1_000) * times, 5),
            };
            bed = Bed::with_courses(0..courses).await?;
            let qdrant = qdrant.insert(Qdrant::start().await?);
            let place = points::create(qdrant, "course_embeddings").await?;
            points::seed(&place, 0..courses, each).await?;
            bed.adopt(&points::store(&place, false)).await?;
            Task::Inventory(bed.config(), "vectors".to_owned())
        }
    };
    let lanes = Contest::new(rounds, Vec::new()).enter("ours", |_| alone(&task).boxed_local()).hold().await?;
    lanes.into_iter().next().ok_or_else(|| anyhow::anyhow!("no lane"))
}

/// The slope of the line through the logarithms, by least squares.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / logs.len() as f64;
    let (x, y) = (mean(|log| log.0), mean(|log| log.1));
    let spread: f64 = logs.iter().map(|log| (log.0 - x).powi(2)).sum();
    logs.iter().map(|log| (log.0 - x) * (log.1 - y)).sum::<f64>() / spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exponent_is_told_from_times() {
        let of = |f: fn(f64) -> f64| exponent(&[1.0, 3.0, 10.0].map(|x| (x, f(x))));
        assert!((of(|x| 5.0 * x) - 1.0).abs() < 1e-9);
        assert!((of(|x| x * x) - 2.0).abs() < 1e-9);
        assert!(of(|_| 7.0).abs() < 1e-9);
    }
}
