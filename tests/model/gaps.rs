//! What the protocol is known not to do. A gap is a claim that is judged more strictly, or a coincidence that is left out
//! elsewhere: opened, it shows as a broken claim. When one is closed for good, its test fails and says so.

use crate::claims::Claim;
use crate::scenario::Scenario;

/// A known gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// What is written for a dead course between the inventory and its batch goes with it, without a grace of its own.
    GrowthDuringARun,
    /// A clone that runs before the original has the right count, and deletes by its own truth.
    TheCloneGoesFirst,
    /// A backup that was restored on the same timeline is not seen once its log has passed the last position that was seen.
    TheLogCatchesUp,
    /// A dead course that came back and was lost by a restore has not vanished, for all the ledger knows, if no run saw it, or if
    /// the ledger lost the memory of it, too, and nothing else. Its old clock goes on.
    AReturnNobodyRemembers,
    /// What was referred to between the confirmation and the delete is not given back: nobody asks about references again.
    ReferredToInTheWindow,
    /// A sender that was frozen until another collector had settled its intent hits what is live again, and dies before it can
    /// say so. Nobody else knows.
    TheOnlyWitnessDies,
}

/// Where a gap shows, and which claim it breaks.
pub struct Shown {
    pub gap: Gap,
    pub scenario: fn() -> Scenario,
    pub breaks: Claim,
}

const fn shown(gap: Gap, scenario: fn() -> Scenario, breaks: Claim) -> Shown {
    Shown { gap, scenario, breaks }
}

/// Every gap, in the order of [`Gap`].
pub const GAPS: [Shown; 6] = [
    shown(Gap::GrowthDuringARun, Scenario::batch, Claim::GraceWasSeen),
    shown(Gap::TheCloneGoesFirst, Scenario::cloned, Claim::LiveIsNotSwept),
    shown(Gap::TheLogCatchesUp, Scenario::restored, Claim::VanishedWaits),
    shown(Gap::AReturnNobodyRemembers, Scenario::restored_together, Claim::VanishedWaits),
    shown(Gap::ReferredToInTheWindow, Scenario::referenced, Claim::ReferencedIsHeld),
    shown(Gap::TheOnlyWitnessDies, Scenario::frozen, Claim::NothingIsOwed),
];
