//! The bounds: which part of the world may move, and how often. Every scenario runs the same protocol.

use crate::world::{NAMED, SUBJECT, Set, Slot};

/// What happens outside of a collector's own steps, or bounds them; each has a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A collector begins a run.
    Run,
    /// The application inserts a course's row.
    Create,
    /// The application deletes it.
    Delete,
    /// The application writes a resource, whether its course's row is there or not.
    Write,
    /// A live course begins to refer to a resource.
    Refer,
    /// It ceases to.
    Unrefer,
    /// A collector dies.
    Crash,
    /// An hour passes while a batch is between its confirmation and its arrival.
    Freeze,
    /// The server ends a collector's lock.
    LoseLock,
    /// A collector's inventory breaks off, or its question what is still referred to.
    BreakOff,
    /// A backup is taken; a standby stops receiving.
    Backup,
    /// The backup is restored in place, and the log goes back; or the standby is promoted, with a new timeline.
    Restore,
    /// A standby that has everything is promoted.
    Promote,
    /// Another database of the same name stands where the liveness source was.
    Replace,
    /// Every question is answered with nothing, from now on.
    Blind,
    /// Database and ledger are copied, and a second collector runs on the copy against the same store.
    Clone,
    /// A copy's time in quarantine is over.
    Purge,
}

/// How many kinds there are.
const EVENTS: usize = Event::Purge as usize + 1;

/// How often each has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Spent([u8; EVENTS]);

impl Spent {
    pub fn on(&self, event: Event) -> u8 {
        self.0[event as usize]
    }
    pub fn spend(&mut self, event: Event) {
        self.0[event as usize] += 1;
    }
}

/// Where the ledger is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the liveness source's database: what happens to one happens to both.
    Beside,
    /// In a database of its own, which nothing happens to.
    Apart,
}

/// Where the subject is when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Live, known, with a resource in every slot.
    Alive,
    /// Live and known, since a moment after the last backup.
    Newborn,
    /// Not there yet, nor known; its resources were written first.
    Unborn,
    /// Dead for an hour, and seen so by one finished run. So is whom its resources name.
    Ripe,
}

/// A bounded world.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub start: Start,
    pub ledger: Place,
    pub slots: Vec<Slot>,
    /// Whose rows come and go.
    pub movable: Set,
    /// The last hour.
    pub until: u8,
    /// Hours that an orphan must have been one.
    pub grace: u8,
    /// Most hours that a clock gains between two finished runs.
    pub gain: u8,
    /// True if an hour passes only after a run has finished in it: a schedule that is kept, after every fault.
    pub punctual: bool,
    /// True if a second collector stands by for the same database.
    pub standby: bool,
    budget: [u8; EVENTS],
}

/// The subject's plain resource.
const PLAIN: Slot = Slot { owner: SUBJECT, mention: None };
/// A resource of the subject that names another course, too.
const MENTIONING: Slot = Slot { owner: SUBJECT, mention: Some(NAMED) };

impl Scenario {
    /// Who is dead for good, is dead for a while, or only seems to be: clocks.
    pub fn clocks() -> Self {
        let budget = [(Event::Run, 4), (Event::Delete, 1), (Event::Crash, 1), (Event::Write, 1)];
        Self { until: 3, grace: 2, ..Self::new("clocks", Start::Alive, &budget) }
    }

    /// The owner comes back, at any moment, and goes again.
    pub fn reappears() -> Self {
        let budget = [
            (Event::Run, 2),
            (Event::Create, 1),
            (Event::Delete, 1),
            (Event::Write, 1),
            (Event::BreakOff, 1),
            (Event::Crash, 1),
        ];
        Self::new("reappears", Start::Ripe, &budget)
    }

    /// What can happen to one batch: its owner comes back, its resource is written anew, the sender freezes or dies.
    pub fn batch() -> Self {
        let budget = [
            (Event::Run, 2),
            (Event::Create, 1),
            (Event::Delete, 1),
            (Event::Write, 1),
            (Event::Freeze, 1),
            (Event::Crash, 1),
            (Event::Purge, 1),
        ];
        Self::new("batch", Start::Ripe, &budget)
    }

    /// A leader that loses its lock, and a standby that takes over; two batches each.
    pub fn takeover() -> Self {
        let budget = [(Event::Run, 3), (Event::Create, 1), (Event::Freeze, 1), (Event::LoseLock, 1)];
        Self { standby: true, slots: vec![PLAIN; 2], ..Self::new("takeover", Start::Ripe, &budget) }
    }

