//! A collector's run: the order of `reconcile`, then of S11 batch by batch. Each step does one thing that others can see,
//! and anything may happen between two of them. What a step decides is in `decide`.

use crate::decide;
use crate::protocol::Protocol;
use crate::safeguards::Safeguard;
use crate::scenario::{Event, Place};
use crate::world::{Collector, Database, Intent, Known, Ledger, Set, State, Step, Witness};

/// A collector about to do its next step.
pub struct Turn<'a> {
    protocol: &'a Protocol,
    state: State,
    me: usize,
}

/// Does a collector's next step.
pub fn step(protocol: &Protocol, state: &State, me: usize) -> State {
    let mut turn = Turn { protocol, state: *state, me };
    match state.collectors[me].at {
        Step::Idle => turn.take_the_lock(),
        Step::Locked => turn.check_the_place(),
        Step::Announced => turn.move_the_marker(),
        Step::Moved => turn.read_the_truth(),
        Step::Read => turn.take_inventory(),
        Step::Looked => turn.record_and_decide(),
        Step::Planned if state.collectors[me].plan.is_empty() => turn.finish(),
        Step::Planned => turn.intend(),
        Step::Intended => turn.copy(),
        Step::Copied => turn.confirm(),
        Step::Confirmed => turn.send(),
        Step::Sending => turn.land(),
        Step::Landed => turn.note(),
        Step::Noted => turn.confirm_again(),
        Step::Halted => turn.end(),
    }
    turn.state
}

/// True if there is a next step.
pub fn can_step(protocol: &Protocol, state: &State, me: usize) -> bool {
    let collector = &state.collectors[me];
    if collector.at != Step::Idle {
        return true;
    }
    let exists = me == 0 || if collector.on_clone { state.clone.is_some() } else { protocol.scenario.standby };
    let free = state.home(me).lock.is_empty() || !protocol.keeps(Safeguard::OneLock);
    exists && free && state.spent.on(Event::Run) < protocol.scenario.budget(Event::Run)
}

/// The collector dies, and its sessions with it.
pub fn crash(state: &mut State, me: usize) {
    let database = state.home_mut(me);
    database.lock = database.lock.without(me);
    state.collectors[me] = Collector::idle(state.collectors[me].on_clone);
}

/// The inventory breaks off, or nobody knows what is referred to: the store is held (S4, S9), and the run goes on without it.
pub fn break_off(protocol: &Protocol, state: &State, me: usize) -> State {
    let mut turn = Turn { protocol, state: *state, me };
    turn.state.spent.spend(Event::BreakOff);
    match state.collectors[me].at {
        Step::Looked => turn.close_without_references(),
        _ => turn.go(Step::Looked),
    }
    turn.mine().seen = None;
    turn.state
}

/// True if something could break off now.
pub fn can_break_off(state: &State, me: usize) -> bool {
    let collector = &state.collectors[me];
    collector.at == Step::Read || (collector.at == Step::Looked && collector.seen.is_some())
}

