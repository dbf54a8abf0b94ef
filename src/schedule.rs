//! When to run: a pure decision, and the ticks that ask for it.
//!
//! [`due`] decides from the schedule, the last start and the present; [`Ticker`] only wakes whoever
//! asks it, once a second. The crate that ticks is not trusted with the schedule itself: it takes a
//! zone as the offset of the moment the job was made, starts each job anew while the last still
//! runs, and forgets what was missed while the process was down.
//!
//! **Daylight saving.** Ticks are local times of the zone. An expression that names one time of day
//! (`30 2 * * *`) means one run a day: where the clock jumps over that time, the run comes with the
//! first moment after the gap; where the time comes twice, the run comes with the first. An
//! expression that repeats (`*/15 * * * *`) means an interval: it keeps going through both, in real
//! time; in the hour that comes twice it runs in both, and nothing is made up for the hour that
//! does not come.
//!
//! **Jitter.** Installations that share a server need not all begin at full hours: each tick may come later by a part of the configured jitter, which
//! follows from the installation's name and the tick alone. So all replicas agree, and a restart shifts nothing. It is never more than half of the
//! way to the next tick, so that ticks keep their order, and two runs that follow each other are no further apart than one and a half
//! intervals: less than the two that an orphan's clock may gain.
//!
//! **Missed runs.** However many ticks have passed since the last start, one run is due, at once.
//! **Overlap** cannot come from here: the one task that asks is the task that runs.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::domain::inventory::fingerprint;

/// How many ticks [`interval`] looks at: two that have come, and the next few.
const TICKS: usize = 8;

const EACH_SECOND: &str = "* * * * * *";
/// A tick that has not come by then is made up.
const LATEST: Duration = Duration::from_secs(2);

/// A cron expression in a time zone. It is known to have ticks.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
    jitter: Jitter,
}

/// By how much ticks come later.
#[derive(Clone, Debug, Default)]
struct Jitter {
    /// Of whom.
    installation: String,
    most: Duration,
}

/// Why an expression is no schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// It is no cron expression.
    #[error("`{expression}` is no cron expression ({reason})")]
    Expression {
        /// The expression.
        expression: String,
        /// What is wrong with it.
        reason: CronError,
    },
    /// No date fits it, as in `0 0 30 2 *`.
    #[error("`{0}` never comes")]
    Never(String),
}

/// Whether to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A tick has come since the last start.
    Now,
    /// The next tick.
    At(DateTime<Utc>),
}

impl Schedule {
    /// Parses an expression of five fields (minute, hour, day, month, weekday), or of six with
    /// seconds first.
    ///
    /// # Errors
    /// When it is no cron expression, or one that never comes.
    pub fn new(expression: &str, zone: Tz) -> Result<Self, ScheduleError> {
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser
            .parse(expression)
            .map_err(|reason| ScheduleError::Expression { expression: expression.to_owned(), reason })?;
        let schedule = Self { cron, zone, jitter: Jitter::default() };
        match schedule.next(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never(expression.to_owned())),
        }
    }

    /// The same expression in another zone.
    pub fn in_zone(&self, zone: Tz) -> Self {
        Self { zone, ..self.clone() }
    }

    /// The same ticks, each later by a part of `most`: another one for each tick and installation, and always the same.
    pub fn with_jitter(self, installation: &str, most: Duration) -> Self {
        Self { jitter: Jitter { installation: installation.to_owned(), most }, ..self }
    }

    /// When the run of a tick begins.
    fn begin(&self, tick: DateTime<Utc>) -> DateTime<Utc> {
        let gap = self.next(tick).map_or(TimeDelta::zero(), |next| next - tick);
        let most = TimeDelta::from_std(self.jitter.most).unwrap_or(TimeDelta::MAX).min(gap / 2).num_milliseconds();
        let name = format!("{} {}", self.jitter.installation, tick.timestamp());
        let late = i64::try_from(fingerprint(name.as_bytes()) >> 1).unwrap_or(0).checked_rem(most).unwrap_or(0);
        tick + TimeDelta::milliseconds(late)
    }

    /// The first time after `moment` at which a run begins; `None` only where the calendar ends.
    fn next_begin(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // That of the tick before may be still to come, and never comes after the next tick.
        let before = self.previous(moment.trunc_subsecs(0) + TimeDelta::seconds(1)).filter(|tick| *tick <= moment);
        let before = before.map(|tick| self.begin(tick));
        match before.filter(|begin| *begin > moment) {
            Some(begin) => Some(begin),
            None => self.next(moment).map(|tick| self.begin(tick)),
        }
    }

    /// The first tick after `moment`; `None` only where the calendar ends.
    fn next(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = moment.with_timezone(&self.zone);
        Some(self.cron.find_next_occurrence(&local, false).ok()?.to_utc())
    }

    /// The last tick before `moment`; `None` only where the calendar begins.
    fn previous(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = moment.with_timezone(&self.zone);
        Some(self.cron.find_previous_occurrence(&local, false).ok()?.to_utc())
    }
}

