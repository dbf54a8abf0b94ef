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

use crate::clock::Clock;
use crate::stores::Handle;

/// Handles whose owners, and all ids that their names hold, were dead when they were confirmed.
pub struct Condemned {
    handles: Vec<Handle>,
    until: Duration,
    clock: Arc<dyn Clock>,
}

impl Condemned {
    /// Condemns handles, all of whose ids were confirmed dead at `confirmed_at`, for `good_for` from then on. The one
    /// maker; only the sweep calls it.
    pub(super) fn new(handles: Vec<Handle>, confirmed_at: Duration, good_for: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { handles, until: confirmed_at.saturating_add(good_for), clock }
    }

    /// A batch for the tests of a single store.
    #[cfg(test)]
    pub(crate) fn for_test(handles: Vec<Handle>, good_for: Duration) -> Self {
        let clock = Arc::new(crate::clock::MachineClock);
        Self::new(handles, clock.since_boot(), good_for, clock)
    }

    /// What may be deleted; at least one.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// False once the confirmation is too old to act upon (S2). A store asks before each thing that it sends.
    pub fn is_fresh(&self) -> bool {
        self.clock.since_boot() < self.until
    }

    /// The time that is left to send something; zero when the confirmation is too old.
    pub fn time_left(&self) -> Duration {
        self.until.saturating_sub(self.clock.since_boot())
    }
}

impl fmt::Debug for Condemned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condemned").field("handles", &self.handles.len()).field("until", &self.until).finish()
    }
}
