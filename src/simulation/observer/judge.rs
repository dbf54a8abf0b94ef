//! Was a delete right? Each line of the contract is a question of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Asked, Asking, Contract, Observer, Pass, Place};
use crate::domain::approvals::HoldKind;
use crate::domain::cleanup::Timing;
use crate::domain::ids::{CourseId, IdType};
use crate::domain::report::{RunReport, StoreReport};
use crate::simulation::cluster::{Cluster, Tables};
use crate::simulation::shelf::Resource;
use crate::simulation::stage::{EXCLUSIVE, REFERENCES, STORES};
use crate::simulation::world::{Home, State, Who};

/// The lines of the contract that a delete breaks, each with what happened, in words.
type Broken = Vec<(&'static str, String)>;

/// A resource that went, and everything that it is judged by.
struct Delete<'a> {
    contract: Contract,
    observer: &'a Observer,
    pass: &'a Pass,
    campus: &'a Cluster,
    tables: &'a Tables,
    ledger: usize,
    shelf: usize,
    key: &'a [u8],
    resource: &'a Resource,
    owner: CourseId,
    sent_at: Duration,
}

impl State {
    /// A resource went. Was that right?
    pub fn judge_delete(&mut self, who: Who, shelf: usize, key: &[u8], resource: &Resource, sent_at: Duration) {
        let Some(contract) = self.observer.contract else { return };
        let Some(owner) = resource.owner else {
            self.observer.violation("S5", "something without an owner was deleted".to_owned());
            return;
        };
        let Home { campus, ledger } = self.homes[&who];
        let pass = self.observer.pass(who).clone();
        let (campus, tables, observer) = (&self.clusters[campus], &self.clusters[ledger].ledger, &self.observer);
        let delete =
            Delete { contract, observer, pass: &pass, campus, tables, ledger, shelf, key, resource, owner, sent_at };
        let (broken, counts, named) = (delete.judge(), !delete.is_approved(HoldKind::Breakers), delete.named());
        let lives = |id: &CourseId| campus.courses.contains_key(id) && !pass.authorised.contains(id);
        let harmed: Vec<CourseId> = named.iter().copied().filter(lives).collect();

        self.observer.deletions += 1;
        self.observer.copies_of_what_went.extend(pass.copies.get(&shelf).cloned());
        if counts {
            self.observer.gone.entry(ledger).or_default().push((pass.started, owner));
        }
        if !self.is_copied(pass.run, STORES[shelf], owner) {
            let what = format!("{} of {} went without a copy", key.escape_ascii(), STORES[shelf]);
            self.observer.violation("S12", what);
        }
        let current = self.observer.pass(who);
        if !harmed.is_empty() {
            current.owed.push((shelf, key.to_vec(), harmed.clone()));
        }
        current.unconfirmed.extend(named);
        current.harmed.extend(harmed);
        for (line, what) in broken {
            self.observer.violation(line, what);
        }
    }
}

impl State {
    /// S1: what went though somebody whom it names was live is back, or the report or the ledger says that it is not.
    pub fn judge_put_back(&mut self, who: Who, report: &RunReport) {
        let told: BTreeSet<CourseId> =
            report.stores.iter().flat_map(|store| &store.live_after_delete).copied().collect();
        let pass = self.observer.pass(who).clone();
        let Home { campus, ledger } = self.homes[&who];
        let is_owed = self.clusters[ledger].ledger.intents.iter().any(|it| it.open && it.intent.run == pass.run);
        if is_owed || report.stores.iter().any(|store| !store.failures.is_empty()) {
            return;
        }
        for (shelf, key, harmed) in &pass.owed {
            let lives = |id: &&CourseId| told.contains(id) && self.clusters[campus].courses.contains_key(id);
            let Some(id) = harmed.iter().find(lives) else { continue };
            if !self.shelves[*shelf].resources.contains_key(key) {
                let what = format!("{id} turned out live, and {} was not put back", key.escape_ascii());
                self.observer.violation("S1", what);
            }
        }
    }
}

