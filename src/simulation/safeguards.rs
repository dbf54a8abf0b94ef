//! Each safeguard, made blind: what it looks at shows it nothing to be alarmed about. Without it, some seed must break the contract.

/// What keeps the collector from a wrong delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safeguard {
    /// S2: liveness is asked again after the resources were seen.
    AskAgain,
    /// S2: liveness is asked right before each delete.
    ConfirmBeforeDelete,
    /// S1: and once more after it.
    ConfirmAgain,
    /// S2: a confirmation is good for seconds.
    Freshness,
    /// S3: too small a live set is not believed.
    RefuseDrop,
    /// S4: what was not listed to the end is not judged.
    CompleteInventory,
    /// S5: everybody who is named must be dead.
    Mentions,
    /// S6: an orphan waits.
    Grace,
    /// S6: one that grows waits anew.
    Growth,
    /// S6: one whose owner was there again waits anew.
    Reappearance,
    /// S6: a tombstone of who was seen live is void.
    VoidTombstones,
    /// S6: so is a request.
    VoidRequests,
    /// S7: a store is ours.
    Adoption,
    /// S7: a ledger is the latest.
    Counter,
    /// S7: a store's marker is looked at again with each batch.
    MarkerWithBatch,
    /// S7: the truth is the one that was adopted.
    Pins,
    /// S7: what vanished in a restore waits.
    Position,
    /// S8: at most so many courses a day.
    Breakers,
    /// S8: what a breaker held stays held.
    Latch,
    /// S8: a pause is obeyed.
    Pause,
    /// S9: references are asked again with each batch.
    ReferencesWithBatch,
    /// S9: of what is referred to in part, that part stays.
    ReferencedStays,
    /// S10: an answer counts only while the lock is held.
    LockWithQuestion,
    /// S1: what should not have gone is put back.
    PutBack,
    /// S1: that a live course's things may go is good for one run.
    AuthorisedOnce,
    /// S12: what goes is copied first.
    CopyFirst,
    /// S12: liveness is asked before a copy is purged.
    PurgeAsks,
}

impl Safeguard {
    /// All of them, each with what breaks without it, and a seed whose story shows it.
    pub const ALL: [(Self, &'static str, u64); 27] = [
        (Self::AskAgain, "S2: ", 0),
        (Self::ConfirmBeforeDelete, "S2: ", 15),
        (Self::ConfirmAgain, "S1: ", 101),
        (Self::Freshness, "S2: ", 503),
        (Self::RefuseDrop, "S3: ", 23),
        (Self::CompleteInventory, "S4: ", 23),
        (Self::Mentions, "S5: ", 7),
        (Self::Grace, "S6: ", 0),
        (Self::Growth, "S6: ", 60),
        (Self::Reappearance, "S6: ", 70),
        (Self::VoidTombstones, "S6: ", 223),
        (Self::VoidRequests, "S6: ", 39),
        (Self::Adoption, "S7: ", 7),
        (Self::Counter, "S7: ", 10),
        (Self::MarkerWithBatch, "S7: ", 107),
        (Self::Pins, "S7: ", 70),
        (Self::Position, "S7: ", 19),
        (Self::Breakers, "S8: ", 3),
        (Self::Latch, "S8: ", 65),
        (Self::Pause, "S8: ", 8),
        (Self::ReferencesWithBatch, "S9: ", 8),
        (Self::ReferencedStays, "S9: ", 8),
        (Self::LockWithQuestion, "S10: ", 280),
        (Self::PutBack, "S1: ", 71),
        (Self::AuthorisedOnce, "S1: ", 3),
        (Self::CopyFirst, "S12: ", 7),
        (Self::PurgeAsks, "S12: ", 11),
    ];
}
