//! A run that stands still, at each of its moments, while another takes its turn.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::stage::{INTERVAL, Stage};
use super::world::Who;
use crate::domain::report::{Mode, RunReport};
use crate::postgres::IDLE_TIMEOUT;
use crate::reconcile::RunError;

/// How a run ends that stands still after so long, until it has lost its locks and another has run; and how the run after both ends.
async fn frozen_after(moment: Duration) -> (Result<RunReport, RunError>, RunReport) {
    let (who, successor) = (Who(0), Who(1));
    let stage = Stage::set(1, None).await;
    stage.world.state().weather = Some(0);
    let others = async {
        sleep(moment).await;
        stage.world.state().frozen.insert(who, Instant::now() + 2 * INTERVAL);
        sleep(IDLE_TIMEOUT).await;
        stage.world.state().clusters.iter_mut().for_each(|cluster| cluster.end_sessions_of(who));
        stage.pass(successor, Mode::Run).await.unwrap();
    };
    let (frozen, ()) = tokio::join!(stage.pass(who, Mode::Run), others);
    (frozen, stage.pass(successor, Mode::Run).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn s7_who_stands_still_at_any_moment_does_not_object_to_its_successor() {
    let mut lost_its_turn = 0;
    for moment in 0..200 {
        let (frozen, last) = frozen_after(Duration::from_millis(moment)).await;
        lost_its_turn += usize::from(frozen.is_err());
        assert_eq!(last.halt, None, "after {moment} ms");
    }
    assert!(lost_its_turn > 100, "{lost_its_turn}");
}
