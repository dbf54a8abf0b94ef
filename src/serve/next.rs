//! What the serve loop does now: pure, so that every case is a unit test.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::schedule::{Due, Schedule, due};

/// How old a look at the ledger may become.
pub const LOOK_EVERY: Duration = Duration::from_secs(15);
/// The same while another collector works, from whom this one may have to take over.
const LOOK_AFTER_OTHERS: Duration = Duration::from_secs(5);
/// After a look that failed.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A look is fresh enough to start a run by; between two looks another collector may have started one.
const FRESH: Duration = Duration::from_secs(2);
/// After a run that another collector's lock kept from beginning.
pub const PAUSE_LOCKED: Duration = Duration::from_secs(5);
/// After a run that failed: it may not have come as far as noting its start, and would be due at once. Short at first, since what it failed of,
/// such as a database that was started anew, is often over by then, and all replicas may have failed of it.
const PAUSE_FAILED: Duration = Duration::from_secs(2);
/// After one of many that failed in a row.
const PAUSE_FAILED_AGAIN: Duration = Duration::from_secs(30);

/// What a look at the ledger showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// When the last run started, by whoever did it, in the database's time.
    pub last_start: Option<DateTime<Utc>>,
    /// The delete path wants a run before the next one is due, or the last one was cut off.
    pub wanted: bool,
    /// Another collector was in the middle of a run.
    pub others_work: bool,
    /// What time it was in the database.
    pub database_time: DateTime<Utc>,
    /// When that was, since boot.
    pub looked_at: Duration,
}

impl View {
    /// The database's time now: what it was, and what has passed here since.
    fn database_time(&self, now: Duration) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.age(now)).unwrap_or(TimeDelta::MAX);
        self.database_time.checked_add_signed(passed).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.looked_at)
    }
}

/// What the loop knows. Times are since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// The last look; `None` before the first, and after whatever made it wrong.
    pub view: Option<View>,
    /// No look before this.
    pub look_after: Duration,
    /// No run before this.
    pub run_after: Duration,
}

