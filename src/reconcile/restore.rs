//! What a person does with what lies in quarantine: looks at it, verifies it, puts it back, purges it before its time (S12).

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::places;
use super::stages::Locks;
use super::{Collector, RunError};
use crate::domain::ids::CourseId;
use crate::errors::chain;
use crate::pace;
use crate::quarantine::{Copy, Listing, Returned};
use crate::stores::Store;
use crate::stores::copies::Restoring;

/// For how long a restore leaves its courses alone, unless told otherwise.
pub const EXEMPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// For longer nobody is left alone by a restore.
pub const EXEMPT_LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Which copies are meant: those that fit everything that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this run.
    pub run: Option<Uuid>,
    /// Of this course; and only what is its.
    pub course: Option<CourseId>,
    /// In this store.
    pub store: Option<String>,
}

impl Selection {
    /// True if it means every copy that there is.
    pub fn is_all(&self) -> bool {
        self.run.is_none() && self.course.is_none() && self.store.is_none()
    }

    fn fits(&self, copy: &Copy) -> bool {
        self.run.is_none_or(|run| run == copy.id.run)
            && self.course.is_none_or(|course| copy.courses.contains_key(&course))
            && self.store.as_ref().is_none_or(|store| *store == copy.store)
    }
}

/// What was put back, and what was not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Restored {
    /// Each resource.
    pub items: Vec<Returned>,
    /// Courses of which nothing goes for a while.
    #[schema(value_type = Vec<String>)]
    pub exempt: BTreeSet<CourseId>,
    /// What could not be looked at, with all causes.
    pub errors: Vec<String>,
}

/// What was purged, and what was not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Purged {
    /// How many copies are gone.
    pub copies: u64,
    /// What they took.
    pub bytes: u64,
    /// Courses that are live: their copies stay.
    pub live: BTreeSet<CourseId>,
    /// What is still there, and why, with all causes.
    pub errors: Vec<String>,
}

/// The copies that are meant, and what could not be listed.
pub async fn copies(collector: &Collector, selection: &Selection) -> Listing {
    let wanted = selection.run;
    let of_run = move |run: Uuid| wanted.is_none_or(|wanted| wanted == run);
    let mut listing = collector.quarantine.copies(&collector.stores(), &of_run).await;
    listing.copies.retain(|copy| selection.fits(copy));
    listing
}

/// Puts back what is meant, newest copies first, and leaves its courses alone for `exempt` from now on. With [`Restoring::Look`]
/// it only says what would be.
///
/// # Errors
/// If another collector works, or the place is not the one that was adopted. What could not be put back is in the answer.
pub async fn restore(
    collector: &Collector,
    selection: &Selection,
    restoring: Restoring,
    exempt: Duration,
) -> Result<Restored, RunError> {
    let locks = Locks::take(collector).await?;
    let restored = restore_locked(collector, &locks, selection, (restoring, exempt)).await;
    locks.release().await;
    restored
}

async fn restore_locked(
    collector: &Collector,
    locks: &Locks,
    selection: &Selection,
    (restoring, exempt): (Restoring, Duration),
) -> Result<Restored, RunError> {
    let Listing { mut copies, errors, .. } = copies(collector, selection).await;
    copies.sort_by_key(|copy| std::cmp::Reverse(copy.id));
    let mut restored = Restored::default();
    restored.errors.extend(errors.into_iter().map(|(of, error)| format!("{of}: {error}")));
    let stores = ours(collector, locks, &mut restored.errors).await?;
    let is_meant = |course: &&CourseId| selection.course.is_none_or(|meant| meant == **course);
    let courses = copies.iter().flat_map(|copy| copy.courses.keys()).filter(is_meant).copied().collect();
    if restoring != Restoring::Look && !copies.is_empty() {
        // Before the first thing is back, so that no run takes it away again.
        collector.ledger.exempt(&courses, exempt).await?;
        restored.exempt = courses;
    }
    for copy in &copies {
        match stores.iter().find(|store| store.name() == copy.store) {
            Some(store) => {
                let returned = collector.quarantine.put_back(*store, copy, selection.course, restoring).await;
                restored.items.extend(returned);
            }
            None => {
                let why = format!(
                    "copy {} of store {} cannot be put back: there is no such store that is ours",
                    copy.id, copy.store
                );
                restored.errors.push(why);
            }
        }
    }
    Ok(restored)
}

/// Purges what is meant, though its time has not come; except for what names somebody who is live.
///
/// # Errors
/// If another collector works, the place is not the one that was adopted, or nobody says who is live.
pub async fn purge(collector: &Collector, selection: &Selection) -> Result<Purged, RunError> {
    let locks = Locks::take(collector).await?;
    let purged = purge_locked(collector, &locks, selection).await;
    locks.release().await;
    purged
}

async fn purge_locked(collector: &Collector, locks: &Locks, selection: &Selection) -> Result<Purged, RunError> {
    let Listing { copies, errors, .. } = copies(collector, selection).await;
    let mut purged = Purged::default();
    purged.errors.extend(errors.into_iter().map(|(of, error)| format!("{of}: {error}")));
    let stores = ours(collector, locks, &mut purged.errors).await?;
    for copy in &copies {
        let store = stores.iter().find(|store| store.name() == copy.store).copied();
        pace::rest(store.and_then(|store| store.pace())).await;
        pace::at_once(purge_one(collector, locks, (store, copy), &mut purged)).await?;
    }
    Ok(purged)
}

async fn purge_one(
    collector: &Collector,
    locks: &Locks,
    (store, copy): (Option<&dyn Store>, &Copy),
    purged: &mut Purged,
) -> Result<(), RunError> {
    let good = collector.good_from_now();
    let live = locks.liveness.live_among(&copy.named).await?;
    locks.ledger.verify().await?;
    if !live.is_empty() {
        purged.live.extend(live.iter());
        return Ok(());
    }
    match collector.quarantine.purge(store, copy, &good).await {
        Ok(true) => {
            purged.copies += 1;
            purged.bytes += copy.bytes;
        }
        Ok(false) => purged.errors.push(format!(
            "copy {} of store {} stays: since it was asked who is live, more time passed than a confirmation is good for; purge again",
            copy.id, copy.store
        )),
        Err(error) => purged.errors.push(chain(&error)),
    }
    Ok(())
}

/// The stores that are ours, as a plan finds them (S7).
async fn ours<'a>(
    collector: &'a Collector,
    locks: &Locks,
    errors: &mut Vec<String>,
) -> Result<Vec<&'a dyn Store>, RunError> {
    let places = places::check(collector, locks, None).await?.map_err(|why| RunError::Misplaced(why.to_string()))?;
    let mut ours = Vec::new();
    for (managed, entry) in collector.stores.iter().zip(places.entries) {
        match entry {
            Ok(_) => ours.push(managed.store.as_ref()),
            Err(why) => errors.push(format!("store {} is not ours: {why}", managed.store.name())),
        }
    }
    Ok(ours)
}
