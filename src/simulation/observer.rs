//! Who watches the contract: sees each effect at the moment in which it happens, and knows the truth that the collector can only ask for.
//!
//! It keeps books of its own and shares no code with what it judges.

mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::cluster::Tables;
use super::stage::{PERSON, STORES};
use super::world::Who;
use crate::domain::approvals::HoldKind;
use crate::domain::cleanup::{Request, Timing};
use crate::domain::diff::Orphan;
use crate::domain::ids::CourseId;
use crate::domain::inventory::SourceIndex;
use crate::domain::live_set::LiveSet;
use crate::domain::report::Mode;
use crate::ledger::Approval;
use crate::stores::{Marker, Referenced};

/// What the contract is, in numbers. The collector's limits may be others; these are judged by.
#[derive(Debug, Clone, Copy)]
pub struct Contract {
    pub confirmation: Duration,
    pub tombstoned: Duration,
    pub departed: Duration,
    pub stranger: Duration,
    /// The most that a clock may gain between two finished runs.
    pub at_most: Duration,
    pub refuse_drop_percent: u64,
    /// How long it may take until a run takes what was authorised.
    pub authorised: Duration,
    pub courses_a_day: usize,
}

/// Why a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    AboutOrphans,
    BeforePurge,
    BeforeDelete,
    AfterDelete,
}

/// What a process has done in its current pass.
#[derive(Debug, Clone, Default)]
struct Pass {
    run: Uuid,
    plans: bool,
    started: DateTime<Utc>,
    /// How often history had been broken when it began.
    breaks: u64,
    /// How many were live when the live set was read, and when that was.
    live: usize,
    read_at: Duration,
    /// The tombstones that it read: since when each course's newest is there.
    graves: BTreeMap<CourseId, Duration>,
    /// The requests that it read.
    requests: BTreeSet<Uuid>,
    /// Those whose things may go in this run though they live.
    authorised: BTreeSet<CourseId>,
    questions: usize,
    /// Its first batch has begun, or was to.
    intends: bool,
    /// Live when their copies expired: somebody must be told.
    live_copies: BTreeSet<CourseId>,
    /// By shelf: the last copy that was finished.
    copies: BTreeMap<usize, String>,
    reference_questions: usize,
    asked: BTreeMap<CourseId, Asked>,
    /// What was referred to, and when that was asked.
    references: Option<(Duration, BTreeSet<Vec<u8>>)>,
    /// The shelves whose marker was ours, and to what it was moved.
    moved: BTreeMap<usize, Marker>,
    /// What the last look at a shelf's marker could see.
    looked: BTreeMap<usize, Look>,
    incomplete: BTreeSet<String>,
    /// By store: its orphans, as they were recorded.
    orphans: BTreeMap<String, Vec<Orphan>>,
    /// What each store's inventory showed of each course.
    sighted: BTreeMap<(String, SourceIndex, CourseId), BTreeSet<Vec<u8>>>,
    /// The orphans of which nothing may go, since something alive refers to all of it.
    referred_to: BTreeSet<Place>,
    /// How many resources went, and how many had gone before.
    gone: u64,
    absent: u64,
    /// How many had gone when they were to be copied. Where the batch was given up then, nobody tells of them.
    missing: u64,
    /// The stores whose resources could not be located to the end.
    unlocated: BTreeSet<String>,
    /// Whom what went named, until they are asked about again.
    unconfirmed: BTreeSet<CourseId>,
    /// Live when what names them went, and not yet asked about again.
    harmed: BTreeSet<CourseId>,
    /// Found live by the question after the delete: somebody must be told.
    to_tell: BTreeSet<CourseId>,
    /// What went though somebody was live whom it names: shelf, key, and who.
    owed: Vec<(usize, Vec<u8>, Vec<CourseId>)>,
}

/// The last answer about a course.
#[derive(Debug, Clone, Copy)]
struct Asked {
    asking: Asking,
    live: bool,
    /// The last answer that said dead, if this one says live.
    dead_before: Option<Asking>,
}

/// When, and whom, somebody asked.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    pub at: Duration,
    /// The lock was held when the answer was given.
    pub lock_held: bool,
    /// Who answered was the truth that was adopted.
    pub adopted: bool,
    /// How often a ledger's history had been broken.
    pub breaks: u64,
}

/// A look at a store's marker.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub at: Duration,
    /// Our entry was in it.
    pub is_ours: bool,
}

