//! What was adopted, in memory: what `ledger/adoption.rs` does in Postgres.

use std::collections::BTreeMap;

use async_trait::async_trait;
use uuid::Uuid;

use super::ledger::{MemoryLedger, anew};
use super::world::State;
use crate::domain::markers::AdoptedStore;
use crate::domain::pins::{Position, SourcePin};
use crate::ledger::{Adoption, Adoptions, LedgerError, Move};

#[async_trait]
impl Adoptions for MemoryLedger {
    async fn adoption(&self) -> Result<Option<Adoption>, LedgerError> {
        self.read(|tables| tables.adoption.clone()).await
    }

    async fn pin(
        &self,
        _: &str,
        pins: &[(String, SourcePin, Position)],
        is_another: bool,
    ) -> Result<Uuid, LedgerError> {
        self.call(|state| {
            state.observer.pinned(self.cluster);
            state.clusters[self.cluster].commit();
            let tables = &mut state.clusters[self.cluster].ledger;
            let before = tables.adoption.take();
            let sources = pins.iter().map(|(name, pin, position)| (name.clone(), (pin.clone(), *position))).collect();
            let (installation, stores) =
                before.map_or((Uuid::from_u128(1), BTreeMap::new()), |before| (before.installation, before.stores));
            for ((.., course), row) in &mut tables.orphans {
                if is_another || tables.known.get(course).is_some_and(|known| known.across_break) {
                    anew(row);
                }
            }
            tables.known.values_mut().for_each(|known| known.across_break = false);
            tables.adoption = Some(Adoption { installation, sources, stores });
            installation
        })
        .await
    }

    async fn adopt_store(&self, store: &str, sources: &[(String, bool)], counter: u64) -> Result<(), LedgerError> {
        self.call(|state| {
            state.observer.adopted(store);
            state.clusters[self.cluster].commit();
            if let Some(adoption) = &mut state.clusters[self.cluster].ledger.adoption {
                let adopted = adoption.stores.entry(store.to_owned()).or_default();
                let moved_in = adopted.moved_in.take();
                *adopted =
                    AdoptedStore { sources: sources.to_vec(), counter, pending: None, moved_in, objected: false };
            }
        })
        .await
    }

    async fn begin_move(&self, store: &str, step: &Move<'_>) -> Result<bool, LedgerError> {
        let Move { run, from, to, server } = *step;
        let begin = |state: &mut State| {
            let adoption = state.clusters[self.cluster].ledger.adoption.as_mut();
            match adoption.and_then(|adoption| adoption.stores.get_mut(store)) {
                Some(adopted) if adopted.counter == from || adopted.pending == Some(from) => {
                    (adopted.counter, adopted.pending) = (from, Some(to));
                    adopted.moved_in = server.map(ToOwned::to_owned);
                    true
                }
                _ => false,
            }
        };
        match run {
            Some(run) => self.fenced(run, begin).await,
            None => self.call(begin).await,
        }
    }

    async fn objected(&self, store: &str) -> Result<(), LedgerError> {
        self.stores(|stores| stores.get_mut(store).map(|adopted| adopted.objected = true)).await?;
        Ok(())
    }

    async fn end_move(&self, store: &str, to: u64) -> Result<(), LedgerError> {
        self.stores(|stores| match stores.get_mut(store) {
            Some(adopted) if adopted.pending == Some(to) => (adopted.counter, adopted.pending) = (to, None),
            _ => {}
        })
        .await?;
        Ok(())
    }

    async fn withdraw_move(&self, store: &str, from: u64, to: u64) -> Result<(), LedgerError> {
        self.stores(|stores| match stores.get_mut(store) {
            Some(adopted) if (adopted.counter, adopted.pending) == (from, Some(to)) => adopted.pending = None,
            _ => {}
        })
        .await?;
        Ok(())
    }

    async fn saw_source(
        &self,
        run: Uuid,
        source: &str,
        pin: &SourcePin,
        position: &Position,
    ) -> Result<(), LedgerError> {
        self.fenced(run, |state| {
            let tables = &mut state.clusters[self.cluster].ledger;
            let seen = tables.adoption.as_mut().and_then(|adoption| adoption.sources.get_mut(source));
            if let Some(seen) = seen {
                *seen = (pin.clone(), *position);
            }
        })
        .await
    }

    async fn server(&self) -> Result<Option<String>, LedgerError> {
        self.call(|state| Some(state.clusters[self.cluster].server())).await
    }

    async fn start_clocks_anew(&self) -> Result<u64, LedgerError> {
        self.write(|tables| tables.orphans.values_mut().map(anew).count() as u64).await
    }
}

impl MemoryLedger {
    async fn stores<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, AdoptedStore>) -> T,
    ) -> Result<Option<T>, LedgerError> {
        self.write(|tables| tables.adoption.as_mut().map(|adoption| change(&mut adoption.stores))).await
    }
}
