//! Every fault at every stage of a run, and the table of what happened.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;

use super::DOCUMENT;
use super::fault::Struck;
use super::scene::Scene;
use crate::interposed::Call;

/// When a fault begins.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// Before the run.
    First,
    /// When this was sent to the server, in this order; the last part meets the fault.
    Sent(&'static [&'static [u8]]),
    /// Before the first such call of a store, or when this was sent then.
    Before(&'static str, Call, &'static [&'static [u8]]),
}

/// How much may go of what the fault strikes: of the struck store, or with Postgres of each store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Most {
    /// Nothing was confirmed yet.
    Nothing,
    /// So many handles were confirmed at most: the batch in hand, and those before.
    Handles(usize),
    /// The same of one store, while the others may be further.
    HandlesOf(&'static str, usize),
    /// All of it was confirmed.
    Everything,
}

/// A stage of a run, in the document's words.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    pub name: &'static str,
    pub when: When,
    pub most: Most,
}

/// Plays every fault at every stage, so many at a time, and compares the table of what happened with the document.
pub async fn play(struck: Struck, stages: &[Stage], at_a_time: usize) -> Result<()> {
    let faults = struck.faults();
    let cases = stages.iter().enumerate().flat_map(|(row, _)| (0..faults.len()).map(move |column| (row, column)));
    // What takes long is begun first.
    let mut cases: Vec<(usize, usize)> = cases.collect();
    cases.sort_by_key(|(_, column)| *column);
    let cases = Mutex::new(VecDeque::from(cases));
    let cells = Mutex::new(BTreeMap::new());
    try_join_all((0..at_a_time).map(async |_| {
        let scene = Scene::before(struck).await?;
        loop {
            let next = cases.lock().expect("nobody panicked").pop_front();
            let Some((row, column)) = next else { return anyhow::Ok(()) };
            let ((name, fault), stage) = (faults[column], stages[row]);
            let what = scene.play(stage, fault).await.with_context(|| format!("{name} at {}", stage.name))?;
            cells.lock().expect("nobody panicked").insert((row, column), what);
        }
    }))
    .await?;
    let cells = cells.into_inner()?;
    let columns: Vec<&str> = faults.iter().map(|(name, _)| *name).collect();
    let mut table = format!("| stage | {} |\n|{}\n", columns.join(" | "), " --- |".repeat(columns.len() + 1));
    for (row, stage) in stages.iter().enumerate() {
        let cells: Vec<&str> = (0..columns.len()).map(|column| cells[&(row, column)].as_str()).collect();
        table += &format!("| {} | {} |\n", stage.name, cells.join(" | "));
    }
    ensure!(DOCUMENT.contains(&table), "docs/faults.md should say for {struck:?}:\n\n{table}");
    Ok(())
}