/// What was seen of an orphan, by our own books.
#[derive(Debug, Clone)]
struct Seen {
    keys: BTreeSet<Vec<u8>>,
    accrued: Duration,
    last_start: DateTime<Utc>,
}

/// What a ledger had been told at one moment.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Of orphans.
    seen: BTreeMap<(usize, String, SourceIndex, CourseId), Seen>,
    /// Of how many were live.
    believed: Vec<(DateTime<Utc>, usize)>,
    /// Of who was.
    seen_live: BTreeMap<(usize, CourseId), Duration>,
}

/// The books.
#[derive(Debug, Default)]
pub struct Observer {
    pub contract: Option<Contract>,
    /// What broke the contract, in words.
    pub violations: Vec<String>,
    /// How many resources went.
    pub deletions: u64,
    /// How often a ledger's history was broken.
    pub breaks: u64,
    /// What happened, for whoever replays a seed.
    pub story: Vec<String>,
    /// When the latest of what is [ordered](Observer::in_order) was.
    latest: Duration,
    passes: BTreeMap<Who, Pass>,
    /// By ledger, store, source and course.
    seen: BTreeMap<(usize, String, SourceIndex, CourseId), Seen>,
    /// By ledger: when a course was last seen live by whoever told the ledger.
    seen_live: BTreeMap<(usize, CourseId), Duration>,
    /// What the delete path asked for: of which course, seen from its row, and when.
    requests: BTreeMap<Uuid, (CourseId, Timing, Duration)>,
    /// What the application authorised.
    authorisations: Vec<Authorisation>,
    /// When a ledger last heard that a course is live.
    found_live_at: BTreeMap<(usize, CourseId), Duration>,
    /// Whose sightings of a store a ledger holds.
    recorded_by: BTreeMap<(usize, String), Uuid>,
    /// Sizes that a run believed, by ledger.
    believed: BTreeMap<usize, Vec<(DateTime<Utc>, usize)>>,
    /// What went when, by ledger.
    gone: BTreeMap<usize, Vec<(DateTime<Utc>, CourseId)>>,
    /// When a shelf's marker was moved since it was adopted, and by which run.
    movers: BTreeMap<usize, Vec<(Duration, Uuid)>>,
    /// By ledger: courses that a restore took, and nobody has accepted yet.
    pub taken: BTreeMap<usize, BTreeSet<CourseId>>,
    /// By ledger: orphans that a breaker held, and that were orphans ever since; and since when.
    latched: BTreeMap<usize, BTreeMap<Place, Duration>>,
    /// What a person approved.
    approvals: Vec<Word>,
    /// The copies of which something went.
    copies_of_what_went: BTreeSet<String>,
}

/// An orphan's store, source and course.
pub type Place = (String, SourceIndex, CourseId);

/// The application's word that what a course has may go though it lives: soon, and once.
#[derive(Debug, Clone)]
struct Authorisation {
    ledger: usize,
    course: CourseId,
    at: DateTime<Utc>,
    /// The run that it was for.
    run: Option<Uuid>,
}

