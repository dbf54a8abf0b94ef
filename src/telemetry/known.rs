//! What the ledger knows: the same on each replica, whoever ran last.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use prometheus::{Gauge, GaugeVec, IntGauge, IntGaugeVec};

use super::declare::metrics;
use crate::domain::evidence::Evidence;
use crate::domain::plan::{Breaker, Hold};
use crate::domain::standing::{OrphanGroup, Seen, SeenStore, Standing};

/// What is counted of each source, and of what.
const COURSES: [&str; 2] = ["live", "orphan"];
const RESOURCES: [&str; 3] = ["live", "orphan", "unrecognised"];

metrics! {
    /// What the ledger tells.
    pub struct Known {
        /// When the ledger was last read, by its own clock: what else is told here is as old as this.
        ledger_read: Gauge = "course_gc_ledger_read_timestamp_seconds" [];
        /// When the last run started, in the database's time; 0 before the first.
        last_run_start: Gauge = "course_gc_last_run_start_timestamp_seconds" [];
        /// When a run last ended clean or done; 0 before the first.
        last_success: Gauge = "course_gc_last_success_timestamp_seconds" [];
        /// When a run last found nothing to sweep; 0 before the first.
        last_clean: Gauge = "course_gc_last_clean_timestamp_seconds" [];
        /// Whether the last run or plan did not believe the live set, or where it is, and touched no store.
        halted: IntGauge = "course_gc_halted" [];
        /// Whether it halted since a database or a store is not the one that was adopted.
        pins_mismatched: IntGauge = "course_gc_pins_mismatched" [];
        /// Whether a person paused all deleting.
        paused: IntGauge = "course_gc_paused" [];
        /// Whether a breaker holds orphans until a person approves.
        breaker_open: IntGaugeVec = "course_gc_breaker_open" ["breaker"];
        /// Courses that the liveness source, or the union of all, last named as live.
        live_courses: IntGaugeVec = "course_gc_live_courses" ["source"];
        /// Courses in a source of a store in its last complete inventory, live ones and orphans.
        inventory_courses: IntGaugeVec = "course_gc_inventory_courses" ["store", "source", "state"];
        /// Resources in a source of a store in its last complete inventory: of live courses, of orphans, and of nobody known.
        inventory_resources: IntGaugeVec = "course_gc_inventory_resources" ["store", "source", "state"];
        /// Orphans that are there, by what is known of them; what went is not counted any more.
        orphans: IntGaugeVec = "course_gc_orphans" ["store", "evidence"];
        /// Orphans that are there and held, by the reason.
        orphans_held: IntGaugeVec = "course_gc_orphans_held" ["store", "reason"];
        /// Orphans that are still there a day after their grace, and are held for no reason that may last.
        orphans_overdue: IntGaugeVec = "course_gc_orphans_overdue" ["store"];
        /// How long ago the oldest orphan that is there was first seen; 0 if there is none.
        oldest_orphan: GaugeVec = "course_gc_oldest_orphan_age_seconds" ["store"];
        /// Resources from whose names no course id, or more than one, could be read in the last complete inventory.
        unrecognised: IntGaugeVec = "course_gc_unrecognised" ["store"];
        /// Resources that belong to no configured source in the last complete inventory.
        unclaimed: IntGaugeVec = "course_gc_unclaimed" ["store"];
        /// Whether the last inventory was complete; nothing is swept otherwise.
        store_complete: IntGaugeVec = "course_gc_store_complete" ["store"];
        /// Whether the store is the one that was adopted; nothing is swept otherwise.
        store_adopted: IntGaugeVec = "course_gc_store_adopted" ["store"];
        /// Whether what goes from the store is copied into quarantine first.
        store_quarantined: IntGaugeVec = "course_gc_store_quarantined" ["store"];
        /// Copies in quarantine, before the last run's own.
        quarantine_copies: IntGauge = "course_gc_quarantine_copies" [];
        /// What these copies take.
        quarantine_bytes: IntGauge = "course_gc_quarantine_bytes" [];
        /// What archives take of it, which the configuration limits.
        quarantine_archive_bytes: IntGauge = "course_gc_quarantine_archive_bytes" [];
        /// How much of the disk with the archives was free; NaN before the first run, and where they lie in a bucket.
        quarantine_free: Gauge = "course_gc_quarantine_free_ratio" [];
        /// When the oldest of these copies was made; 0 if there is none.
        quarantine_oldest: Gauge = "course_gc_quarantine_oldest_timestamp_seconds" [];
        /// Requests of the delete path that are promised and not yet done.
        requests_open: IntGauge = "course_gc_cleanup_requests_open" [];
        /// How long ago the oldest of them was made; 0 if there is none.
        requests_oldest: Gauge = "course_gc_cleanup_requests_oldest_age_seconds" [];
    }
}

