//! What happens to a collector: the application, time, crashes, and what people do to databases. Every action is possible
//! whenever its budget is not used up, between any two steps of any collector.
//!
//! Only time is more polite. An hour passes while nobody runs, or (a freeze) while a batch is between its confirmation and its
//! arrival: looking and planning take minutes, against graces of hours.

use crate::collector;
use crate::gaps::Gap;
use crate::protocol::Protocol;
use crate::safeguards::Safeguard;
use crate::scenario::{Event, Place};
use crate::world::{ANCHOR, COLLECTORS, Database, Known, Set, State, Step, Witness};

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A collector does its next step.
    Step(usize),
    BreakOff(usize),
    Crash(usize),
    LoseLock(usize),
    Hour,
    Create(usize),
    Delete(usize),
    Write(usize),
    Refer(usize),
    Unrefer(usize),
    Backup,
    Rewind,
    FailOver,
    Promote,
    Replace,
    Blind,
    Clone,
    Purge(usize),
}

/// All that can happen now.
pub fn actions(protocol: &Protocol, state: &State, actions: &mut Vec<Action>) {
    let scenario = &protocol.scenario;
    let left = |event: Event| state.spent.on(event) < scenario.budget(event);
    let database = &state.database;
    for me in 0..COLLECTORS {
        let collector = &state.collectors[me];
        if collector::can_step(protocol, state, me) {
            actions.push(Action::Step(me));
        }
        if left(Event::BreakOff) && collector::can_break_off(state, me) {
            actions.push(Action::BreakOff(me));
        }
        if collector.at != Step::Idle && left(Event::Crash) && may_die(protocol, state, me) {
            actions.push(Action::Crash(me));
        }
        if collector.at != Step::Idle && left(Event::LoseLock) && state.home(me).lock.has(me) {
            actions.push(Action::LoseLock(me));
        }
    }
    if may_pass(protocol, state) {
        actions.push(Action::Hour);
    }
    for course in scenario.movable.iter() {
        if !database.live.has(course) && left(Event::Create) {
            actions.push(Action::Create(course));
        }
        if database.live.has(course) && left(Event::Delete) {
            actions.push(Action::Delete(course));
        }
    }
    for slot in 0..scenario.slots.len() {
        if left(Event::Write) {
            actions.push(Action::Write(slot));
        }
        if !database.referenced.has(slot) && left(Event::Refer) {
            actions.push(Action::Refer(slot));
        }
        if database.referenced.has(slot) && left(Event::Unrefer) {
            actions.push(Action::Unrefer(slot));
        }
        if left(Event::Purge) && may_purge(protocol, state, slot) {
            actions.push(Action::Purge(slot));
        }
    }
    let people = [
        (Event::Backup, Action::Backup, state.backup.is_none()),
        (Event::Restore, Action::Rewind, state.backup.is_some()),
        (Event::Restore, Action::FailOver, state.backup.is_some()),
        (Event::Promote, Action::Promote, true),
        (Event::Replace, Action::Replace, true),
        (Event::Blind, Action::Blind, true),
        (Event::Clone, Action::Clone, true),
    ];
    actions.extend(people.iter().filter(|(event, _, can)| *can && left(*event)).map(|(_, action, _)| *action));
}

/// See [`Gap::TheOnlyWitnessDies`].
fn may_die(protocol: &Protocol, state: &State, me: usize) -> bool {
    let collector = &state.collectors[me];
    let only_it_knows = collector.at == Step::Landed && collector.hit && !state.home(me).lock.has(me);
    !only_it_knows || protocol.opens(Gap::TheOnlyWitnessDies)
}

fn may_pass(protocol: &Protocol, state: &State) -> bool {
    let scenario = &protocol.scenario;
    let frozen = state.collectors.iter().filter(|collector| collector.at != Step::Idle);
    let mut freezes = false;
    for collector in frozen {
        if !matches!(collector.at, Step::Confirmed | Step::Sending) {
            return false;
        }
        freezes = true;
    }
    state.now < scenario.until
        && (!freezes || state.spent.on(Event::Freeze) < scenario.budget(Event::Freeze))
        && (!scenario.punctual || state.ghost.served)
}

/// A copy expires after days: not while the batch that made it is still under way. Purging asks what is live (S12).
fn may_purge(protocol: &Protocol, state: &State, slot: usize) -> bool {
    let in_hand = state.collectors.iter().any(|collector| collector.at >= Step::Intended && collector.batch == slot);
    let is_alive = state.database.answer().has(protocol.scenario.slots[slot].owner);
    let is_held = in_hand || (is_alive && protocol.keeps(Safeguard::PurgeAsks));
    !state.store.copies[slot].is_empty() && !is_held
}