/// A person's word that this was meant.
#[derive(Debug)]
struct Word {
    ledger: usize,
    kind: HoldKind,
    orphans: BTreeSet<Place>,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Observer {
    /// Notes what happened.
    pub fn note(&mut self, what: impl Into<String>) {
        self.story.push(what.into());
    }

    fn pass(&mut self, who: Who) -> &mut Pass {
        self.passes.entry(who).or_default()
    }

    fn violation(&mut self, line: &str, what: String) {
        self.note(format!("BROKEN {line}: {what}"));
        self.violations.push(format!("{line}: {what}"));
    }

    pub fn began(&mut self, who: Who, run: Uuid, mode: Mode, started: DateTime<Utc>) {
        self.note(format!("{who:?} begins a {} at {started}", mode.as_str()));
        let (plans, breaks) = (mode == Mode::Plan, self.breaks);
        self.passes.insert(who, Pass { run, plans, started, breaks, ..Pass::default() });
    }

    /// The clock stands still while much happens, and it counts what came first: later by a nanosecond than whatever came before.
    fn in_order(&mut self, at: Duration) -> Duration {
        self.latest = at.max(self.latest + Duration::from_nanos(1));
        self.latest
    }

    /// The live set was read.
    pub fn read(&mut self, who: Who, live: usize, at: Duration) {
        let at = self.in_order(at);
        let pass = self.pass(who);
        (pass.live, pass.read_at) = (live, at);
    }

    /// Tombstones were read: each course's newest, and since when it is there.
    pub fn polled(&mut self, who: Who, graves: BTreeMap<CourseId, Duration>) {
        let pass = self.pass(who);
        // What is read after the live set is no evidence.
        if pass.read_at.is_zero() {
            pass.graves = graves;
        }
    }

    /// What the delete path asked for was read.
    pub fn requests_read(&mut self, who: Who, requests: &[Request]) {
        let pass = self.pass(who);
        // As with tombstones.
        if pass.read_at.is_zero() {
            pass.requests = requests.iter().map(|request| request.id).collect();
        }
    }

    /// Somebody asked for a course to be cleaned up.
    pub fn requested(&mut self, request: &Request, at: Duration) {
        let at = self.in_order(at);
        self.requests.insert(request.id, (request.course_id, request.timing, at));
    }

    /// The application has what a live course has deleted.
    pub fn authorised(&mut self, ledger: usize, course: CourseId, at: DateTime<Utc>) {
        self.note(format!("what {course} has may go, says the application"));
        self.authorisations.push(Authorisation { ledger, course, at, run: None });
    }

    /// A copy of a ledger knows what was authorised, too.
    pub fn ledger_is_copied(&mut self, from: usize, to: usize) {
        let copied: Vec<_> = self.authorisations.iter().filter(|it| it.ledger == from).cloned().collect();
        self.authorisations.extend(copied.into_iter().map(|it| Authorisation { ledger: to, ..it }));
    }

    /// A run takes what is authorised. What an earlier one took is not.
    pub fn authorised_run(&mut self, who: Who, ledger: usize) {
        let Self { passes, authorisations, contract, .. } = self;
        let pass = passes.entry(who).or_default();
        let open = authorisations.iter_mut().filter(|it| it.ledger == ledger && it.run.is_none());
        for authorisation in open {
            authorisation.run = Some(pass.run);
            // In the end nobody judges by times.
            if contract.is_none_or(|it| authorisation.at > pass.started - it.authorised) {
                pass.authorised.insert(authorisation.course);
            }
        }
    }

    /// The live set was believed and learned.
    pub fn learned(&mut self, who: Who, ledger: usize, live: &LiveSet, at: Duration) {
        let Pass { started, read_at, .. } = *self.pass(who);
        self.heard(ledger, live, at);
        self.seen_live.extend(live.iter().map(|course| ((ledger, course), read_at)));
        let accepted = self.words(ledger, HoldKind::Halt).map(|word| word.since).max();
        // What was believed before somebody accepted a size says nothing any more.
        if accepted.is_none_or(|since| started > since) {
            self.believed.entry(ledger).or_default().push((started, live.len()));
        }
        if let Some(taken) = self.taken.get_mut(&ledger) {
            taken.retain(|course| !live.contains(*course));
        }
    }

    /// A question found these live, and the ledger has heard of it.
    pub fn found_live(&mut self, (who, ledger): (Who, usize), live: &LiveSet, at: Duration) {
        self.heard(ledger, live, at);
        let asked = self.pass(who).asked.clone();
        let seen = live.iter().filter_map(|course| Some(((ledger, course), asked.get(&course)?.asking.at)));
        self.seen_live.extend(seen);
    }

    fn heard(&mut self, ledger: usize, live: &LiveSet, at: Duration) {
        self.found_live_at.extend(live.iter().map(|course| ((ledger, course), at)));
        self.seen.retain(|(of, .., course), _| *of != ledger || !live.contains(*course));
        if let Some(latched) = self.latched.get_mut(&ledger) {
            latched.retain(|(.., course), _| !live.contains(*course));
        }
    }

    /// Why these ids are asked about, as far as can be told from outside.
    pub fn next_question(&mut self, who: Who, ids: &BTreeSet<CourseId>) -> Question {
        let pass = self.pass(who);
        pass.questions += 1;
        match pass.questions {
            1 => Question::AboutOrphans,
            _ if !pass.intends => Question::BeforePurge,
            _ if ids.is_subset(&pass.unconfirmed) => {
                pass.unconfirmed.retain(|course| !ids.contains(course));
                Question::AfterDelete
            }
            _ => Question::BeforeDelete,
        }
    }

    /// A batch begins: what was to be purged has been.
    pub fn intends(&mut self, who: Who) {
        self.pass(who).intends = true;
    }

    /// A copy of something on a shelf was finished, under this name.
    pub fn copied(&mut self, who: Who, shelf: usize, copy: &str) {
        self.pass(who).copies.insert(shelf, copy.to_owned());
    }

    /// What should not have gone is there again. Whatever becomes of it now is the application's doing.
    pub fn put_back(&mut self, who: Who, shelf: usize, key: &[u8]) {
        self.pass(who).owed.retain(|(of, owed, _)| (*of, &owed[..]) != (shelf, key));
    }

    /// An inventory showed a resource.
    pub fn sighted(&mut self, who: Who, store: &str, source: SourceIndex, owner: CourseId, key: &[u8]) {
        let keys = self.pass(who).sighted.entry((store.to_owned(), source, owner)).or_default();
        keys.insert(key.to_vec());
    }

    pub fn next_reference_question(&mut self, who: Who) -> usize {
        let pass = self.pass(who);
        pass.reference_questions += 1;
        pass.reference_questions - 1
    }

    pub fn asked(&mut self, who: Who, ids: &BTreeSet<CourseId>, live: &LiveSet, asked: Asking) {
        let pass = self.pass(who);
        // Stores ask at the same time: an answer that took long does not stand in for one to a later question.
        let is_older = |id: &&CourseId| pass.asked.get(*id).is_some_and(|before| before.asking.at > asked.at);
        let newer: Vec<CourseId> = ids.iter().filter(|id| !is_older(id)).copied().collect();
        for id in &newer {
            // Who is authorised to go is taken for dead.
            let live = live.contains(*id) && !pass.authorised.contains(id);
            let before = pass
                .asked
                .get(id)
                .and_then(|before| if before.live { before.dead_before } else { Some(before.asking) });
            pass.asked.insert(*id, Asked { asking: asked, live, dead_before: before.filter(|_| live) });
        }
    }

    /// An answer came back.
    pub fn answered(&mut self, who: Who, live: &LiveSet) {
        let pass = self.pass(who);
        let (told, rest) = pass.harmed.iter().partition(|course| live.contains(**course));
        pass.harmed = rest;
        pass.to_tell.extend::<BTreeSet<CourseId>>(told);
        if pass.questions > 1 && !pass.intends {
            pass.live_copies.extend(live.iter());
        }
    }

    pub fn references(&mut self, who: Who, rows: &BTreeSet<Vec<u8>>, at: Duration) {
        self.pass(who).references = Some((at, rows.clone()));
    }

    /// What is referred to when orphans are looked for is no part of what waits; where that is all of it, the clock starts now (S9).
    pub fn set_aside(&mut self, who: Who, store: &str, referenced: &Referenced) {
        let pass = self.pass(who);
        // Later questions are about batches.
        if pass.reference_questions > 1 {
            return;
        }
        for ((of, source, course), keys) in pass.sighted.iter_mut().filter(|((of, ..), _)| of == store) {
            let rest: BTreeSet<Vec<u8>> =
                keys.iter().filter(|key| !referenced.keys.contains(&key[..])).cloned().collect();
            if referenced.holds(*course) || rest.is_empty() {
                pass.referred_to.insert((of.clone(), *source, *course));
            } else {
                *keys = rest;
            }
        }
    }

    pub fn incomplete(&mut self, who: Who, store: &str) {
        self.pass(who).incomplete.insert(store.to_owned());
    }

    /// What was to be deleted could not all be found.
    pub fn unlocated(&mut self, who: Who, store: &str) {
        self.pass(who).unlocated.insert(store.to_owned());
    }

    /// A delete found something, or nothing.
    pub fn touched(&mut self, who: Who, found: bool) {
        let pass = self.pass(who);
        *(if found { &mut pass.gone } else { &mut pass.absent }) += 1;
    }

    /// What was to be copied had gone.
    pub fn missed(&mut self, who: Who) {
        self.pass(who).missing += 1;
    }

    /// What a ledger was told, for whoever makes a backup of it.
    pub fn told(&self, ledger: usize) -> Told {
        let of_ledger = self.seen.iter().filter(|((of, ..), _)| *of == ledger);
        Told {
            seen: of_ledger.map(|(orphan, seen)| (orphan.clone(), seen.clone())).collect(),
            believed: self.believed.get(&ledger).cloned().unwrap_or_default(),
            seen_live: self.seen_live.iter().filter(|((of, _), _)| *of == ledger).map(|(it, at)| (*it, *at)).collect(),
        }
    }

    /// A ledger came back that had lost nothing that a run did: it knows what it knew. (That a plan saw somebody alive since, or how
    /// many were, is forgotten with it, which is a known gap.)
    pub fn recall(&mut self, ledger: usize, told: &Told) {
        self.seen.retain(|(of, ..), _| *of != ledger);
        self.seen.extend(told.seen.iter().map(|(orphan, seen)| (orphan.clone(), seen.clone())));
        self.believed.insert(ledger, told.believed.clone());
    }

    /// The ledger and the campus went back together: who was seen live since, was so in a history that is none.
    pub fn recall_the_living(&mut self, ledger: usize, told: &Told) {
        self.seen_live.retain(|(of, _), _| *of != ledger);
        self.seen_live.extend(told.seen_live.clone());
        // So did which run took what was authorised.
        self.authorisations.iter_mut().filter(|it| it.ledger == ledger).for_each(|it| it.run = None);
    }

    /// Orphans go into the ledger: each was asked about after it was seen.
    pub fn recorded(&mut self, who: Who, ledger: usize, store: &str, orphans: &[Orphan]) {
        let pass = self.pass(who).clone();
        // What a pass saw before history broke is forgotten by the next one.
        if let Some(contract) = self.contract.filter(|_| pass.breaks == self.breaks) {
            let most = |it: &Orphan| self.accrued(&contract, &pass, ledger, store, (it.source, it.course));
            // What was asked before history broke is written in good faith: the next run sees the break, and starts every clock anew.
            let in_flight =
                |it: &&Orphan| pass.asked.get(&it.course).is_some_and(|asked| asked.asking.breaks != self.breaks);
            // So is what was asked before somebody found it live: the ledger knows better.
            let found_live = |it: &&Orphan| {
                let asked_at = pass.asked.get(&it.course).map(|asked| asked.asking.at);
                self.found_live_at.get(&(ledger, it.course)).is_some_and(|at| asked_at.is_some_and(|asked| *at > asked))
            };
            let ahead: Vec<String> = orphans
                .iter()
                .filter(|orphan| !in_flight(orphan) && !found_live(orphan))
                // What vanished across a break waits for a person, whose approval starts its clock anew. One that expires while a run is
                // at work did not.
                .filter(|orphan| !orphan.across_break)
                // Of what only names somebody alive nothing goes, however long it waits.
                .filter(|orphan| orphan.found.amount.resources > 0 && orphan.accrued > most(orphan))
                .map(|orphan| {
                    let (course, source, shown, seen) = (orphan.course, orphan.source, orphan.accrued, most(orphan));
                    format!(
                        "the clock of {course} in {source:?} of {store} shows {shown:?}, and it was seen for {seen:?}"
                    )
                })
                .collect();
            ahead.into_iter().for_each(|what| self.violation("S6", what));
        }
        let run = self.pass(who).run;
        self.recorded_by.insert((ledger, store.to_owned()), run);
        let pass = self.pass(who);
        pass.orphans.insert(store.to_owned(), orphans.to_vec());
        let unasked = orphans.iter().find(|orphan| pass.asked.get(&orphan.course).is_none_or(|asked| asked.live));
        if let Some(orphan) = unasked {
            let course = orphan.course;
            self.violation("S2", format!("{course} of {store} was taken for an orphan without asking again"));
        }
    }

    /// A run has finished and its sightings count.
    pub fn finished(&mut self, who: Who, ledger: usize) {
        let Some(contract) = self.contract else { return };
        let pass = self.pass(who).clone();
        for (store, orphans) in &pass.orphans {
            // Whoever was frozen meanwhile ends his run on what somebody else has seen since.
            if self.recorded_by.get(&(ledger, store.clone())) != Some(&pass.run) {
                continue;
            }
            let still: BTreeSet<_> = orphans.iter().map(|orphan| (orphan.source, orphan.course)).collect();
            self.seen.retain(|(of, at, source, course), _| {
                *of != ledger || at != store || still.contains(&(*source, *course))
            });
            for orphan in orphans {
                let accrued = self.accrued(&contract, &pass, ledger, store, (orphan.source, orphan.course));
                let keys =
                    pass.sighted.get(&(store.clone(), orphan.source, orphan.course)).cloned().unwrap_or_default();
                let key = (ledger, store.clone(), orphan.source, orphan.course);
                self.seen.insert(key, Seen { keys, accrued, last_start: pass.started });
            }
        }
    }

    /// What the clock of an orphan may show at most in this pass.
    fn accrued(
        &self,
        contract: &Contract,
        pass: &Pass,
        ledger: usize,
        store: &str,
        (source, course): (SourceIndex, CourseId),
    ) -> Duration {
        let place = (store.to_owned(), source, course);
        if pass.referred_to.contains(&place) {
            return Duration::ZERO;
        }
        // What vanished across a break waits anew from its approval on.
        let approved = self
            .words(ledger, HoldKind::Discontinuity)
            .filter(|word| word.until > pass.started && word.since <= pass.started);
        let since = approved.filter(|word| word.orphans.contains(&place)).map(|word| word.since).min();
        let before = self.seen.get(&(ledger, store.to_owned(), source, course));
        let before = before.filter(|before| since.is_none_or(|since| before.last_start >= since));
        let keys = pass.sighted.get(&(store.to_owned(), source, course));
        match (before, keys) {
            (Some(before), Some(keys)) if keys.len() < before.keys.len() || *keys == before.keys => {
                let passed = (pass.started - before.last_start).to_std().unwrap_or_default();
                before.accrued + passed.min(contract.at_most)
            }
            _ => Duration::ZERO,
        }
    }

    /// Somebody looked at a marker.
    pub fn looked(&mut self, who: Who, shelf: usize, look: Look) {
        self.pass(who).looked.insert(shelf, look);
    }

    /// What this pass moved a marker to.
    pub fn moved_to(&mut self, who: Who, shelf: usize) -> Option<Marker> {
        self.pass(who).moved.get(&shelf).cloned()
    }

    pub fn moved(&mut self, who: Who, shelf: usize, to: &Marker, at: Duration) {
        // A person who adopts is no run.
        if who == PERSON {
            return;
        }
        let pass = self.pass(who);
        let (run, plans) = (pass.run, pass.plans);
        pass.moved.insert(shelf, to.clone());
        if plans {
            self.violation("S14", format!("a plan moved the marker of shelf {shelf}"));
        }
        self.movers.entry(shelf).or_default().push((at, run));
    }

    /// True if these tables know every run that moved a marker.
    pub fn knows_every_move(&self, tables: &Tables) -> bool {
        let known = |(_, run): &(Duration, Uuid)| tables.runs.iter().any(|known| known.id == *run);
        self.movers.values().flatten().all(known)
    }

    /// A person pinned what is there: what a restore took is accepted.
    pub fn pinned(&mut self, ledger: usize) {
        self.note("a person pins what is there");
        self.taken.remove(&ledger);
    }

    /// A person says that a store is ours, whatever its marker shows.
    pub fn adopted(&mut self, store: &str) {
        self.note(format!("a person adopts {store}"));
        self.movers.retain(|shelf, _| STORES[*shelf] != store);
    }

    fn words(&self, ledger: usize, kind: HoldKind) -> impl Iterator<Item = &Word> + '_ {
        self.approvals.iter().filter(move |word| word.ledger == ledger && word.kind == kind)
    }