impl Known {
    /// Of a loop that begins no runs: it looks, and that is all.
    pub fn watching() -> Self {
        Self { run_after: Duration::MAX, ..Self::default() }
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// Look at the ledger.
    Look,
    /// Run.
    Run,
}

/// How long to pause after a run that failed, if so many have failed in a row.
pub fn pause_failed(in_a_row: u32) -> Duration {
    let doublings = in_a_row.saturating_sub(1).min(8);
    (PAUSE_FAILED * 2_u32.pow(doublings)).min(PAUSE_FAILED_AGAIN)
}

/// Decides what to do at `now`, when nothing is under way.
pub fn next(schedule: &Schedule, known: &Known, now: Duration) -> Step {
    let Some(view) = known.view else {
        return if now < known.look_after { Step::Wait } else { Step::Look };
    };
    let is_due = view.wanted || due(schedule, view.last_start, view.database_time(now)) == Due::Now;
    let due = is_due && now >= known.run_after;
    let look_every = if view.others_work { LOOK_AFTER_OTHERS } else { LOOK_EVERY };
    match view.age(now) {
        age if due && age <= FRESH => Step::Run,
        age if due || age >= look_every => Step::Look,
        _ => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::UTC;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// When the view was taken, since boot.
    const LOOKED: Duration = Duration::from_secs(1000);

    fn schedule() -> Schedule {
        Schedule::new("*/15 * * * *", UTC).unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-06-01T{text}Z").parse().unwrap()
    }

    /// A look at 12:14:50 in the database that showed a start at `last_start`.
    fn known(last_start: Option<&str>) -> Known {
        let view = View {
            last_start: last_start.map(at),
            wanted: false,
            others_work: false,
            database_time: at("12:14:50"),
            looked_at: LOOKED,
        };
        Known { view: Some(view), ..Known::default() }
    }

    #[test]
    fn the_ledger_is_looked_at_first() {
        assert_eq!(next(&schedule(), &Known::default(), Duration::ZERO), Step::Look);
    }

    #[test]
    fn who_only_watches_looks_as_often_as_others_and_begins_nothing() {
        let view = View { wanted: true, ..known(None).view.unwrap() };
        let watching = Known { view: Some(view), ..Known::watching() };
        let step = |seconds: u32| next(&schedule(), &watching, LOOKED + SECOND * seconds);
        assert_eq!([0, 1, 14, 15, 16].map(step), [Step::Wait, Step::Wait, Step::Wait, Step::Look, Step::Look]);
    }

    #[test]
    fn after_a_look_that_failed_it_pauses() {
        let known = Known { look_after: 5 * SECOND, ..Known::default() };
        assert_eq!(next(&schedule(), &known, 4 * SECOND), Step::Wait);
        assert_eq!(next(&schedule(), &known, 5 * SECOND), Step::Look);
    }

    #[test]
    fn a_first_and_a_missed_run_start_at_once() {
        assert_eq!(next(&schedule(), &known(None), LOOKED), Step::Run);
        assert_eq!(next(&schedule(), &known(Some("11:59:00")), LOOKED + SECOND), Step::Run);
    }

    #[test]
    fn a_run_starts_only_after_a_fresh_look() {
        let known = known(Some("12:00:00"));
        assert_eq!(next(&schedule(), &known, LOOKED), Step::Wait);
        assert_eq!(next(&schedule(), &known, LOOKED + 9 * SECOND), Step::Wait);
        // 12:15 in the database, by a look ten seconds ago: somebody may have started since.
        assert_eq!(next(&schedule(), &known, LOOKED + 10 * SECOND), Step::Look);
    }

    #[test]
    fn what_the_delete_path_wants_does_not_wait_for_the_schedule_but_for_the_pause_after_a_failure() {
        let known = known(Some("12:00:00"));
        let wanted = Known { view: known.view.map(|view| View { wanted: true, ..view }), ..known };
        assert_eq!(next(&schedule(), &wanted, LOOKED), Step::Run);
        let failed = Known { run_after: LOOKED + SECOND, ..wanted };
        assert_eq!(next(&schedule(), &failed, LOOKED), Step::Wait);
    }

    #[test]
    fn a_look_grows_old() {
        // Nothing is due before 12:30.
        let known = known(Some("12:15:00"));
        assert_eq!(next(&schedule(), &known, LOOKED + LOOK_EVERY - SECOND), Step::Wait);
        assert_eq!(next(&schedule(), &known, LOOKED + LOOK_EVERY), Step::Look);
    }

    #[test]
    fn s10_whoever_stands_by_looks_more_often_while_another_works() {
        let known = known(Some("12:15:00"));
        let standing_by = Known { view: known.view.map(|view| View { others_work: true, ..view }), ..known };
        assert_eq!(next(&schedule(), &standing_by, LOOKED + LOOK_AFTER_OTHERS - SECOND), Step::Wait);
        assert_eq!(next(&schedule(), &standing_by, LOOKED + LOOK_AFTER_OTHERS), Step::Look);
    }

    #[test]
    fn after_a_run_that_failed_it_pauses_though_it_is_due() {
        let pause = pause_failed(9);
        let known = Known { run_after: LOOKED + pause, ..known(None) };
        assert_eq!(next(&schedule(), &known, LOOKED), Step::Wait);
        assert_eq!(next(&schedule(), &known, LOOKED + pause - SECOND), Step::Look, "only the look is old");
        assert_eq!(next(&schedule(), &known, LOOKED + pause), Step::Look, "due again, after a fresh look");
        let looked = View { looked_at: LOOKED + pause, ..known.view.unwrap() };
        let fresh = Known { view: Some(looked), ..known };
        assert_eq!(next(&schedule(), &fresh, LOOKED + pause), Step::Run);
    }

    #[test]
    fn the_pause_grows_with_each_failure_in_a_row() {
        let seconds = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(|in_a_row| pause_failed(in_a_row).as_secs());
        assert_eq!(seconds, [2, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn the_machines_clock_does_not_matter() {
        // The machine was started at 2026-06-01T11:58:10 by the database's time, whatever its own says.
        let known = known(Some("12:14:00"));
        assert_eq!(next(&schedule(), &known, LOOKED), Step::Wait);
        assert_eq!(next(&schedule(), &known, Duration::ZERO), Step::Wait, "a look from the future is none of long ago");
    }
}
