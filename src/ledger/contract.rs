//! The contract that every [`Ledger`] keeps: the tables in Postgres, and the memory of the simulation.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{AskedAgain, BatchOutcome, Intent, Interrupted, LastRun, Ledger, LedgerError, Move, NewRequest, Place};
use crate::domain::breakers::Recent;
use crate::domain::cleanup::{Cleanup, RequestState, Timing};
use crate::domain::diff::{Orphan, OrphanKey};
use crate::domain::evidence::{Evidence, OrphanClock};
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Amount, Found, SourceIndex};
use crate::domain::live_set::{LiveSet, Population};
use crate::domain::markers::AdoptedStore;
use crate::domain::pins::{Position, SourcePin};
use crate::domain::plan::{Decided, Decision, Hold};
use crate::domain::report::{Mode, RunReport, Tally};

const MINUTE: Duration = Duration::from_secs(60);

/// Checks every promise of an empty ledger whose ids are integers.
pub(crate) async fn keeps(ledger: &dyn Ledger) {
    let suite = Suite { ledger, sources: vec!["first".to_owned(), "second".to_owned()] };
    ledger.check_version().await.unwrap();
    suite.runs_are_noted_and_the_latest_one_writes().await;
    suite.s10_a_run_without_an_end_was_cut_off_once_nobody_holds_the_lock().await;
    suite.ids_are_known_once_they_were_seen().await;
    suite.whose_a_course_is_outlives_it().await;
    suite.clocks_gain_when_a_run_finishes().await;
    suite.who_is_live_again_starts_anew().await;
    suite.who_was_live_when_its_cleanup_was_asked_for_starts_anew().await;
    suite.what_is_closed_is_forgotten().await;
    suite.an_intent_counts_until_its_outcome_does().await;
    suite.a_pause_keeps_batches_from_beginning().await;
    suite.what_was_recorded_and_has_waited_long_enough_wants_a_run().await;
    suite.a_request_is_open_until_it_is_answered_for_good().await;
    suite.s1_what_is_authorised_is_good_for_one_run_and_at_most_so_much_is_within_an_hour().await;
    suite.the_highest_population_is_remembered().await;
    suite.what_was_adopted_moves_in_two_steps().await;
    suite.a_lock_has_one_holder().await;
}

struct Suite<'a> {
    ledger: &'a dyn Ledger,
    sources: Vec<String>,
}

fn id(n: i64) -> CourseId {
    CourseId::Integer(n)
}

fn live(ids: &[i64]) -> LiveSet {
    LiveSet::from_ids(IdType::Integer, ids.iter().map(|n| id(*n)))
}

fn ids(ids: &[i64]) -> BTreeSet<CourseId> {
    ids.iter().map(|n| id(*n)).collect()
}