    /// True if a person approved this before now, and the word had not expired when the pass began.
    fn is_approved(&self, ledger: usize, kind: HoldKind, orphan: &Place, started: DateTime<Utc>) -> bool {
        self.words(ledger, kind).any(|word| word.until > started && word.orphans.contains(orphan))
    }

    /// A person approves orphans, or the size of a live set.
    pub fn approved(&mut self, ledger: usize, approval: &Approval, orphans: BTreeSet<Place>, size: Option<u64>) {
        let Approval { kind, approved_at: since, until, .. } = *approval;
        self.note(format!("a person approves {} of ledger {ledger}: {orphans:?} {size:?}", kind.as_str()));
        if let Some(size) = size {
            self.believed.insert(ledger, vec![(since, size as usize)]);
        }
        self.approvals.push(Word { ledger, kind, orphans, since, until });
    }

    /// The ledger noted that a breaker holds this.
    pub fn held_by_breaker(&mut self, ledger: usize, orphan: Place, at: Duration) {
        self.latched.entry(ledger).or_default().entry(orphan).or_insert(at);
    }

    /// The ledger no longer has this orphan.
    pub fn closed(&mut self, ledger: usize, orphan: &Place) {
        self.latched.entry(ledger).or_default().remove(orphan);
    }

    /// The history of a truth broke, or its limits were moved by a person: what was seen before says nothing.
    pub fn forget_sightings(&mut self, ledger: usize) {
        self.breaks += 1;
        self.note(format!("sightings of ledger {ledger} say nothing any more"));
        self.seen.retain(|(of, ..), _| *of != ledger);
        self.believed.remove(&ledger);
        self.gone.remove(&ledger);
        self.latched.remove(&ledger);
    }
}