    /// A leader that loses its lock while it is frozen, and dies of it.
    pub fn frozen() -> Self {
        let budget = [(Event::Run, 3), (Event::Create, 1), (Event::LoseLock, 1), (Event::Crash, 1)];
        Self { standby: true, until: 1, ..Self::new("frozen", Start::Ripe, &budget) }
    }

    /// The liveness source is restored or fails over; the ledger is elsewhere and remembers more, as a course that the backup
    /// never had.
    pub fn restored() -> Self {
        let budget = [(Event::Run, 3), (Event::Create, 1), (Event::Delete, 1), (Event::Backup, 1), (Event::Restore, 1)];
        Self { until: 1, ..Self::new("restored", Start::Unborn, &budget) }
    }

    /// The same, and a run dies of it or after it.
    pub fn restored_and_interrupted() -> Self {
        let budget = [(Event::Run, 4), (Event::Delete, 1), (Event::Crash, 1), (Event::Restore, 1)];
        Self::new("restored and interrupted", Start::Newborn, &budget)
    }

    /// A break in the history while an orphan waits.
    pub fn broken_history() -> Self {
        let budget = [(Event::Run, 3), (Event::Backup, 1), (Event::Restore, 1), (Event::Promote, 1)];
        Self::new("broken history", Start::Ripe, &budget)
    }

    /// The liveness source is restored or fails over, and the ledger with it.
    pub fn restored_together() -> Self {
        let budget =
            [(Event::Run, 2), (Event::Create, 1), (Event::Backup, 1), (Event::Restore, 1), (Event::Promote, 1)];
        Self { ledger: Place::Beside, ..Self::new("restored together", Start::Ripe, &budget) }
    }

    /// Database and ledger are copied, and both copies have a collector.
    pub fn cloned() -> Self {
        let budget = [(Event::Run, 3), (Event::Create, 1), (Event::Clone, 1)];
        Self { ledger: Place::Beside, ..Self::new("cloned", Start::Ripe, &budget) }
    }

    /// Another database stands where the liveness source was.
    pub fn replaced() -> Self {
        Self::new("replaced", Start::Ripe, &[(Event::Run, 2), (Event::Replace, 1), (Event::Create, 1)])
    }

    /// The liveness source answers with nothing.
    pub fn blind() -> Self {
        Self::new("blind", Start::Alive, &[(Event::Run, 3), (Event::Blind, 1), (Event::Delete, 1)])
    }

    /// Somebody alive refers to what a dead course left.
    pub fn referenced() -> Self {
        let budget = [(Event::Run, 3), (Event::Refer, 1), (Event::Unrefer, 1), (Event::Crash, 1)];
        Self::new("referenced", Start::Ripe, &budget)
    }

    /// A resource names another course, which comes back.
    pub fn mentioned() -> Self {
        let budget = [(Event::Run, 3), (Event::Create, 1), (Event::Delete, 1)];
        let slots = vec![MENTIONING, PLAIN];
        Self { movable: Set::of(&[NAMED]), slots, ..Self::new("mentioned", Start::Ripe, &budget) }
    }

    /// Crashes anywhere, on a schedule that is kept.
    pub fn recovers() -> Self {
        let budget = [(Event::Run, 7), (Event::Delete, 1), (Event::Crash, 2), (Event::BreakOff, 1)];
        Self { punctual: true, until: 3, ..Self::new("recovers", Start::Alive, &budget) }
    }

    /// All of them, as small as CI has them.
    pub fn all() -> Vec<Self> {
        vec![
            Self::clocks(),
            Self::reappears(),
            Self::batch(),
            Self::takeover(),
            Self::frozen(),
            Self::restored(),
            Self::restored_and_interrupted(),
            Self::broken_history(),
            Self::restored_together(),
            Self::cloned(),
            Self::replaced(),
            Self::blind(),
            Self::referenced(),
            Self::mentioned(),
            Self::recovers(),
        ]
    }

    fn new(name: &'static str, start: Start, budget: &[(Event, u8)]) -> Self {
        let mut spent = [0; EVENTS];
        for (event, times) in budget {
            spent[*event as usize] = *times;
        }
        Self {
            name,
            start,
            ledger: Place::Apart,
            slots: vec![PLAIN],
            movable: Set::of(&[SUBJECT]),
            until: 2,
            grace: 1,
            gain: 1,
            punctual: false,
            standby: false,
            budget: spent,
        }
    }

    /// The same with one more of everything that may happen, and another hour.
    pub fn deeper(mut self) -> Self {
        self.budget.iter_mut().filter(|times| **times > 0).for_each(|times| *times += 1);
        Self { until: self.until + 1, ..self }
    }

    pub fn budget(&self, event: Event) -> u8 {
        self.budget[event as usize]
    }
}