impl Known {
    /// Takes over what the ledger tells of these stores, the ones that are configured.
    pub(super) fn tell(&self, standing: &Standing, stores: &[String]) {
        self.ledger_read.set(seconds(standing.now));
        self.last_run_start.set(stamp(standing.last_start));
        self.last_success.set(stamp(standing.last_success));
        self.last_clean.set(stamp(standing.last_clean));
        self.paused.set(i64::from(standing.paused));
        self.requests_open.set(gauge(standing.open_requests));
        self.requests_oldest.set(standing.oldest_request.map_or(0.0, |then| age(standing.now, then)));
        for breaker in Breaker::ALL {
            let reason = Hold::Breaker { breaker }.as_str();
            let holds = standing.orphans.iter().any(|group| group.decision.as_deref() == Some(reason));
            self.breaker_open.with_label_values(&[breaker.as_str()]).set(i64::from(holds));
        }
        for store in stores {
            let groups: Vec<&OrphanGroup> = standing.orphans.iter().filter(|group| group.store == *store).collect();
            self.tell_orphans(store, &groups, standing.now);
        }
        if standing.last_ended.is_none() {
            // A 0 would say that the disk is full.
            self.quarantine_free.set(f64::NAN);
        }
        if let Some(seen) = &standing.seen {
            self.tell_seen(seen, stores);
        }
    }

    fn tell_orphans(&self, store: &str, groups: &[&OrphanGroup], now: DateTime<Utc>) {
        let sum = |of: &dyn Fn(&OrphanGroup) -> bool| {
            groups.iter().filter(|group| of(group)).map(|group| group.orphans).sum::<u64>()
        };
        for evidence in Evidence::ALL {
            let count = sum(&|group| group.evidence == evidence);
            self.orphans.with_label_values(&[store, evidence.as_str()]).set(gauge(count));
        }
        for reason in Hold::NAMES {
            let count = sum(&|group| group.decision.as_deref() == Some(reason));
            self.orphans_held.with_label_values(&[store, reason]).set(gauge(count));
        }
        let overdue = groups.iter().map(|group| group.overdue()).sum();
        self.orphans_overdue.with_label_values(&[store]).set(gauge(overdue));
        let oldest = groups.iter().map(|group| group.first_seen).min();
        self.oldest_orphan.with_label_values(&[store]).set(oldest.map_or(0.0, |then| age(now, then)));
    }

    fn tell_seen(&self, seen: &Seen, stores: &[String]) {
        self.halted.set(i64::from(seen.halted));
        self.pins_mismatched.set(i64::from(seen.misplaced));
        for live in &seen.live {
            self.live_courses.with_label_values(&[&live.source]).set(gauge(live.live));
        }
        if let Some(quarantine) = &seen.quarantine {
            self.quarantine_copies.set(gauge(quarantine.copies));
            self.quarantine_bytes.set(gauge(quarantine.bytes));
            self.quarantine_archive_bytes.set(gauge(quarantine.archive_bytes.unwrap_or(0)));
            self.quarantine_free.set(quarantine.free_percent.map_or(f64::NAN, |percent| f64::from(percent) / 100.0));
            self.quarantine_oldest.set(stamp(quarantine.oldest));
        }
        let stores: BTreeSet<&String> = stores.iter().collect();
        for store in seen.stores.iter().filter(|store| stores.contains(&store.name)) {
            let label = &[store.name.as_str()];
            self.store_complete.with_label_values(label).set(i64::from(store.complete));
            self.store_adopted.with_label_values(label).set(i64::from(store.adopted));
            self.store_quarantined.with_label_values(label).set(i64::from(store.quarantined));
            if store.complete {
                self.tell_inventory(store);
            }
        }
    }

    /// What a complete inventory says of the store as it is: it replaces what the one before said.
    fn tell_inventory(&self, store: &SeenStore) {
        let name = store.name.as_str();
        for source in &store.sources {
            for (state, count) in COURSES.into_iter().zip([source.live_courses, source.orphans]) {
                self.inventory_courses.with_label_values(&[name, &source.name, state]).set(gauge(count));
            }
            let counts = [source.live_resources, source.orphan_resources, source.unrecognised];
            for (state, count) in RESOURCES.into_iter().zip(counts) {
                self.inventory_resources.with_label_values(&[name, &source.name, state]).set(gauge(count));
            }
        }
        let unrecognised = store.sources.iter().map(|source| source.unrecognised).sum();
        self.unrecognised.with_label_values(&[name]).set(gauge(unrecognised));
        self.unclaimed.with_label_values(&[name]).set(gauge(store.unclaimed));
    }
}

/// A count as a gauge takes it.
pub(super) fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1000.0
}

fn stamp(at: Option<DateTime<Utc>>) -> f64 {
    at.map_or(0.0, seconds)
}

fn age(now: DateTime<Utc>, then: DateTime<Utc>) -> f64 {
    (seconds(now) - seconds(then)).max(0.0)
}