impl State {
    /// S12: the header of a finished copy is to go, and with it the copy; or, which is wrong, a part of it before. It had expired, and everybody
    /// whom it names was found dead a moment ago; or nothing went of what it holds.
    pub fn judge_purge(&mut self, who: Who, name: &str, sent_at: Duration) {
        let Some(contract) = self.observer.contract else { return };
        let batch = name.split_once('.').map_or(name, |(batch, _)| batch);
        let Some(header) = self.vault.get(&format!("{batch}.json")) else { return };
        let header: serde_json::Value = serde_json::from_slice(header).unwrap();
        let text = |key: &str| header[key].as_str().unwrap().to_owned();
        let named = header["named"].as_array().unwrap().iter();
        let named = named.map(|id| IdType::Integer.parse(id.as_str().unwrap().as_bytes()).unwrap());
        let pass = self.observer.pass(who);
        let wrong = if !name.ends_with(".json") {
            Some("its header is still there".to_owned())
        } else if text("expires_at").parse::<DateTime<Utc>>().unwrap() <= pass.started {
            let why = |id: &CourseId| match pass.asked.get(id) {
                None => Some("was never asked about"),
                Some(asked) if asked.live => Some("was live when asked"),
                Some(asked) if !asked.asking.lock_held => Some("was asked about without the lock"),
                Some(asked) if !asked.asking.adopted => Some("was asked about from another truth than was adopted"),
                Some(asked) if sent_at.saturating_sub(asked.asking.at) > contract.confirmation => {
                    Some("was asked about too long ago")
                }
                Some(_) => None,
            };
            named.into_iter().find_map(|id| Some(format!("{id} {}", why(&id)?)))
        } else {
            self.observer.copies_of_what_went.contains(batch).then(|| "it had not expired".to_owned())
        };
        if let Some(why) = wrong {
            self.observer.violation("S12", format!("copy {name} was purged: {why}"));
        }
    }
}

impl Observer {
    /// A pass came to its end.
    pub fn ended(&mut self, who: Who, report: &RunReport) {
        let verdict = report.verdict.as_str();
        let held = report.halt.as_deref().unwrap_or_default();
        self.note(format!("{who:?} ends {verdict}, {} deleted {held}", report.swept().deleted));
        let told: BTreeSet<CourseId> =
            report.stores.iter().flat_map(|store| &store.live_after_delete).copied().collect();
        let untold: Vec<CourseId> = self.pass(who).to_tell.difference(&told).copied().collect();
        // An answer that was lost on its way back tells nobody; then the intent stays open, and the next run asks.
        let excused = report.stores.iter().any(|store| store.failures.iter().any(|it| it.contains("confirm again")));
        if !untold.is_empty() && !excused {
            self.violation("S1", format!("{untold:?} turned out live after the delete, and nobody was told"));
        }
        let unasked = self.pass(who).harmed.clone();
        if !unasked.is_empty() && !excused {
            self.violation("S1", format!("{unasked:?} were live when deleted, and were not asked about again"));
        }
        let told: BTreeSet<CourseId> = report.quarantine.iter().flat_map(|it| &it.live_again).copied().collect();
        let untold: Vec<CourseId> = self.pass(who).live_copies.difference(&told).copied().collect();
        if !untold.is_empty() {
            self.violation("S12", format!("copies of {untold:?} expired, who are live again, and nobody was told"));
        }
        self.judge_report(who, report);
    }

    /// S11: what a report tells is what happened, but for calls whose answers were lost: they may have done their work.
    fn judge_report(&mut self, who: Who, report: &RunReport) {
        let (pass, swept) = (self.pass(who).clone(), report.swept());
        let told = |told: u64, happened: u64| (told..=told + swept.failed).contains(&happened);
        let absent = pass.absent <= swept.absent + swept.failed && swept.absent <= pass.absent + pass.missing;
        if !told(swept.deleted, pass.gone) || !absent || swept.bytes != swept.deleted {
            let Pass { gone, absent, .. } = pass;
            self.violation("S11", format!("{gone} went and {absent} had gone, and the report tells of {swept:?}"));
        }
        let tells = |store: &StoreReport| store.error.is_some() || report.paused.is_some();
        let untold = report.stores.iter().find(|store| pass.unlocated.contains(&store.name) && !tells(store));
        if let Some(store) = untold {
            self.violation("S11", format!("{} was not swept to its end, and the report does not say so", store.name));
        }
    }
}

