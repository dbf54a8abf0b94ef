//! What must hold, judged on each step that anything takes: lines of the contract, as far as the model can say them.

use stateright::Property;

use crate::environment::Action;
use crate::gaps::Gap;
use crate::protocol::Protocol;
use crate::world::{Intent, Known, State, Step};

macro_rules! claims {
    ($($(#[$doc:meta])* $claim:ident = $name:literal,)*) => {
        /// A line of the contract, or a part of one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Claim {
            $($(#[$doc])* $claim,)*
        }

        impl Claim {
            pub const ALL: &[Self] = &[$(Self::$claim,)*];

            /// Its line in the contract, and what it says; the checker shows this.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$claim => $name,)*
                }
            }
        }

        /// That no claim is ever broken.
        pub fn properties() -> Vec<Property<Protocol>> {
            vec![$(Property::always($name, |_, state: &State| !state.broken.has(Claim::$claim)),)*]
        }
    };
}

claims! {
    /// What is condemned belongs to a course that is dead at that moment.
    LiveIsNotSwept = "S1 live is not swept",
    /// Whoever turned out live has got back what the batch took, when the batch has ended.
    LiveGetsItBack = "S1 live gets it back",
    /// Nothing is sent on the word of a confirmation that is older than it is good for.
    Fresh = "S2 fresh when sent",
    /// A run that read an empty live set condemns nothing.
    EmptyIsNotDead = "S3 empty is not dead",
    /// What is condemned names no live course.
    MentionsHold = "S5 mentions hold",
    /// What is planned has been seen as an orphan for its grace, without an interruption, by finished runs.
    GraceWasSeen = "S6 grace was seen",
    /// Nothing is condemned on another database than the adopted one, nor by a run whose ledger missed a use of the store.
    RightPlace = "S7 right place",
    /// What vanished while history broke is not condemned.
    VanishedWaits = "S7 vanished waits",
    /// A run halts only where something was cloned, restored, replaced or stolen.
    NoFalseAlarm = "S7 no false alarm",
    /// What is condemned is referred to by nobody.
    ReferencedIsHeld = "S9 referenced is held",
    /// While another one holds the lock, at most one batch of a collector lands.
    OneAtATime = "S10 one at a time",
    /// What is condemned is named by an intent.
    IntentNamesIt = "S11 an intent names it",
    /// After the next complete run nobody who is live misses what an earlier one took.
    NothingIsOwed = "S11 nothing is owed",
    /// On a schedule that is kept, what the dead left is gone in the end, and no intent is open.
    NothingIsForgotten = "S11 nothing is forgotten",
    /// What is deleted was copied.
    DeletedWasCopied = "S12 deleted was copied",
    /// No copy of a live course's resource expires.
    LiveCopiesStay = "S12 live copies stay",
}

/// A set of claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Claims(u16);

impl Claims {
    pub fn has(self, claim: Claim) -> bool {
        self.0 & (1 << claim as u16) != 0
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    fn require(&mut self, holds: bool, claim: Claim) {
        self.0 |= u16::from(!holds) << claim as u16;
    }
}

/// The claims that are broken by what just happened.
pub fn broken(protocol: &Protocol, before: &State, action: Action, after: &State) -> Claims {
    let mut claims = Claims::default();
    match action {
        Action::Step(me) => {
            let (from, to) = (before.collectors[me].at, after.collectors[me].at);
            match (from, to) {
                (Step::Looked, Step::Planned) => planned(protocol, after, me, &mut claims),
                (Step::Copied, Step::Confirmed) => condemned(protocol, after, me, &mut claims),
                (Step::Confirmed, Step::Sending) => {
                    let owner = protocol.scenario.slots[after.collectors[me].batch].owner;
                    let settled = after.ghost.settled.has(owner) && !after.collectors[me].on_clone;
                    claims.require(!settled, Claim::Fresh);
                }
                (Step::Sending, Step::Landed) => landed(before, after, me, &mut claims),
                (Step::Noted, Step::Planned) => batch_ended(protocol, after, me, &mut claims),
                (_, Step::Halted) => claims.require(after.ghost.tampered, Claim::NoFalseAlarm),
                _ => {}
            }
        }
        Action::Purge(slot) => {
            let owner = protocol.scenario.slots[slot].owner;
            claims.require(!before.database.live.has(owner), Claim::LiveCopiesStay);
        }
        _ => {}
    }
    if protocol.scenario.punctual && after.ghost.served && after.now == protocol.scenario.until {
        claims.require(!something_is_left(protocol, after), Claim::NothingIsForgotten);
    }
    claims
}

fn planned(protocol: &Protocol, after: &State, me: usize, claims: &mut Claims) {
    let scenario = &protocol.scenario;
    let collector = &after.collectors[me];
    let database = after.home(me);
    for slot in collector.plan.iter() {
        let witness = &database.ledger.witness[slot];
        let waited = witness.since.is_some_and(|since| collector.started - since >= scenario.grace);
        let seen_often = witness.sightings * scenario.gain >= scenario.grace;
        claims.require(waited && seen_often, Claim::GraceWasSeen);
    }
    if collector.seen.is_some() && !collector.on_clone {
        for slot in after.ghost.owed.iter() {
            let in_hand = after
                .collectors
                .iter()
                .any(|other| matches!(other.at, Step::Landed | Step::Noted) && other.batch == slot && other.hit);
            let live = database.live.has(scenario.slots[slot].owner);
            claims.require(in_hand || !live, Claim::NothingIsOwed);
        }
    }
}

fn condemned(protocol: &Protocol, after: &State, me: usize, claims: &mut Claims) {
    let database = after.home(me);
    let collector = &after.collectors[me];
    let slot = collector.batch;
    let resource = &protocol.scenario.slots[slot];
    claims.require(!database.live.has(resource.owner), Claim::LiveIsNotSwept);
    claims.require(!resource.mention.is_some_and(|course| database.live.has(course)), Claim::MentionsHold);
    claims.require(!database.referenced.has(slot), Claim::ReferencedIsHeld);
    claims.require(!collector.live.is_empty(), Claim::EmptyIsNotDead);
    claims.require(database.system == database.ledger.system && !collector.missed, Claim::RightPlace);
    claims.require(!after.ghost.vanished.has(resource.owner), Claim::VanishedWaits);
    claims.require(database.ledger.intents[slot][me] != Intent::None, Claim::IntentNamesIt);
    if protocol.opens(Gap::GrowthDuringARun) {
        let planned = collector.seen.is_some_and(|seen| seen[slot] == collector.copied);
        claims.require(planned, Claim::GraceWasSeen);
    }
    if protocol.opens(Gap::TheCloneGoesFirst) {
        claims.require(!after.database.live.has(resource.owner), Claim::LiveIsNotSwept);
    }
}

fn landed(before: &State, after: &State, me: usize, claims: &mut Claims) {
    let collector = &after.collectors[me];
    if !collector.hit {
        return;
    }
    let slot = collector.batch;
    claims.require(collector.lockless <= 1, Claim::OneAtATime);
    let version = before.store.content[slot];
    claims.require(after.store.copies[slot].has(version.into()), Claim::DeletedWasCopied);
}

fn batch_ended(protocol: &Protocol, after: &State, me: usize, claims: &mut Claims) {
    let slot = after.collectors[me].batch;
    let database = after.home(me);
    // Nobody answered any more: the intent stays open, and the next run asks.
    let postponed = matches!(database.ledger.intents[slot][me], Intent::Open | Intent::Landed);
    let live = database.live.has(protocol.scenario.slots[slot].owner);
    claims.require(postponed || !live || !after.ghost.owed.has(slot), Claim::LiveGetsItBack);
    if protocol.opens(Gap::ReferredToInTheWindow) {
        claims.require(!database.referenced.has(slot), Claim::ReferencedIsHeld);
    }
}

fn something_is_left(protocol: &Protocol, state: &State) -> bool {
    let database = &state.database;
    let left = protocol.scenario.slots.iter().enumerate().any(|(index, slot)| {
        let known = database.ledger.known[slot.owner] != Known::Never;
        state.store.content[index] != 0 && state.ghost.hours_dead[slot.owner] > protocol.scenario.grace && known
    });
    let open = database.ledger.intents.iter().flatten().any(|intent| matches!(intent, Intent::Open | Intent::Landed));
    left || open
}
