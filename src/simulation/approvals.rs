//! Approvals in memory: what `ledger/approvals.rs` does in Postgres.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::cluster::{Approved, Tables};
use super::ledger::MemoryLedger;
use super::stage::source_of;
use crate::domain::approvals::{Digest, HoldKind, Item, Released, Terms};
use crate::domain::holds::{Covered, HeldBy, HeldOrphan};
use crate::domain::inventory::SourceIndex;
use crate::domain::live_set::Halt;
use crate::ledger::{AcceptedSize, Approval, Approvals, LedgerError, Place};

impl Tables {
    fn in_force(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Approved> + '_ {
        self.approvals.iter().filter(move |approved| approved.approval.until > now)
    }

    /// Believed sizes of live sets, where a size that was accepted shadows what was before.
    pub fn since_accepted(&self, now: DateTime<Utc>) -> Vec<(DateTime<Utc>, String, u64)> {
        let mut accepted: BTreeMap<&String, (DateTime<Utc>, u64)> = BTreeMap::new();
        for Approved { approval, sizes, .. } in &self.approvals {
            for (source, live) in sizes {
                let force = approval.approved_at..=approval.until;
                let carried = self.populations.iter().any(|(at, of, _)| of == source && force.contains(at));
                if approval.until > now || carried {
                    accepted.insert(source, (approval.approved_at, *live));
                }
            }
        }
        let counts =
            |(at, source, _): &&(DateTime<Utc>, String, u64)| accepted.get(source).is_none_or(|(since, _)| at > since);
        let believed = self.populations.iter().filter(counts).cloned();
        believed.chain(accepted.iter().map(|(source, (at, live))| (*at, (*source).clone(), *live))).collect()
    }
}

#[async_trait]
impl Approvals for MemoryLedger {
    async fn released(&self, place: Place<'_>) -> Result<Released, LedgerError> {
        let now = self.now();
        self.read(|tables| {
            let mut released = Released::default();
            for Approved { approval, items, .. } in tables.in_force(now) {
                for item in items.iter().filter(|item| item.store == place.store) {
                    let index = place.sources.iter().position(|name| *name == item.source);
                    let Some(index) = index else { continue };
                    let key = (SourceIndex(index), item.course, item.evidence);
                    match approval.kind {
                        HoldKind::Breakers => _ = released.from_breakers.entry(key).or_insert(approval.digest),
                        HoldKind::Discontinuity => _ = released.from_breaks.entry(key).or_insert(approval.approved_at),
                        HoldKind::Halt => {}
                    }
                }
            }
            released
        })
        .await
    }

    async fn held(&self) -> Result<Vec<HeldOrphan>, LedgerError> {
        let now = self.now();
        self.read(|tables| {
            let mut held = Vec::new();
            for ((store, source, course), row) in &tables.orphans {
                let (store, source, evidence) = (store.clone(), source.clone(), row.orphan.evidence);
                let item = Item { store, source, course: *course, evidence };
                let is_approved =
                    |kind| tables.in_force(now).any(|it| it.approval.kind == kind && it.items.contains(&item));
                let broken = tables.known.get(course).is_some_and(|known| known.across_break);
                let by = match row.orphan.latched {
                    _ if broken && !is_approved(HoldKind::Discontinuity) => HeldBy::Discontinuity,
                    Some(breaker) if !is_approved(HoldKind::Breakers) => HeldBy::Breaker(breaker),
                    _ => continue,
                };
                let amount = row.orphan.found.amount;
                held.push(HeldOrphan { item, by, resources: amount.resources, bytes: amount.bytes });
            }
            held
        })
        .await
    }

    async fn accepted_sizes(&self) -> Result<BTreeMap<String, AcceptedSize>, LedgerError> {
        let now = self.now();
        self.read(|tables| {
            let of = |it: &Approved| {
                let digest = it.approval.digest;
                let sizes =
                    it.sizes.iter().map(|(source, live)| (source.clone(), AcceptedSize { digest, live: *live }));
                sizes.collect::<Vec<_>>()
            };
            tables.in_force(now).flat_map(of).collect()
        })
        .await
    }

    async fn approve(
        &self,
        digest: Digest,
        kind: HoldKind,
        covered: &Covered<'_>,
        terms: &Terms,
    ) -> Result<Approval, LedgerError> {
        let (items, sizes): (BTreeSet<Item>, BTreeMap<String, u64>) = match covered {
            Covered::Orphans(items) => (items.iter().map(|item| (*item).clone()).collect(), BTreeMap::new()),
            Covered::Sizes(sizes) => {
                (BTreeSet::new(), sizes.iter().map(|(source, live)| ((*source).to_owned(), *live)).collect())
            }
        };
        let cluster = self.cluster;
        self.call(|state| {
            let now = self.world.database_time_in(state);
            let approval = Approval {
                digest,
                kind,
                reason: terms.reason().to_owned(),
                approved_by: "a person".to_owned(),
                approved_at: now,
                until: now + TimeDelta::from_std(terms.lasts()).unwrap(),
                covers: (items.len() + sizes.len()) as u64,
            };
            let place = |item: &Item| (item.store.clone(), source_of(&item.source), item.course);
            let size = sizes.values().min().copied();
            state.observer.approved(cluster, &approval, items.iter().map(place).collect(), size);
            state.clusters[cluster].commit();
            state.clusters[cluster].ledger.approvals.push(Approved { approval: approval.clone(), items, sizes });
            approval
        })
        .await
    }

    async fn approvals(&self) -> Result<Vec<Approval>, LedgerError> {
        let now = self.now();
        let mut approvals: Vec<Approval> =
            self.read(|tables| tables.in_force(now).map(|it| it.approval.clone()).collect()).await?;
        approvals.reverse();
        Ok(approvals)
    }

    async fn last_halts(&self) -> Result<Option<(DateTime<Utc>, Vec<Halt>)>, LedgerError> {
        self.read(|tables| tables.halts.clone()).await
    }
}