impl Suite<'_> {
    fn place(&self) -> Place<'_> {
        Place { store: "cache", sources: &self.sources }
    }

    async fn begin(&self, mode: Mode) -> (Uuid, DateTime<Utc>) {
        let run = Uuid::now_v7();
        let started_at = self.ledger.begin(run, mode).await.unwrap();
        (run, started_at)
    }

    async fn finish(&self, run: Uuid, started_at: DateTime<Utc>, clocks_count: bool) {
        let report = RunReport::begin(run, Mode::Run, "campus", started_at);
        self.ledger.finish(&report, clocks_count).await.unwrap();
    }

    /// An orphan whose clock will show `accrued` if its run finishes.
    fn orphan(course: i64, clock: OrphanClock, accrued: Duration) -> Orphan {
        Orphan {
            source: SourceIndex(1),
            course: id(course),
            evidence: Evidence::Departed,
            found: Found { amount: Amount::one(b"a key", Some(7)), entangled: 0, referenced: 0, locked: false },
            accrued,
            clock,
            referenced: false,
            restored: false,
            across_break: false,
            is_new: false,
            latched: None,
            approved: None,
        }
    }

    async fn clock(&self, course: i64) -> Option<OrphanClock> {
        let remembered = self.ledger.remembered(self.place()).await.unwrap();
        remembered.get(&(SourceIndex(1), id(course))).map(|orphan| orphan.clock)
    }

    async fn runs_are_noted_and_the_latest_one_writes(&self) {
        assert_eq!(self.ledger.last_start().await.unwrap().0, None);
        let (first, started_at) = self.begin(Mode::Run).await;
        assert_eq!(self.ledger.last_start().await.unwrap().0, Some(started_at));
        self.begin(Mode::Plan).await;
        let (last, now) = self.ledger.last_start().await.unwrap();
        assert!(last == Some(started_at) && now >= started_at, "a plan is no run");
        let refused = self.ledger.learn(first, &live(&[1]), false).await;
        assert!(matches!(refused, Err(LedgerError::Superseded)), "S10: {refused:?}");
        self.ledger.fail(first, "it stood still").await.unwrap();
        assert!(self.ledger.known_among(&ids(&[1])).await.unwrap().all.is_empty());
    }

    async fn s10_a_run_without_an_end_was_cut_off_once_nobody_holds_the_lock(&self) {
        assert_eq!(self.ledger.last_run().await.unwrap(), LastRun::Ended);
        let lock = self.ledger.lock().await.unwrap();
        let (first, _) = self.begin(Mode::Run).await;
        assert_eq!(self.ledger.last_run().await.unwrap(), LastRun::AtWork);
        lock.release().await;
        assert_eq!(self.ledger.last_run().await.unwrap(), LastRun::CutOff { again: false });
        self.begin(Mode::Plan).await;
        assert_eq!(self.ledger.last_run().await.unwrap(), LastRun::CutOff { again: false }, "a plan is no run");
        let (second, started_at) = self.begin(Mode::Run).await;
        assert_eq!(self.ledger.last_run().await.unwrap(), LastRun::CutOff { again: true });
        self.finish(second, started_at, false).await;
        assert_eq!(self.ledger.last_run().await.unwrap(), LastRun::Ended);
        self.ledger.fail(first, "it was cut off").await.unwrap();
    }

    async fn ids_are_known_once_they_were_seen(&self) {
        let (run, _) = self.begin(Mode::Run).await;
        self.ledger.learn(run, &live(&[1, 2, 3]), false).await.unwrap();
        self.ledger.learn(run, &live(&[2, 3]), false).await.unwrap();
        self.ledger.learn(run, &live(&[3]), true).await.unwrap();
        let known = self.ledger.known_among(&ids(&[1, 2, 3, 4])).await.unwrap();
        assert_eq!((known.all, known.across_break), (ids(&[1, 2, 3]), ids(&[2])));
        self.ledger.learn(run, &live(&[2, 3]), false).await.unwrap();
        let back = self.ledger.known_among(&ids(&[2])).await.unwrap();
        assert_eq!((back.all, back.across_break), (ids(&[2]), ids(&[])), "S7: it is there again");
    }

    async fn clocks_gain_when_a_run_finishes(&self) {
        let (run, _) = self.begin(Mode::Run).await;
        let seen = Self::orphan(9, OrphanClock::default(), MINUTE);
        self.ledger.record_orphans(run, self.place(), std::slice::from_ref(&seen), &[]).await.unwrap();
        assert_eq!(self.clock(9).await, Some(OrphanClock::default()), "S6: it has not finished");
        let remembered = self.ledger.remembered(self.place()).await.unwrap();
        assert_eq!(remembered[&(SourceIndex(1), id(9))].amount, seen.found.amount);

        let (run, started_at) = self.begin(Mode::Run).await;
        self.ledger.record_orphans(run, self.place(), &[seen], &[]).await.unwrap();
        self.finish(run, started_at, false).await;
        assert_eq!(self.clock(9).await, Some(OrphanClock::default()), "S6: a run that judged nothing counts nothing");

        let (run, started_at) = self.begin(Mode::Run).await;
        self.ledger
            .record_orphans(run, self.place(), &[Self::orphan(9, OrphanClock::default(), MINUTE)], &[])
            .await
            .unwrap();
        self.finish(run, started_at, true).await;
        let counted = OrphanClock { accrued: MINUTE, counted_at: Some(started_at) };
        assert_eq!(self.clock(9).await, Some(counted));

        assert!(self.ledger.start_clocks_anew().await.unwrap() >= 1);
        assert_eq!(self.clock(9).await, Some(OrphanClock::default()), "S7: history broke");
    }

    async fn who_is_live_again_starts_anew(&self) {
        let (run, started_at) = self.begin(Mode::Run).await;
        for course in [2, 9] {
            let orphan = Self::orphan(course, OrphanClock::default(), MINUTE);
            self.ledger.record_orphans(run, self.place(), &[orphan], &[]).await.unwrap();
        }
        self.finish(run, started_at, true).await;
        let (run, _) = self.begin(Mode::Run).await;
        self.ledger.learn(run, &live(&[3]), false).await.unwrap();
        self.ledger.learn(run, &live(&[2, 3]), false).await.unwrap();
        assert_eq!(self.clock(2).await, Some(OrphanClock::default()), "S6: it was there again");
        assert_eq!(self.clock(9).await.map(|clock| clock.accrued), Some(MINUTE));
    }

    /// Who was a stranger, and is known since somebody asked for its cleanup while it was live, is no arrival to the next run.
    async fn who_was_live_when_its_cleanup_was_asked_for_starts_anew(&self) {
        let accrue = async || {
            // The first sees it anew.
            for _ in 0..2 {
                let (run, started_at) = self.begin(Mode::Run).await;
                let orphan = Self::orphan(78, OrphanClock::default(), MINUTE);
                self.ledger.record_orphans(run, self.place(), &[orphan], &[]).await.unwrap();
                self.finish(run, started_at, true).await;
            }
            assert_eq!(self.clock(78).await.map(|clock| clock.accrued), Some(MINUTE));
        };
        accrue().await;
        let ask = |seen_live| NewRequest {
            course: id(78),
            timing: Timing::BeforeDelete,
            by: "platform".into(),
            key: None,
            seen_live,
            waiting: Some((None, MINUTE)),
        };
        self.ledger.request(&ask(false)).await.unwrap();
        assert_eq!(self.clock(78).await.map(|clock| clock.accrued), Some(MINUTE), "nobody saw it");
        self.ledger.request(&ask(true)).await.unwrap();
        assert_eq!(self.clock(78).await, Some(OrphanClock::default()), "S6: it was seen live");
        accrue().await;
        let (run, _) = self.begin(Mode::Run).await;
        self.ledger.learn(run, &live(&[78]), false).await.unwrap();
        assert_eq!(self.clock(78).await, Some(OrphanClock::default()), "S6: it lives, though it did not arrive");
        // And so it does if a run has read its clock before, and records it after.
        accrue().await;
        let (run, started_at) = self.begin(Mode::Run).await;
        let read = self.clock(78).await.unwrap();
        let request = self.ledger.request(&ask(true)).await.unwrap();
        self.ledger.record_orphans(run, self.place(), &[Self::orphan(78, read, 2 * MINUTE)], &[]).await.unwrap();
        self.finish(run, started_at, true).await;
        let counted = OrphanClock { accrued: Duration::ZERO, counted_at: Some(started_at) };
        assert_eq!(self.clock(78).await, Some(counted), "S6: it was seen live since");
        let answer = Cleanup::waiting("ended", "nobody waits", Vec::new());
        self.ledger.answer_requests(&[(request.id, RequestState::Done, answer)]).await.unwrap();
        self.ledger.close_orphans(self.place(), &[(SourceIndex(1), id(78))]).await.unwrap();
    }

    async fn what_is_closed_is_forgotten(&self) {
        let (run, _) = self.begin(Mode::Run).await;
        let key = |course| -> OrphanKey { (SourceIndex(1), id(course)) };
        self.ledger.record_orphans(run, self.place(), &[], &[key(2)]).await.unwrap();
        assert_eq!(self.clock(2).await, None);
        let elsewhere = Place { store: "elsewhere", sources: &self.sources };
        self.ledger.close_orphans(elsewhere, &[key(9)]).await.unwrap();
        assert!(self.clock(9).await.is_some(), "another store's");
        self.ledger.close_orphans(self.place(), &[key(9)]).await.unwrap();
        assert_eq!(self.clock(9).await, None);
    }

    fn intent(courses: &[i64]) -> Intent {
        Intent { courses: ids(courses), counting: ids(courses), handles: 2 }
    }

    async fn an_intent_counts_until_its_outcome_does(&self) {
        let (run, _) = self.begin(Mode::Run).await;
        let opened = self.ledger.open_intent(run, "cache", &Self::intent(&[7, 8])).await.unwrap().unwrap();
        assert_eq!(self.ledger.recent().await.unwrap().courses, ids(&[7, 8]), "S8: nobody knows what went");
        let outcome = BatchOutcome {
            tally: Tally { deleted: 1, bytes: 5, ..Tally::default() },
            deleted: ids(&[8]),
            counting: Recent { courses: ids(&[8]), bytes: 5 },
        };
        let open = async || self.ledger.open_intents().await.unwrap().remove("cache");
        let interrupted = |courses: &[i64]| Some(Interrupted { courses: ids(courses), runs: [run].into() });
        assert_eq!(open().await, interrupted(&[7, 8]));
        self.ledger.close_intent(&opened, &outcome, AskedAgain::Unanswered).await.unwrap();
        assert_eq!(open().await, interrupted(&[8]), "S11: nobody was asked about again");
        self.ledger.close_intent(&opened, &outcome, AskedAgain::Answered).await.unwrap();
        assert_eq!(open().await, None);
        assert_eq!(self.ledger.recent().await.unwrap(), Recent { courses: ids(&[8]), bytes: 5 });
    }

    async fn a_pause_keeps_batches_from_beginning(&self) {
        let (run, _) = self.begin(Mode::Run).await;
        assert!(self.ledger.paused().await.unwrap().is_none());
        self.ledger.pause("look first").await.unwrap();
        assert_eq!(self.ledger.pause("again").await.unwrap().reason, "look first", "the first one stays");
        assert_eq!(self.ledger.open_intent(run, "cache", &Self::intent(&[7])).await.unwrap(), None);
        assert_eq!(self.ledger.paused().await.unwrap().map(|pause| pause.reason).as_deref(), Some("look first"));
        assert!(self.ledger.resume().await.unwrap().is_some());
        assert!(self.ledger.resume().await.unwrap().is_none());
        assert!(self.ledger.open_intent(run, "cache", &Self::intent(&[7])).await.unwrap().is_some());
    }

    async fn what_was_recorded_and_has_waited_long_enough_wants_a_run(&self) {
        let ledger = self.ledger;
        let is_over = async |grace| ledger.grace_is_over(grace).await.unwrap();
        let (run, started_at) = self.begin(Mode::Run).await;
        let tombstoned =
            Orphan { evidence: Evidence::Tombstoned, ..Self::orphan(71, OrphanClock::default(), Duration::ZERO) };
        ledger.record_orphans(run, self.place(), std::slice::from_ref(&tombstoned), &[]).await.unwrap();
        self.finish(run, started_at, true).await;
        assert!(!is_over(Duration::ZERO).await, "nothing was decided yet");
        let waits = Decision::Held(Hold::Grace { left_seconds: 60 });
        let decided = |decision| [Decided { orphan: tombstoned.clone(), decision }];
        ledger.record_decisions(self.place(), &decided(waits)).await.unwrap();
        assert_eq!([is_over(Duration::ZERO).await, is_over(60 * MINUTE).await], [true, false]);
        self.begin(Mode::Plan).await;
        assert!(is_over(Duration::ZERO).await, "a plan takes nothing");
        self.begin(Mode::Run).await;
        assert!(!is_over(Duration::ZERO).await, "the run that it wanted has begun, whatever comes of it");
        let (run, started_at) = self.begin(Mode::Run).await;
        ledger.record_orphans(run, self.place(), std::slice::from_ref(&tombstoned), &[]).await.unwrap();
        self.finish(run, started_at, true).await;
        ledger.record_decisions(self.place(), &decided(waits)).await.unwrap();
        assert!(is_over(Duration::ZERO).await, "seen again, and over since");
        ledger.record_decisions(self.place(), &decided(Decision::Held(Hold::Referenced))).await.unwrap();
        assert!(!is_over(Duration::ZERO).await, "it does not wait for time");
        ledger.close_orphans(self.place(), &[(tombstoned.source, tombstoned.course)]).await.unwrap();

        assert_eq!(ledger.seen_tombstones().await.unwrap(), [].into());
        let newest = |row| [("campus".to_owned(), row)].into();
        ledger.saw_tombstones(&newest(3)).await.unwrap();
        ledger.saw_tombstones(&newest(5)).await.unwrap();
        assert_eq!(ledger.seen_tombstones().await.unwrap(), newest(5));
    }

    async fn whose_a_course_is_outlives_it(&self) {
        let ledger = self.ledger;
        let (run, _) = self.begin(Mode::Run).await;
        ledger.learn(run, &live(&[91, 92, 93]), false).await.unwrap();
        let unknown = ledger.without_organization(1000).await.unwrap();
        assert!(ids(&[91, 92, 93]).is_subset(&unknown), "{unknown:?}");
        assert_eq!(ledger.without_organization(1).await.unwrap().len(), 1);
        let told = [(id(91), "acme".to_owned()), (id(92), String::new()), (id(99), "acme".to_owned())];
        ledger.note_organizations(&told.into()).await.unwrap();
        let unknown = ledger.without_organization(1000).await.unwrap();
        assert!(unknown.contains(&id(93)) && unknown.is_disjoint(&ids(&[91, 92])), "{unknown:?}");
        let (run, _) = self.begin(Mode::Run).await;
        ledger.learn(run, &live(&[]), false).await.unwrap();
        let of = async |course| ledger.organization_of(id(course)).await.unwrap();
        assert_eq!([of(91).await, of(92).await, of(99).await], [Some("acme".to_owned()), None, None]);
        assert_eq!(ledger.without_organization(1000).await.unwrap(), ids(&[]), "nobody tells of the dead");
    }

    async fn a_request_is_open_until_it_is_answered_for_good(&self) {
        let ledger = self.ledger;
        let ask = |course, timing, key: Option<&str>| NewRequest {
            course: id(course),
            timing,
            by: "platform".into(),
            key: key.map(str::to_owned),
            seen_live: timing == Timing::BeforeDelete,
            waiting: (timing == Timing::BeforeDelete)
                .then(|| (Some(Cleanup::waiting("x", "it lives", Vec::new())), MINUTE)),
        };
        let gone = ledger.request(&ask(81, Timing::AfterDelete, Some("a"))).await.unwrap();
        assert_eq!((gone.course_id, gone.state, gone.expires_at), (id(81), RequestState::Open, None));
        assert_eq!(ledger.request(&ask(89, Timing::AfterDelete, Some("a"))).await.unwrap(), gone, "the same key");
        let other = NewRequest { by: "somebody else".into(), ..ask(82, Timing::AfterDelete, Some("a")) };
        let other = ledger.request(&other).await.unwrap();
        let live = ledger.request(&ask(83, Timing::BeforeDelete, None)).await.unwrap();
        let twice = ledger.request(&ask(83, Timing::BeforeDelete, None)).await.unwrap();
        assert_ne!(live.id, twice.id, "without a key each is a request");
        assert_eq!(live.expires_at, Some(live.requested_at + MINUTE));
        let open = ledger.open_requests().await.unwrap();
        assert_eq!(open, [gone.clone(), other.clone(), twice.clone()], "the latest stands for those before it");
        assert_eq!(ledger.unanswered().await.unwrap(), [ids(&[81, 82]), ids(&[83])]);
        assert_eq!(ledger.known_among(&ids(&[81, 83])).await.unwrap().all, ids(&[83]), "who was seen live existed");

        let run = Uuid::now_v7();
        let answer = |run| Cleanup { run, ..Cleanup::waiting("halted", "nobody knows", Vec::new()) };
        let answers = [
            (gone.id, RequestState::Done, answer(Some(run))),
            (other.id, RequestState::Open, answer(None)),
            (twice.id, RequestState::Open, answer(Some(run))),
        ];
        ledger.answer_requests(&answers).await.unwrap();
        assert_eq!(ledger.unanswered().await.unwrap(), [ids(&[]), ids(&[])]);
        let live = ledger.request_of(live.id).await.unwrap().unwrap();
        assert_eq!((live.state, live.answer), (RequestState::Open, Some(answer(Some(run)))), "it has the same answer");
        let since = ledger.request(&ask(83, Timing::BeforeDelete, None)).await.unwrap();
        ledger.answer_requests(&[(twice.id, RequestState::Done, answer(Some(run)))]).await.unwrap();
        assert_eq!(ledger.unanswered().await.unwrap(), [ids(&[]), ids(&[83])], "who asked since has no answer by it");
        ledger.answer_requests(&[(gone.id, RequestState::Open, answer(None))]).await.unwrap();
        let done = ledger.request_of(gone.id).await.unwrap().unwrap();
        assert_eq!((done.state, done.answer), (RequestState::Done, Some(answer(Some(run)))), "what is done stays so");
        let open: Vec<_> = ledger.open_requests().await.unwrap().iter().map(|request| request.id).collect();
        assert_eq!(open, [other.id, since.id]);
        assert_eq!(ledger.request_of(Uuid::nil()).await.unwrap(), None);
    }

    async fn s1_what_is_authorised_is_good_for_one_run_and_at_most_so_much_is_within_an_hour(&self) {
        let ledger = self.ledger;
        let ask = |course| NewRequest {
            course: id(course),
            timing: Timing::BeforeDelete,
            by: "platform".into(),
            key: None,
            seen_live: true,
            waiting: Some((None, MINUTE)),
        };
        let mut requests = Vec::new();
        for course in [111, 112, 113] {
            requests.push(ledger.request(&ask(course)).await.unwrap());
        }
        assert!(requests.iter().all(|request| request.answer.is_none() && request.expires_at.is_some()));
        assert!(!ledger.are_authorised().await.unwrap());
        let authorise = async |nth: usize| ledger.authorise(&requests[nth], 2).await.unwrap();
        let authorised = [authorise(0).await, authorise(1).await, authorise(2).await, authorise(0).await];
        assert_eq!(authorised, [true, true, false, true], "two an hour, and one a request");
        assert!(ledger.are_authorised().await.unwrap());
        let (run, _) = self.begin(Mode::Run).await;
        assert_eq!(*ledger.take_authorised(run).await.unwrap().courses(), ids(&[111, 112]));
        assert!(!ledger.are_authorised().await.unwrap());
        assert!(authorise(0).await, "it was");
        let (run, _) = self.begin(Mode::Run).await;
        assert_eq!(*ledger.take_authorised(run).await.unwrap().courses(), ids(&[]), "each is good for one run");
        assert!(!authorise(2).await, "whether used or not");
        for request in requests {
            let answer = Cleanup::waiting("x", "done", Vec::new());
            ledger.answer_requests(&[(request.id, RequestState::Done, answer)]).await.unwrap();
        }
    }

    async fn the_highest_population_is_remembered(&self) {
        for size in [10, 12, 11] {
            let (run, _) = self.begin(Mode::Run).await;
            let population = Population { source: "campus".into(), live: size, highest: None, accepted: None };
            self.ledger.record_populations(run, &[population]).await.unwrap();
        }
        let highest = self.ledger.highest_populations().await.unwrap();
        assert_eq!(highest.into_iter().collect::<Vec<_>>(), [("campus".to_owned(), 12)]);
    }

    async fn what_was_adopted_moves_in_two_steps(&self) {
        assert_eq!(self.ledger.adoption().await.unwrap(), None);
        let pin = SourcePin {
            system: Some("7".into()),
            database: "campus".into(),
            id_type: "integer".into(),
            query: "abc".into(),
            relations: Vec::new(),
        };
        let at = |lsn| Position { timeline: Some(1), lsn: Some(lsn) };
        let pins = [("campus".to_owned(), pin.clone(), at(5))];
        let installation = self.ledger.pin("campus", &pins, true).await.unwrap();
        let sources = [("first".to_owned(), true)];
        self.ledger.adopt_store("cache", &sources, 4).await.unwrap();
        let store = async || self.ledger.adoption().await.unwrap().unwrap().stores["cache"].clone();
        let here = Some("this server".to_owned());
        let server = here.as_deref();
        let counts = |counter, pending, moved_in: &Option<String>| AdoptedStore {
            sources: sources.to_vec(),
            counter,
            pending,
            moved_in: moved_in.clone(),
            objected: false,
        };
        assert_eq!(store().await, counts(4, None, &None));
        let begin = async |from, to| {
            let step = Move { run: None, from, to, server };
            self.ledger.begin_move("cache", &step).await.unwrap()
        };
        assert!(!begin(3, 4).await, "S7: it is not there");
        assert!(begin(4, 5).await);
        assert_eq!(store().await, counts(4, Some(5), &here));
        assert!(begin(5, 6).await, "the interrupted move came to the store");
        self.ledger.end_move("cache", 5).await.unwrap();
        assert_eq!(store().await, counts(5, Some(6), &here), "another move's end");
        self.ledger.end_move("cache", 6).await.unwrap();
        assert_eq!(store().await, counts(6, None, &here));
        assert!(begin(6, 7).await);
        for (from, to) in [(5, 7), (6, 8)] {
            self.ledger.withdraw_move("cache", from, to).await.unwrap();
            assert_eq!(store().await, counts(6, Some(7), &here), "another move was refused");
        }
        self.ledger.withdraw_move("cache", 6, 7).await.unwrap();
        assert_eq!(store().await, counts(6, None, &here), "S7: what is at that count is not ours");

        let (overtaken, _) = self.begin(Mode::Run).await;
        let (run, _) = self.begin(Mode::Run).await;
        let by = async |run| {
            let step = Move { run: Some(run), from: 6, to: 7, server };
            self.ledger.begin_move("cache", &step).await
        };
        assert!(matches!(by(overtaken).await, Err(LedgerError::Superseded)), "S7: it lost its turn");
        assert_eq!(store().await, counts(6, None, &here));
        assert!(by(run).await.unwrap());
        self.ledger.withdraw_move("cache", 6, 7).await.unwrap();
        self.ledger.saw_source(run, "campus", &pin, &at(9)).await.unwrap();
        let adoption = self.ledger.adoption().await.unwrap().unwrap();
        assert_eq!((adoption.installation, &adoption.sources["campus"]), (installation, &(pin, at(9))));
        assert_eq!(self.ledger.pin("campus", &pins, false).await.unwrap(), installation, "made once");
        assert_eq!(store().await, counts(6, None, &here), "pinning anew leaves the stores");
    }

    async fn a_lock_has_one_holder(&self) {
        let held = self.ledger.lock().await.unwrap();
        held.verify().await.unwrap();
        let error = self.ledger.lock().await.unwrap_err();
        assert!(matches!(&error, LedgerError::Postgres(error) if error.is_locked()), "{error}");
        held.release().await;
        self.ledger.lock().await.unwrap().release().await;
    }
}