/// Decides whether a run is due at `now`, given when the last one started; `None` where none ever
/// did: then the first is due at once.
///
/// A start that lies after `now` (the clock went back) counts as one at `now`.
pub fn due(schedule: &Schedule, last_start: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Due {
    let Some(last_start) = last_start else {
        return Due::Now;
    };
    match schedule.next_begin(last_start.min(now)) {
        Some(tick) if tick <= now => Due::Now,
        Some(tick) => Due::At(tick),
        None => Due::At(DateTime::<Utc>::MAX_UTC),
    }
}

/// The schedule's interval around `now`: the largest gap between two of the ticks around it, without jitter.
///
/// It bounds how much grace one run can add. In an uneven schedule (working hours only) a pause
/// counts while it is near, so that the first run after a night adds the whole night.
pub fn interval(schedule: &Schedule, now: DateTime<Utc>) -> Duration {
    let last = schedule.previous(now).unwrap_or(now);
    let first = schedule.previous(last).unwrap_or(last);
    let ticks = std::iter::successors(Some(first), |tick| schedule.next(*tick));
    let ticks: Vec<DateTime<Utc>> = ticks.take(TICKS).collect();
    let longest = ticks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(TimeDelta::zero());
    longest.to_std().unwrap_or_default()
}

/// Wakes its owner once a second, to ask [`due`]. Ticks that nobody awaits count as one.
pub struct Ticker {
    scheduler: JobScheduler,
    ticked: Arc<Notify>,
}

impl Ticker {
    /// Starts ticking.
    ///
    /// # Errors
    /// When the scheduler does not start.
    pub async fn start() -> Result<Self, JobSchedulerError> {
        let ticked = Arc::new(Notify::new());
        let scheduler = JobScheduler::new().await?;
        let notify = Arc::clone(&ticked);
        // No job that is repeated each second: the crate counts its ticks on, and where the clock has passed two of them, as it has when the process
        // wakes after it stood still, none ever comes again. A cron job's next tick is told from the time that it is.
        let job = Job::new(EACH_SECOND, move |_, _| notify.notify_one())?;
        scheduler.add(job).await?;
        scheduler.start().await?;
        Ok(Self { scheduler, ticked })
    }

    /// Waits for the next tick, or returns at once if one has come since the last call. Dropping
    /// the future loses no tick. None is waited for for ever: the crate's come by the machine's clock, and stay away for as long as that was put back.
    pub async fn tick(&self) {
        // One that does not come is made up.
        let _ = timeout(LATEST, self.ticked.notified()).await;
    }

    /// Ends the ticking.
    ///
    /// # Errors
    /// When the scheduler does not stop.
    pub async fn shutdown(mut self) -> Result<(), JobSchedulerError> {
        self.scheduler.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::TimeZone;
    use chrono_tz::Europe::Berlin;

    use super::*;

    fn berlin(expression: &str) -> Schedule {
        Schedule::new(expression, Berlin).unwrap()
    }

    /// A moment in RFC 3339.
    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    /// The local times at which runs start, if each starts when it is due, and the clock is looked
    /// at each minute.
    fn starts(schedule: &Schedule, from: &str, until: &str) -> Vec<String> {
        let (mut now, until) = (at(from), at(until));
        let mut last_start = now;
        let mut starts = Vec::new();
        while now < until {
            if due(schedule, Some(last_start), now) == Due::Now {
                last_start = now;
                starts.push(now.with_timezone(&Berlin).format("%d %H:%M %Z").to_string());
            }
            now += TimeDelta::minutes(1);
        }
        starts
    }

    #[test]
    fn a_first_start_is_due_at_once() {
        assert_eq!(due(&berlin("0 3 * * *"), None, at("2026-06-01T12:00:00Z")), Due::Now);
    }

    #[test]
    fn a_start_that_covers_the_latest_tick_waits_for_the_next() {
        let schedule = berlin("*/15 * * * *");
        let now = at("2026-06-01T12:20:00Z");
        let next = Due::At(at("2026-06-01T12:30:00Z"));
        assert_eq!(due(&schedule, Some(at("2026-06-01T12:15:00Z")), now), next);
        assert_eq!(due(&schedule, Some(at("2026-06-01T12:19:59Z")), now), next);
        assert_eq!(due(&schedule, Some(at("2026-06-01T12:14:59Z")), now), Due::Now);
    }

    #[test]
    fn a_tick_is_due_in_its_own_second() {
        let schedule = berlin("*/15 * * * *");
        let start = Some(at("2026-06-01T12:00:00Z"));
        assert_eq!(due(&schedule, start, at("2026-06-01T12:15:00Z")), Due::Now);
        let before = at("2026-06-01T12:14:59.999Z");
        assert_eq!(due(&schedule, start, before), Due::At(at("2026-06-01T12:15:00Z")));
    }

    #[test]
    fn many_missed_ticks_make_one_run() {
        let schedule = berlin("*/15 * * * *");
        let now = at("2026-06-03T12:07:00Z");
        assert_eq!(due(&schedule, Some(at("2026-06-01T12:00:00Z")), now), Due::Now);
        assert_eq!(due(&schedule, Some(now), now), Due::At(at("2026-06-03T12:15:00Z")));
    }

    #[test]
    fn a_run_longer_than_the_interval_is_followed_by_one_run() {
        let schedule = berlin("*/15 * * * *");
        let started = at("2026-06-01T12:00:00Z");
        let ended = at("2026-06-01T12:50:00Z");
        assert_eq!(due(&schedule, Some(started), ended), Due::Now);
        assert_eq!(due(&schedule, Some(ended), ended), Due::At(at("2026-06-01T13:00:00Z")));
    }

    #[test]
    fn a_clock_that_went_back_does_not_stop_the_schedule() {
        let schedule = berlin("*/15 * * * *");
        let now = at("2026-06-01T12:07:00Z");
        let start = Some(at("2027-01-01T00:00:00Z"));
        assert_eq!(due(&schedule, start, now), Due::At(at("2026-06-01T12:15:00Z")));
    }

    #[test]
    fn a_daily_time_in_the_gap_runs_once_right_after_it() {
        let starts = starts(&berlin("30 2 * * *"), "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(starts, ["29 03:00 CEST", "30 02:30 CEST"]);
    }

    #[test]
    fn a_daily_time_that_comes_twice_runs_once_at_the_first() {
        let starts = starts(&berlin("30 2 * * *"), "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(starts, ["25 02:30 CEST", "26 02:30 CET"]);
    }

    #[test]
    fn a_daily_time_outside_both_is_not_moved() {
        let schedule = berlin("0 4 * * *");
        let spring = starts(&schedule, "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z");
        let autumn = starts(&schedule, "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z");
        assert_eq!((spring, autumn), (vec!["29 04:00 CEST".into()], vec!["25 04:00 CET".into()]));
    }

    #[test]
    fn an_interval_keeps_its_pace_through_the_gap_and_the_double_hour() {
        let schedule = berlin("*/15 * * * *");
        for day in ["2026-03-29", "2026-10-25"] {
            let from = at(&format!("{day}T00:00:00Z"));
            let mut tick = from;
            for step in 1..=16 {
                tick = schedule.next(tick).unwrap();
                assert_eq!(tick, from + TimeDelta::minutes(15 * step), "{day}");
            }
        }
    }

    #[test]
    fn an_hourly_run_runs_in_both_of_the_double_hour() {
        let starts = starts(&berlin("0 * * * *"), "2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z");
        assert_eq!(starts, ["25 02:00 CEST", "25 02:00 CET", "25 03:00 CET"]);
    }

    /// Each quarter of an hour of a day, and when the run of it begins.
    fn begins(installation: &str, most: Duration) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
        let schedule = berlin("*/15 * * * *").with_jitter(installation, most);
        let ticks = (0..96).map(|quarter| at("2026-06-01T00:00:00Z") + TimeDelta::minutes(15 * quarter));
        ticks.map(|tick| (tick, schedule.next_begin(tick - TimeDelta::milliseconds(1)).unwrap())).collect()
    }

    #[test]
    fn jitter_is_the_same_for_all_replicas_and_another_for_each_tick_and_installation() {
        let five = Duration::from_secs(300);
        let campus = begins("campus", five);
        assert_eq!(campus, begins("campus", five));
        let late = |begins: &[(DateTime<Utc>, DateTime<Utc>)]| -> BTreeSet<i64> {
            begins.iter().map(|(tick, begin)| (*begin - *tick).num_seconds()).collect()
        };
        let seconds = late(&campus);
        assert!(seconds.first() >= Some(&0) && seconds.last() < Some(&300), "{seconds:?}");
        assert!(seconds.len() > 60, "they are spread: {seconds:?}");
        assert!(seconds.first() < Some(&30) && seconds.last() > Some(&270), "over all of it: {seconds:?}");
        assert_ne!(seconds, late(&begins("campus-2", five)));
    }

    #[test]
    fn a_tick_with_jitter_comes_once_however_often_somebody_looks_or_begins_anew() {
        let schedule = berlin("*/15 * * * *").with_jitter("campus", Duration::from_secs(300));
        let (mut now, until) = (at("2026-06-01T00:00:00Z"), at("2026-06-02T00:00:00Z"));
        let mut last_start = now;
        let mut begun = Vec::new();
        while now < until {
            if due(&schedule, Some(last_start), now) == Due::Now {
                last_start = now;
                begun.push(now);
            }
            now += TimeDelta::seconds(1);
        }
        // The first second of the day is a start already, and its own tick's run may be still to come.
        let expected: Vec<DateTime<Utc>> =
            begins("campus", Duration::from_secs(300)).into_iter().map(|(_, it)| it).collect();
        assert_eq!(begun.len(), expected.len());
        for (begun, expected) in begun.iter().zip(expected) {
            assert!((TimeDelta::zero()..TimeDelta::seconds(1)).contains(&(*begun - expected)), "{begun} {expected}");
        }
        // Between a tick and the beginning of its run, nothing is due.
        let tick = at("2026-06-01T12:00:00Z");
        let begin = schedule.next_begin(tick - TimeDelta::milliseconds(1)).unwrap();
        assert_eq!(
            due(&schedule, Some(tick - TimeDelta::minutes(5)), begin - TimeDelta::milliseconds(1)),
            Due::At(begin)
        );
        assert_eq!(due(&schedule, Some(tick - TimeDelta::minutes(5)), begin), Due::Now);
    }

    #[test]
    fn s6_jitter_is_at_most_half_of_the_interval_so_that_clocks_gain_all_that_passes() {
        let longest = Duration::from_secs(24 * 3600);
        let begins: Vec<_> = begins("campus", longest)
            .into_iter()
            .map(|(tick, begin)| {
                assert!(begin - tick < TimeDelta::seconds(450), "{tick} {begin}");
                begin
            })
            .collect();
        let gaps = begins.windows(2).map(|pair| pair[1] - pair[0]);
        let schedule = berlin("*/15 * * * *").with_jitter("campus", longest);
        let interval = TimeDelta::from_std(interval(&schedule, at("2026-06-01T12:00:00Z"))).unwrap();
        assert_eq!(interval, TimeDelta::minutes(15), "it is that of the ticks");
        assert!(
            gaps.clone().all(|gap| gap > TimeDelta::zero() && gap < interval * 2),
            "{:?}",
            gaps.collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_zone_is_not_a_fixed_offset() {
        let schedule = berlin("0 3 * * *");
        let winter = due(&schedule, Some(at("2026-01-10T12:00:00Z")), at("2026-01-10T12:00:00Z"));
        let summer = due(&schedule, Some(at("2026-07-10T12:00:00Z")), at("2026-07-10T12:00:00Z"));
        assert_eq!(winter, Due::At(at("2026-01-11T02:00:00Z")));
        assert_eq!(summer, Due::At(at("2026-07-11T01:00:00Z")));
    }

    #[test]
    fn six_fields_begin_with_seconds() {
        let schedule = berlin("*/10 * * * * *");
        let now = at("2026-06-01T12:00:03Z");
        assert_eq!(due(&schedule, Some(now), now), Due::At(at("2026-06-01T12:00:10Z")));
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let reason = |expression| Schedule::new(expression, Berlin).unwrap_err().to_string();
        assert_eq!(reason("0 0 30 2 *"), "`0 0 30 2 *` never comes");
        for expression in ["", "daily", "61 * * * *", "* * * *", "0 0 0 1 1 * 2020"] {
            let start = format!("`{expression}` is no cron expression (");
            assert!(reason(expression).starts_with(&start), "{expression}");
        }
        assert!(Schedule::new("0 0 29 2 *", Berlin).is_ok());
    }

    #[test]
    fn the_interval_is_the_largest_gap_around() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let noon = at("2026-06-01T12:07:00Z");
        assert_eq!(interval(&berlin("*/15 * * * *"), noon), hours(1) / 4);
        assert_eq!(interval(&berlin("0 3 * * *"), noon), hours(24));
        assert_eq!(interval(&berlin("0 1,3 * * *"), noon), hours(22));
        // A day of 23 hours and one of 25.
        assert_eq!(interval(&berlin("0 4 * * *"), at("2026-10-25T12:00:00Z")), hours(25));
        assert_eq!(interval(&berlin("0 4 * * *"), at("2026-03-29T12:00:00Z")), hours(24));
    }

    #[test]
    fn the_first_run_after_a_night_counts_the_night() {
        let schedule = berlin("*/15 9-17 * * *");
        let morning = Berlin.with_ymd_and_hms(2026, 6, 2, 9, 0, 1).unwrap().to_utc();
        assert_eq!(interval(&schedule, morning), Duration::from_secs(15 * 3600 + 15 * 60));
        let later = Berlin.with_ymd_and_hms(2026, 6, 2, 11, 0, 1).unwrap().to_utc();
        assert_eq!(interval(&schedule, later), Duration::from_secs(15 * 60));
    }

    #[tokio::test]
    async fn a_ticker_ticks_until_it_is_shut_down() {
        let ticker = Ticker::start().await.unwrap();
        let patience = Duration::from_secs(20);
        let ticked = Arc::clone(&ticker.ticked);
        for _ in 0..2 {
            timeout(patience, ticked.notified()).await.unwrap();
        }
        ticker.shutdown().await.unwrap();
        // One tick may have been on its way; two silent seconds are the end.
        let mut ticks = 0;
        while timeout(Duration::from_secs(2), ticked.notified()).await.is_ok() {
            ticks += 1;
            assert!(ticks <= 1, "it goes on");
        }
    }

    #[tokio::test]
    async fn a_tick_that_does_not_come_is_made_up() {
        let silent = Ticker { scheduler: JobScheduler::new().await.unwrap(), ticked: Arc::default() };
        timeout(Duration::from_secs(20), silent.tick()).await.unwrap();
    }
}