/// The world after something happened.
pub fn after(protocol: &Protocol, before: &State, action: Action) -> State {
    let mut state = *before;
    let database = &mut state.database;
    match action {
        Action::Step(me) => return collector::step(protocol, before, me),
        Action::BreakOff(me) => return collector::break_off(protocol, before, me),
        Action::Crash(me) => {
            collector::crash(&mut state, me);
            state.spent.spend(Event::Crash);
        }
        Action::LoseLock(me) => {
            let database = state.home_mut(me);
            database.lock = database.lock.without(me);
            state.ghost.tampered = true;
            state.spent.spend(Event::LoseLock);
        }
        Action::Hour => {
            state.now += 1;
            state.ghost.served = false;
            state.ghost.settled = database.live;
            for (course, hours) in state.ghost.hours_dead.iter_mut().enumerate() {
                *hours = if database.live.has(course) { 0 } else { (*hours + 1).min(protocol.scenario.grace + 1) };
            }
            for collector in state.collectors.iter_mut().filter(|collector| collector.at == Step::Confirmed) {
                collector.stale = true;
            }
            if state.collectors.iter().any(|collector| collector.at != Step::Idle) {
                state.spent.spend(Event::Freeze);
            }
        }
        Action::Create(course) => {
            database.live = database.live.with(course);
            state.ghost.vanished = state.ghost.vanished.without(course);
            database.seen = database.seen.without(course);
            state.ghost.hours_dead[course] = 0;
            state.spent.spend(Event::Create);
        }
        Action::Delete(course) => {
            database.live = database.live.without(course);
            forget_the_dead(protocol, &mut state);
            state.spent.spend(Event::Delete);
        }
        Action::Write(slot) => {
            let newest = usize::from(state.store.content[slot]).max(state.store.copies[slot].last().unwrap_or(0));
            state.store.content[slot] = u8::try_from(newest + 1).unwrap();
            state.spent.spend(Event::Write);
        }
        Action::Refer(slot) => {
            database.referenced = database.referenced.with(slot);
            state.spent.spend(Event::Refer);
        }
        Action::Unrefer(slot) => {
            database.referenced = database.referenced.without(slot);
            state.spent.spend(Event::Unrefer);
        }
        Action::Backup => {
            state.backup = Some(Database { lock: Set::EMPTY, ..*database });
            state.spent.spend(Event::Backup);
        }
        Action::Rewind => {
            restore(protocol, &mut state, before.database.timeline);
            if protocol.opens(Gap::TheLogCatchesUp) {
                state.database.log = before.database.log;
            }
            state.spent.spend(Event::Restore);
        }
        Action::FailOver => {
            restore(protocol, &mut state, before.database.timeline + 1);
            state.spent.spend(Event::Restore);
        }
        Action::Promote => {
            database.timeline += 1;
            database.lock = Set::EMPTY;
            state.spent.spend(Event::Promote);
        }
        Action::Replace => {
            (database.system, database.live, database.lock) = (2, Set::of(&[ANCHOR]), Set::EMPTY);
            state.ghost.tampered = true;
            forget_the_dead(protocol, &mut state);
            state.spent.spend(Event::Replace);
        }
        Action::Blind => {
            database.blind = true;
            state.spent.spend(Event::Blind);
        }
        Action::Clone => {
            state.clone = Some(Database { lock: Set::EMPTY, ..*database });
            state.ghost.tampered = true;
            state.spent.spend(Event::Clone);
        }
        Action::Purge(slot) => {
            state.store.copies[slot] = Set::EMPTY;
            state.spent.spend(Event::Purge);
        }
    }
    state
}

/// The database is as it was at the backup, and so is a ledger beside it. Every session ends.
fn restore(protocol: &Protocol, state: &mut State, timeline: u8) {
    let Some(backup) = state.backup else { return };
    let mut restored = Database { timeline, ..backup };
    match protocol.scenario.ledger {
        Place::Beside => state.ghost.tampered = true,
        Place::Apart => {
            restored.ledger = state.database.ledger;
            // It is a break if something was lost that a run may have seen, or if it looks like one.
            if timeline != state.database.timeline || backup.log < state.database.log {
                restored.ledger.witness = restored.ledger.witness.map(|witness| Witness::anew(witness.version));
            }
        }
    }
    let lost = state.database.live.minus(backup.live);
    for course in lost.iter() {
        let remembers_its_return = match restored.ledger.known[course] {
            Known::Never => true,
            Known::Present => state.database.seen.has(course),
            Known::Departed { .. } => false,
        };
        if remembers_its_return || protocol.opens(Gap::AReturnNobodyRemembers) {
            state.ghost.vanished = state.ghost.vanished.with(course);
        }
    }
    state.ghost.vanished = state.ghost.vanished.minus(restored.live);
    state.database = restored;
    forget_the_dead(protocol, state);
}

/// Nothing is owed to who is dead.
fn forget_the_dead(protocol: &Protocol, state: &mut State) {
    let live = state.database.live;
    state.ghost.settled = state.ghost.settled.and(live);
    for (index, slot) in protocol.scenario.slots.iter().enumerate() {
        if !live.has(slot.owner) {
            state.ghost.owed = state.ghost.owed.without(index);
        }
    }
}
