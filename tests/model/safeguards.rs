//! What the protocol does so that the claims hold. Each can be left out, and then the checker finds what it was for.

use crate::claims::Claim;
use crate::scenario::Scenario;

/// Something that the protocol does, and that could be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safeguard {
    /// Liveness is asked before each delete (S1).
    Confirm,
    /// … in a new transaction, and not in the one that read the live set (S2).
    NewTransaction,
    /// A confirmation is good for seconds, on a clock that counts suspension (S2).
    Freshness,
    /// After each delete liveness is asked once more, and what turned out live is put back (S1).
    ConfirmAgain,
    /// An empty live set halts the run (S3).
    RefuseEmpty,
    /// A live id anywhere in a resource's name holds it (S5).
    Mentions,
    /// An orphan must have been one for a while (S6).
    Grace,
    /// Clocks gain only between finished runs (S6).
    FinishedRunsCount,
    /// A clock gains at most two intervals between two runs (S6).
    BoundedGain,
    /// Who is read as live again starts its clocks anew, whatever the inventories come to (S6).
    RestartAtRead,
    /// What is live when asked again is forgotten as an orphan (S6).
    CloseReappeared,
    /// … even if nobody knows what is referred to, and the store is held (S6, S9).
    CloseReappearedAnyway,
    /// What a confirmation found alive is forgotten as an orphan (S6).
    CloseSpared,
    /// An orphan that grows or changes starts its clock anew (S6).
    RestartOnGrowth,
    /// A break in the history of the truth starts every clock anew (S6, S7).
    RestartOnBreak,
    /// A reference that was seen starts the clock anew (S9).
    RestartOnReference,
    /// The database must be the one that was adopted (S7).
    PinnedIdentity,
    /// The marker's count must be the ledger's (S7).
    MarkerCount,
    /// The marker is moved by compare-and-set (S7).
    CompareAndSet,
    /// The ledger says which count comes next before the marker moves (S7).
    AnnouncedMove,
    /// What vanished across a break waits for a person (S7).
    HoldAcrossBreak,
    /// The position is remembered only when what vanished is marked (S7).
    BreakSeenUntilMarked,
    /// … and it is read after the live set, not before it (S7).
    PositionAfterTruth,
    /// What was never seen live stays, unless a source is exclusive (S7).
    HoldStrangers,
    /// References are asked again with each batch (S9).
    ReferencesAgain,
    /// A lock (S10).
    OneLock,
    /// An answer counts only while the lock is held (S10).
    LockWithQuestion,
    /// What a batch is to delete is written down first (S11).
    IntentFirst,
    /// An intent stays open until its batch has been confirmed again (S11).
    OpenUntilConfirmedAgain,
    /// An outcome whose intent the ledger has lost is written all the same (S11).
    OutcomeAnew,
    /// The next complete run closes what was left open (S11).
    Settle,
    /// What lies in quarantine of an open intent is put back if its course is live (S11).
    PutBackWhatWasOpen,
    /// An open intent authorises nothing (S11).
    EveryGateAgain,
    /// Nothing is deleted that was not copied (S12).
    CopyFirst,
    /// What was written between copy and delete is not deleted (S12).
    OnlyWhatWasCopied,
    /// Purging asks what is live (S12).
    PurgeAsks,
}

/// Where leaving a safeguard out shows, and by which claim.
pub struct Need {
    pub safeguard: Safeguard,
    pub scenario: fn() -> Scenario,
    pub breaks: Claim,
}

const fn need(safeguard: Safeguard, scenario: fn() -> Scenario, breaks: Claim) -> Need {
    Need { safeguard, scenario, breaks }
}

/// Every safeguard, once.
pub const NEEDS: [Need; 36] = [
    need(Safeguard::Confirm, Scenario::batch, Claim::LiveIsNotSwept),
    need(Safeguard::NewTransaction, Scenario::batch, Claim::LiveIsNotSwept),
    need(Safeguard::Freshness, Scenario::batch, Claim::Fresh),
    need(Safeguard::ConfirmAgain, Scenario::batch, Claim::LiveGetsItBack),
    need(Safeguard::RefuseEmpty, Scenario::blind, Claim::EmptyIsNotDead),
    need(Safeguard::Mentions, Scenario::mentioned, Claim::MentionsHold),
    need(Safeguard::Grace, Scenario::clocks, Claim::GraceWasSeen),
    need(Safeguard::FinishedRunsCount, Scenario::clocks, Claim::GraceWasSeen),
    need(Safeguard::BoundedGain, Scenario::clocks, Claim::GraceWasSeen),
    need(Safeguard::RestartAtRead, Scenario::reappears, Claim::GraceWasSeen),
    need(Safeguard::CloseReappeared, Scenario::reappears, Claim::GraceWasSeen),
    need(Safeguard::CloseReappearedAnyway, Scenario::reappears, Claim::GraceWasSeen),
    need(Safeguard::CloseSpared, Scenario::reappears, Claim::GraceWasSeen),
    need(Safeguard::RestartOnGrowth, Scenario::reappears, Claim::GraceWasSeen),
    need(Safeguard::RestartOnBreak, Scenario::broken_history, Claim::GraceWasSeen),
    need(Safeguard::RestartOnReference, Scenario::referenced, Claim::GraceWasSeen),
    need(Safeguard::PinnedIdentity, Scenario::replaced, Claim::RightPlace),
    need(Safeguard::MarkerCount, Scenario::cloned, Claim::RightPlace),
    need(Safeguard::CompareAndSet, Scenario::cloned, Claim::RightPlace),
    need(Safeguard::AnnouncedMove, Scenario::recovers, Claim::NoFalseAlarm),
    need(Safeguard::HoldAcrossBreak, Scenario::restored, Claim::VanishedWaits),
    need(Safeguard::BreakSeenUntilMarked, Scenario::restored_and_interrupted, Claim::VanishedWaits),
    need(Safeguard::PositionAfterTruth, Scenario::restored, Claim::VanishedWaits),
    need(Safeguard::HoldStrangers, Scenario::restored, Claim::VanishedWaits),
    need(Safeguard::ReferencesAgain, Scenario::referenced, Claim::ReferencedIsHeld),
    need(Safeguard::OneLock, Scenario::takeover, Claim::OneAtATime),
    need(Safeguard::LockWithQuestion, Scenario::takeover, Claim::OneAtATime),
    need(Safeguard::IntentFirst, Scenario::batch, Claim::IntentNamesIt),
    need(Safeguard::OpenUntilConfirmedAgain, Scenario::batch, Claim::NothingIsOwed),
    need(Safeguard::OutcomeAnew, Scenario::restored_together, Claim::LiveGetsItBack),
    need(Safeguard::Settle, Scenario::recovers, Claim::NothingIsForgotten),
    need(Safeguard::PutBackWhatWasOpen, Scenario::batch, Claim::NothingIsOwed),
    need(Safeguard::EveryGateAgain, Scenario::batch, Claim::GraceWasSeen),
    need(Safeguard::CopyFirst, Scenario::batch, Claim::DeletedWasCopied),
    need(Safeguard::OnlyWhatWasCopied, Scenario::batch, Claim::DeletedWasCopied),
    need(Safeguard::PurgeAsks, Scenario::batch, Claim::LiveCopiesStay),
];
