//! A batch whose death was confirmed seconds ago.
//!
//! [`Condemned`] is what a store's `delete` takes, and there is one way to get one: this module's parent, after it asked
//! every liveness source about every id that the batch names. Outside of `sweep` it can be read:
//!
//! ```
//! fn count(batch: &course_gc::sweep::Condemned) -> usize {
//!     batch.handles().len()
//! }
//! ```
//!
//! but not made:
//!
//! ```compile_fail
//! fn forge(handles: Vec<course_gc::stores::Handle>) -> course_gc::sweep::Condemned {
//!     course_gc::sweep::Condemned { handles, ..todo!() }
//! }
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Deadline};
use crate::stores::copies::Safe;
use crate::stores::{Handle, Referenced};

/// Handles whose owners, and all ids that their names hold, were dead when they were confirmed, or authorised to be taken for dead
/// ([`Authorised`](crate::ledger::Authorised)).
pub struct Condemned {
    handles: Vec<Handle>,
    safe: Option<Safe>,
    referenced: Referenced,
    good: Deadline,
}

impl Condemned {
    /// Condemns handles, all of whose ids were confirmed dead at `confirmed_at`, for `good_for` from then on. The one
    /// maker; only the sweep calls it. `safe` has a receipt for each handle, where their store is in quarantine; `referenced` is
    /// what the same question found referred to.
    pub(super) fn new(
        (handles, safe, referenced): (Vec<Handle>, Option<Safe>, Referenced),
        confirmed_at: Duration,
        good_for: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let good = Deadline::new(confirmed_at.saturating_add(good_for), clock);
        Self { handles, safe, referenced, good }
    }

    /// A batch for the tests of a single store, without quarantine.
    #[cfg(test)]
    pub(crate) fn for_test(handles: Vec<Handle>, good_for: Duration) -> Self {
        let clock = Arc::new(crate::clock::MachineClock);
        Self::new((handles, None, Referenced::default()), clock.since_boot(), good_for, clock)
    }

    /// A batch for the tests of a single store, whose handles were copied.
    #[cfg(test)]
    pub(crate) fn for_test_copied(handles: Vec<Handle>, safe: Safe, good_for: Duration) -> Self {
        let clock = Arc::new(crate::clock::MachineClock);
        Self::new((handles, Some(safe), Referenced::default()), clock.since_boot(), good_for, clock)
    }

    /// A batch for the tests of a single store, good for so long on a clock of their own.
    #[cfg(test)]
    pub(crate) fn for_test_by(
        batch: (Vec<Handle>, Option<Safe>, Referenced),
        good_for: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::new(batch, clock.since_boot(), good_for, clock)
    }

    /// A batch for the tests of a single store, of which something is referred to.
    #[cfg(test)]
    pub(crate) fn for_test_except(
        handles: Vec<Handle>,
        safe: Option<Safe>,
        referenced: Referenced,
        good_for: Duration,
    ) -> Self {
        let clock = Arc::new(crate::clock::MachineClock);
        Self::new((handles, safe, referenced), clock.since_boot(), good_for, clock)
    }

    /// What may be deleted; at least one.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// The copies of the handles, a receipt each in their order; `None` where a person chose to keep none (S12). The delete
    /// takes only what still is as its receipt says.
    pub fn safe(&self) -> Option<&Safe> {
        self.safe.as_ref()
    }

    /// What of the handles is referred to, and stays though the rest goes (S9).
    pub fn referenced(&self) -> &Referenced {
        &self.referenced
    }

    /// False once the confirmation is too old to act upon (S2). A store asks before each thing that it sends.
    pub fn is_fresh(&self) -> bool {
        !self.good.is_over()
    }

    /// The time that is left to send something; zero when the confirmation is too old.
    pub fn time_left(&self) -> Duration {
        self.good.time_left()
    }

    /// Until when the confirmation is good, for whoever acts upon it on a thread of its own.
    pub fn good(&self) -> Deadline {
        self.good.clone()
    }
}

impl fmt::Debug for Condemned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condemned").field("handles", &self.handles.len()).field("good", &self.good).finish()
    }
}