impl Turn<'_> {
    fn keeps(&self, safeguard: Safeguard) -> bool {
        self.protocol.keeps(safeguard)
    }

    fn mine(&mut self) -> &mut Collector {
        &mut self.state.collectors[self.me]
    }

    fn go(&mut self, at: Step) {
        self.mine().at = at;
    }

    fn database(&mut self) -> &mut Database {
        self.state.home_mut(self.me)
    }

    fn ledger(&mut self) -> &mut Ledger {
        &mut self.database().ledger
    }

    /// A question in the session that holds the lock; without an answer if it does not hold it any more (S10).
    fn ask(&self) -> Option<Set> {
        let database = self.state.home(self.me);
        let counts = database.lock.has(self.me) || !self.keeps(Safeguard::LockWithQuestion);
        counts.then(|| database.answer())
    }

    /// Ends the run, whether it did anything or not; nobody's clock moves.
    fn end(&mut self) {
        let me = self.me;
        crash(&mut self.state, me);
    }

    // 1. Locks, pins, counts.

    fn take_the_lock(&mut self) {
        self.state.spent.spend(Event::Run);
        let (me, run, now) = (self.me, self.state.spent.on(Event::Run), self.state.now);
        let database = self.database();
        database.lock = database.lock.with(me);
        *self.mine() = Collector { at: Step::Locked, run, started: now, ..Collector::idle(self.mine().on_clone) };
    }

    fn check_the_place(&mut self) {
        let (uses, marker) = (self.state.ghost.uses, self.state.store.marker);
        let database = *self.database();
        let ledger = database.ledger;
        if self.keeps(Safeguard::PinnedIdentity) && database.system != ledger.system {
            return self.go(Step::Halted);
        }
        let counts_match = decide::marker_is_right(&ledger, marker);
        if self.keeps(Safeguard::MarkerCount) && !counts_match {
            return self.go(Step::Halted);
        }
        let nothing_was_lost = self.protocol.scenario.ledger == Place::Beside && counts_match;
        if decide::history_broke(&database, &ledger) && !nothing_was_lost {
            self.mine().across_break = true;
            if self.keeps(Safeguard::RestartOnBreak) {
                let ledger = self.ledger();
                ledger.orphans.iter_mut().flatten().for_each(start_anew);
            }
        }
        if !self.keeps(Safeguard::BreakSeenUntilMarked) {
            self.ledger().position = (database.timeline, database.log);
        }
        self.mine().from = marker;
        self.mine().position = (database.timeline, database.log);
        self.mine().missed = uses > ledger.uses;
        if self.keeps(Safeguard::AnnouncedMove) {
            let ledger = self.ledger();
            ledger.count = marker;
            ledger.pending = Some(marker + 1);
        }
        if !self.mine().missed {
            self.ledger().uses = uses + 1;
        }
        self.go(Step::Announced);
    }

    fn move_the_marker(&mut self) {
        let from = self.mine().from;
        if self.keeps(Safeguard::CompareAndSet) && self.state.store.marker != from {
            return self.go(Step::Halted);
        }
        self.state.store.marker = from + 1;
        self.state.ghost.uses += 1;
        let uses = self.state.ghost.uses;
        let known = self.ledger().uses;
        self.mine().missed |= uses > known;
        self.go(Step::Moved);
    }

    // 2. The live set.

    fn read_the_truth(&mut self) {
        let to = self.mine().from + 1;
        let announced = self.keeps(Safeguard::AnnouncedMove);
        let ledger = self.ledger();
        if ledger.pending == Some(to) || !announced {
            ledger.count = to;
            ledger.pending = None;
        }
        let Some(live) = self.ask() else { return self.end() };
        if self.keeps(Safeguard::RefuseEmpty) && decide::refuses(live) {
            return self.end();
        }
        self.learn(live);
        // Whatever was committed meanwhile moved the log on.
        let before = self.mine().position;
        let database = self.database();
        database.log += 1;
        database.seen = live;
        let after = (database.timeline, database.log);
        self.ledger().position = if self.keeps(Safeguard::PositionAfterTruth) { after } else { before };
        self.mine().live = live;
        self.go(Step::Read);
    }

    fn learn(&mut self, live: Set) {
        let across_break = self.mine().across_break;
        let restarts = self.keeps(Safeguard::RestartAtRead);
        let slots = self.protocol.scenario.slots.clone();
        let ledger = self.ledger();
        for course in 0..ledger.known.len() {
            match (ledger.known[course], live.has(course)) {
                (Known::Present, false) => ledger.known[course] = Known::Departed { across_break },
                (Known::Never | Known::Departed { .. }, true) => {
                    ledger.known[course] = Known::Present;
                    let theirs = ledger.orphans.iter_mut().zip(&slots).filter(|(_, slot)| slot.owner == course);
                    if restarts {
                        theirs.filter_map(|(orphan, _)| orphan.as_mut()).for_each(start_anew);
                    }
                }
                _ => {}
            }
        }
        for (witness, _) in ledger.witness.iter_mut().zip(&slots).filter(|(_, slot)| live.has(slot.owner)) {
            *witness = Witness::anew(witness.version);
        }
    }

    // 3. to 5. Inventory, diff, gates.

    fn take_inventory(&mut self) {
        self.mine().seen = Some(self.state.store.content);
        self.go(Step::Looked);
    }

    fn record_and_decide(&mut self) {
        let Some(live) = self.ask() else { return self.end() };
        let Some(seen) = self.mine().seen else { return self.go(Step::Planned) };
        let database = *self.database();
        let verdict = decide::judge(self.protocol, &self.state.collectors[self.me], seen, live, &database);
        let mut plan = verdict.sweep;
        for (slot, version) in seen.into_iter().enumerate().take(self.protocol.scenario.slots.len()) {
            self.record(slot, &verdict);
            if self.settle(slot, live) && !self.keeps(Safeguard::EveryGateAgain) && verdict.orphans[slot].is_some() {
                plan = plan.with(slot);
            }
            self.bear_witness(slot, version, live);
        }
        self.mine().plan = plan;
        self.go(Step::Planned);
    }

    /// Nothing is recorded and nothing planned, but who is alive is alive.
    fn close_without_references(&mut self) {
        let Some(live) = self.ask() else { return self.end() };
        let closes = self.keeps(Safeguard::CloseReappearedAnyway);
        for (slot, resource) in self.protocol.scenario.slots.iter().enumerate() {
            self.settle(slot, live);
            if live.has(resource.owner) {
                let ledger = self.ledger();
                ledger.witness[slot] = Witness::anew(ledger.witness[slot].version);
                if closes {
                    ledger.orphans[slot] = None;
                }
            }
        }
        self.go(Step::Planned);
    }

    fn record(&mut self, slot: usize, verdict: &decide::Verdict) {
        let finished_only = self.keeps(Safeguard::FinishedRunsCount);
        let started = self.mine().started;
        let closes = self.keeps(Safeguard::CloseReappeared);
        let remembered = &mut self.ledger().orphans[slot];
        if let Some(mut orphan) = verdict.orphans[slot] {
            if !finished_only {
                (orphan.accrued, orphan.counted_at) = (orphan.pending, Some(started));
            }
            *remembered = Some(orphan);
        } else if verdict.closed.has(slot) && closes {
            *remembered = None;
        }
    }

    /// Closes what an earlier run left open, and puts back what turned out live. True if there was anything.
    fn settle(&mut self, slot: usize, live: Set) -> bool {
        let is_open = |intent: &Intent| matches!(intent, Intent::Open | Intent::Landed);
        if !self.keeps(Safeguard::Settle) || !self.ledger().intents[slot].iter().any(is_open) {
            return false;
        }
        for intent in self.ledger().intents[slot].iter_mut().filter(|intent| is_open(intent)) {
            *intent = Intent::Closed;
        }
        if live.has(self.protocol.scenario.slots[slot].owner) && self.keeps(Safeguard::PutBackWhatWasOpen) {
            self.put_back(slot);
        }
        true
    }

    fn bear_witness(&mut self, slot: usize, version: u8, live: Set) {
        let owner = self.protocol.scenario.slots[slot].owner;
        let before = self.mine().live;
        let database = self.database();
        let referenced = database.referenced.has(slot);
        let witness = &mut database.ledger.witness[slot];
        let alive = before.has(owner) || live.has(owner);
        if alive || referenced || version == 0 || version != witness.version {
            *witness = Witness::anew(version);
        }
    }

    fn put_back(&mut self, slot: usize) {
        let store = &mut self.state.store;
        if let Some(version) = store.copies[slot].last()
            && store.content[slot] == 0
        {
            store.content[slot] = u8::try_from(version).unwrap();
        }
        // The copy stays until it expires. Where something new stands already, the old one stays in quarantine, and whoever is on call is told.
        self.state.ghost.owed = self.state.ghost.owed.without(slot);
    }

    // 6. A batch: intent, copy, confirm, send, outcome, confirm again.

    fn intend(&mut self) {
        let plan = self.mine().plan;
        let slot = plan.first().unwrap();
        let me = self.me;
        if self.keeps(Safeguard::IntentFirst) {
            self.ledger().intents[slot][me] = Intent::Open;
        }
        let mine = self.mine();
        (mine.plan, mine.batch) = (plan.without(slot), slot);
        (mine.hit, mine.alive, mine.stale, mine.copied) = (false, false, false, 0);
        self.go(Step::Intended);
    }

    fn copy(&mut self) {
        let slot = self.mine().batch;
        let version = self.state.store.content[slot];
        if version == 0 {
            return self.go(Step::Landed);
        }
        if self.keeps(Safeguard::CopyFirst) {
            let copies = &mut self.state.store.copies[slot];
            *copies = copies.with(version.into());
        }
        self.mine().copied = version;
        self.go(Step::Copied);
    }

    fn confirm(&mut self) {
        let slot = self.mine().batch;
        let answer = match (self.keeps(Safeguard::Confirm), self.keeps(Safeguard::NewTransaction)) {
            (false, _) => Some(Set::EMPTY),
            (true, true) => self.ask(),
            (true, false) => self.ask().map(|_| self.state.collectors[self.me].live),
        };
        let Some(live) = answer else {
            // The session is lost: no other batch of this run can be confirmed either.
            self.mine().plan = Set::EMPTY;
            return self.go(Step::Landed);
        };
        let referenced = self.keeps(Safeguard::ReferencesAgain) && self.database().referenced.has(slot);
        let owner = self.protocol.scenario.slots[slot].owner;
        let named = decide::visible(self.protocol, live, slot, 1) == 0;
        self.mine().alive = live.has(owner);
        let condemned = !live.has(owner) && !named && !referenced;
        self.go(if condemned { Step::Confirmed } else { Step::Landed });
    }

    fn send(&mut self) {
        let too_old = self.mine().stale && self.keeps(Safeguard::Freshness);
        self.go(if too_old { Step::Landed } else { Step::Sending });
    }

    fn land(&mut self) {
        let (slot, copied) = (self.mine().batch, self.mine().copied);
        let owner = self.protocol.scenario.slots[slot].owner;
        let another = !self.database().lock.without(self.me).is_empty();
        let alive = self.database().live.has(owner);
        let content = self.state.store.content[slot];
        if content != 0 && (content == copied || !self.keeps(Safeguard::OnlyWhatWasCopied)) {
            self.state.store.content[slot] = 0;
            self.mine().hit = true;
            self.mine().lockless += u8::from(another);
            if alive && !self.mine().on_clone {
                self.state.ghost.owed = self.state.ghost.owed.with(slot);
            }
        }
        self.go(Step::Landed);
    }

    fn note(&mut self) {
        let (me, slot) = (self.me, self.mine().batch);
        let (hit, alive) = (self.mine().hit, self.mine().alive);
        let gone = self.state.store.content[slot] == 0;
        let stays_open = hit && self.keeps(Safeguard::OpenUntilConfirmedAgain);
        let closes_spared = self.keeps(Safeguard::CloseSpared);
        let writes_anew = hit && self.keeps(Safeguard::OutcomeAnew);
        let ledger = self.ledger();
        if ledger.intents[slot][me] != Intent::None || writes_anew {
            ledger.intents[slot][me] = if stays_open { Intent::Landed } else { Intent::Closed };
        }
        if (hit && gone) || (alive && closes_spared) {
            ledger.orphans[slot] = None;
        }
        if alive {
            ledger.witness[slot] = Witness::anew(ledger.witness[slot].version);
        }
        self.go(if hit { Step::Noted } else { Step::Planned });
    }

    fn confirm_again(&mut self) {
        let (me, slot) = (self.me, self.mine().batch);
        if self.keeps(Safeguard::ConfirmAgain) {
            let Some(live) = self.ask() else {
                // The intent stays open: the next run asks.
                self.mine().plan = Set::EMPTY;
                return self.go(Step::Planned);
            };
            if live.has(self.protocol.scenario.slots[slot].owner) {
                self.put_back(slot);
            }
        }
        let intent = &mut self.ledger().intents[slot][me];
        if *intent == Intent::Landed {
            *intent = Intent::Closed;
        }
        self.go(Step::Planned);
    }

    // 7. The report, and in the same transaction the clocks.

    fn finish(&mut self) {
        let (run, started) = (self.mine().run, self.mine().started);
        let complete = self.mine().seen.is_some();
        let ledger = self.ledger();
        for (remembered, witness) in ledger.orphans.iter_mut().zip(&mut ledger.witness) {
            if let Some(orphan) = remembered.as_mut().filter(|orphan| orphan.run == run) {
                (orphan.accrued, orphan.counted_at) = (orphan.pending, Some(started));
                witness.since = witness.since.or(Some(started));
                witness.sightings = (witness.sightings + 1).min(3);
            }
        }
        self.state.ghost.served |= complete;
        self.end();
    }
}

fn start_anew(orphan: &mut crate::world::Orphan) {
    (orphan.accrued, orphan.pending, orphan.counted_at) = (0, 0, None);
}