impl Delete<'_> {
    fn judge(&self) -> Broken {
        let lines = [
            self.confirmation(),
            self.live_set(),
            self.inventory(),
            self.grace(),
            self.place(),
            self.breakers(),
            self.references(),
            self.mode(),
        ];
        let mut broken: Broken = lines.into_iter().flatten().collect();
        // The one batch that was in flight when history broke was right when it was asked about.
        if self.is_in_flight() {
            broken.retain(|(line, _)| !matches!(*line, "S3" | "S6" | "S7" | "S8"));
        }
        broken
    }

    fn name(&self) -> String {
        format!("{}'s {} of {}", self.owner, self.key.escape_ascii(), STORES[self.shelf])
    }

    /// Whoever it names, its owner last.
    fn named(&self) -> Vec<CourseId> {
        self.resource.mentions.iter().chain([&self.owner]).copied().collect()
    }

    fn orphan(&self) -> Place {
        (STORES[self.shelf].to_owned(), self.resource.source, self.owner)
    }

    fn is_approved(&self, kind: HoldKind) -> bool {
        self.observer.is_approved(self.ledger, kind, &self.orphan(), self.pass.started)
    }

    fn is_fresh(&self, asked_at: Duration) -> bool {
        self.sent_at.saturating_sub(asked_at) <= self.contract.confirmation
    }

    /// It came to life after its batch was confirmed, and was found live by another store's batch since: this one is in flight.
    fn is_overtaken(&self, id: CourseId) -> bool {
        let asked = self.pass.asked.get(&id).filter(|asked| asked.live);
        let dead = asked.and_then(|asked| asked.dead_before).filter(|dead: &Asking| self.is_fresh(dead.at));
        dead.is_some_and(|dead| self.campus.courses.get(&id).is_none_or(|born| *born >= dead.at))
    }

    /// Something that was not so yet when it was asked about has been heard of since: history broke, or its owner was found live, by
    /// another store's batch or by the run of another process.
    fn is_in_flight(&self) -> bool {
        let Some(Asked { asking, live, .. }) = self.pass.asked.get(&self.owner) else { return false };
        let found_live = self.observer.found_live_at.get(&(self.ledger, self.owner));
        let came_back = !live && self.is_fresh(asking.at) && found_live.is_some_and(|at| *at > asking.at);
        came_back || self.is_overtaken(self.owner) || asking.breaks != self.observer.breaks
    }

    /// S1, S2, S5, S7, S10: everybody whom it names was asked about, and found dead, by the right truth, a moment ago.
    fn confirmation(&self) -> Broken {
        let each = self.named().into_iter().filter(|id| !self.is_overtaken(*id));
        each.filter_map(|id| self.confirmed(id)).collect()
    }

    fn confirmed(&self, id: CourseId) -> Option<(&'static str, String)> {
        let (line, what) = match self.pass.asked.get(&id) {
            None if id == self.owner => ("S1", "was never asked about"),
            None => ("S5", "was never asked about"),
            Some(asked) if asked.live => ("S1", "was live when asked"),
            Some(asked) if !self.is_fresh(asked.asking.at) => ("S2", "was confirmed too long ago"),
            Some(asked) if !asked.asking.lock_held => ("S10", "was confirmed without the lock"),
            Some(asked) if !asked.asking.adopted => ("S7", "was confirmed by another truth than was adopted"),
            Some(_) => return None,
        };
        Some((line, format!("{id} {what}, {}", self.name())))
    }

    /// S3: the live set was not far smaller than any in seven days.
    fn live_set(&self) -> Broken {
        let week = self.pass.started - TimeDelta::days(7);
        let believed = self.observer.believed.get(&self.ledger).into_iter().flatten();
        let highest = believed.filter(|(at, _)| *at > week).map(|(_, live)| *live).max().unwrap_or(0);
        let (live, least) = (self.pass.live as u64 * 100, highest as u64 * (100 - self.contract.refuse_drop_percent));
        let too_small = live == 0 || live < least;
        let what = || format!("{} went though {} of {highest} courses were live", self.name(), self.pass.live);
        too_small.then(|| ("S3", what())).into_iter().collect()
    }

    /// S4: its store was listed to the end.
    fn inventory(&self) -> Broken {
        let incomplete = self.pass.incomplete.contains(STORES[self.shelf]);
        let what = || format!("{} went though its store was not listed to the end", self.name());
        incomplete.then(|| ("S4", what())).into_iter().collect()
    }

    /// S6: it was seen as an orphan for long enough; and a stranger only where there are no others'.
    fn grace(&self) -> Broken {
        let mut broken = Broken::new();
        let tombstoned = self.pass.graves.get(&self.owner).is_some_and(|at| self.died_after(*at));
        let known = tombstoned || self.is_known();
        let grace = match (tombstoned, known) {
            (_, true) if self.is_requested() => Duration::ZERO,
            (true, _) => self.contract.tombstoned,
            (false, true) => self.contract.departed,
            (false, false) => self.contract.stranger,
        };
        let orphan = (self.resource.source, self.owner);
        let seen = self.observer.accrued(&self.contract, self.pass, self.ledger, STORES[self.shelf], orphan);
        if seen < grace {
            let about = self.requests().map(|(_, timing, at)| (timing, at)).collect::<Vec<_>>();
            let seen_live = self.observer.seen_live.get(&(self.ledger, self.owner));
            let what = format!(
                "{} was seen for {seen:?} of {grace:?} (seen live at {seen_live:?}; asked for: {about:?})",
                self.name()
            );
            broken.push(("S6", what));
        }
        if !known && !EXCLUSIVE[self.shelf] {
            broken.push(("S6", format!("{} is a stranger in a shared source", self.name())));
        }
        broken
    }

    /// Nobody who told the ledger has seen its owner live since then.
    fn died_after(&self, at: Duration) -> bool {
        self.observer.seen_live.get(&(self.ledger, self.owner)).is_none_or(|seen| at > *seen)
    }

    /// Somebody asked for it, and the word still stands: its owner was not seen live since, unless its row was to go later.
    fn is_requested(&self) -> bool {
        self.requests().any(|(_, timing, at)| *timing == Timing::BeforeDelete || self.died_after(*at))
    }

    /// What was asked for of its owner, as the run read it.
    fn requests(&self) -> impl Iterator<Item = &(CourseId, Timing, Duration)> {
        let requests = self.pass.requests.iter().filter_map(|id| self.observer.requests.get(id));
        requests.filter(|(course, ..)| *course == self.owner)
    }

    fn is_known(&self) -> bool {
        self.tables.known.contains_key(&self.owner)
    }

    /// S7: the store is ours, the ledger the latest, and what a restore took was accepted.
    fn place(&self) -> Broken {
        let mut broken = Broken::new();
        if !self.pass.moved.contains_key(&self.shelf) {
            broken.push(("S7", format!("{} lay in a store that was not ours when the run began", self.name())));
        }
        let look = self.pass.looked.get(&self.shelf).filter(|look| self.is_fresh(look.at));
        match look {
            None => broken.push(("S7", format!("{} lay where nobody had looked at the marker again", self.name()))),
            Some(look) if !look.is_ours => {
                broken.push(("S7", format!("{} lay in a store that was not ours with its batch", self.name())));
            }
            Some(_) => {}
        }
        // What moves on between the look and the delete finds the batch in flight.
        let moves = self.observer.movers.get(&self.shelf).into_iter().flatten();
        let mut seen = moves.filter(|(at, _)| look.is_none_or(|look| *at <= look.at));
        if !seen.all(|(_, run)| self.tables.runs.iter().any(|known| known.id == *run)) {
            broken.push(("S7", format!("{} went by a ledger that is not the latest", self.name())));
        }
        let taken = self.observer.taken.get(&self.ledger).is_some_and(|taken| taken.contains(&self.owner));
        if self.is_known() && taken && !self.is_approved(HoldKind::Discontinuity) {
            broken.push(("S7", format!("{} vanished in a restore, and nobody accepted it", self.name())));
        }
        broken
    }

    /// S8: no pause was in force when its batch began, no breaker held it, and not too much went in a day.
    fn breakers(&self) -> Broken {
        let mut broken = Broken::new();
        let begun_since = |since: DateTime<Utc>| {
            let of_store = self.tables.intents.iter().filter(|it| it.intent.store == STORES[self.shelf]);
            of_store.into_iter().any(|intent| intent.open && intent.opened_at > since)
        };
        if self.tables.paused.as_ref().is_some_and(|(_, since)| begun_since(*since)) {
            broken.push(("S8", format!("{} went in a pause", self.name())));
        }
        if self.is_approved(HoldKind::Breakers) {
            return broken;
        }
        // Whoever lost the lock has one batch in flight, which knows nothing of what another run held since it was confirmed.
        let confirmed_at = self.pass.asked.get(&self.owner).map_or(self.sent_at, |asked| asked.asking.at);
        let latched_at = self.observer.latched.get(&self.ledger).and_then(|latched| latched.get(&self.orphan()));
        if latched_at.is_some_and(|at| *at <= confirmed_at) {
            broken.push(("S8", format!("{} was held by a breaker, and nobody approved it", self.name())));
        }
        let yesterday = self.pass.started - TimeDelta::hours(24);
        let gone = self.observer.gone.get(&self.ledger).into_iter().flatten();
        let recent = gone.filter(|(at, _)| *at > yesterday).map(|(_, course)| *course);
        let courses: BTreeSet<CourseId> = recent.chain([self.owner]).collect();
        if courses.len() > self.contract.courses_a_day {
            broken.push(("S8", format!("{} is of the {}th course in a day", self.name(), courses.len())));
        }
        broken
    }

    /// S9: nothing alive referred to it when that was asked, a moment ago.
    fn references(&self) -> Broken {
        if !REFERENCES[self.shelf] {
            return Broken::new();
        }
        let what = match &self.pass.references {
            Some((_, rows)) if rows.contains(self.key) => "is referred to",
            Some((at, _)) if !self.is_fresh(*at) => "went though references were asked too long ago",
            Some(_) => return Broken::new(),
            None => "went though references were never asked",
        };
        vec![("S9", format!("{} {what}", self.name()))]
    }

    /// S14: a plan deletes nothing.
    fn mode(&self) -> Broken {
        self.pass.plans.then(|| ("S14", format!("a plan deleted {}", self.name()))).into_iter().collect()
    }
}
