//! Right place, right truth (S7): the pins, the positions and the markers, looked at before anything else, and moved on.

use uuid::Uuid;

use super::stages::Locks;
use super::{Collector, ManagedStore, RunError};
use crate::domain::live_set::LiveSet;
use crate::domain::markers::{Known, Marker, NotAdopted, Owner, Truths, judge_marker};
use crate::domain::pins::{History, Misplaced, Position, SourcePin, judge_sources};
use crate::errors::chain;
use crate::ledger::{Adoption, Move};
use crate::stores::Store;

/// Our entry in a store's marker, as this pass left it; or why the store is not ours, in words.
pub type Entry = Result<Owner, String>;

/// Where a run is, as far as it was adopted.
pub struct Places {
    /// By store.
    pub entries: Vec<Entry>,
    /// What was adopted, if anything was.
    adoption: Option<Adoption>,
    /// The running server that the ledger is in, if it tells.
    server: Option<String>,
}

/// Compares what is there with what was adopted; a `run` moves every marker on by one, whoever only looks moves none.
///
/// The outer error ends the run; the inner one halts it.
pub async fn check(
    collector: &Collector,
    locks: &Locks,
    run: Option<Uuid>,
) -> Result<Result<Places, Misplaced>, RunError> {
    let sources = locks.liveness.pins();
    let Some(adoption) = collector.ledger.adoption().await? else {
        let never = || "nothing is adopted yet: look at `course-gc adopt`, and confirm with `--yes`".to_owned();
        let entries = collector.stores.iter().map(|_| Err(never())).collect();
        return Ok(Ok(Places { entries, adoption: None, server: None }));
    };
    let pinned = adoption.sources.iter().map(|(name, (pin, _))| (name.as_str(), pin));
    if let Err(misplaced) = judge_sources(pinned, &sources) {
        return Ok(Err(misplaced));
    }
    let (truths, server) = (locks.truths(), collector.ledger.server().await?);
    let mut entries = Vec::with_capacity(collector.stores.len());
    for managed in &collector.stores {
        let now = Now { locks, truths: &truths, server: server.as_deref(), run };
        match check_store(collector, &adoption, managed, &now).await? {
            Ok(entry) => entries.push(entry),
            Err(misplaced) => return Ok(Err(misplaced)),
        }
    }
    Ok(Ok(Places { entries, adoption: Some(adoption), server }))
}

/// What each liveness source is, and where in its history it was when its live set had been read: a row that was read is older
/// than that, and is missing in whatever goes back to before it.
pub fn found(locks: &Locks, sets: &[(String, LiveSet, Position)]) -> Vec<(String, SourcePin, Position)> {
    let later = |name: &String| sets.iter().find(|(source, ..)| source == name).map(|(.., position)| *position);
    let at_its_position = |(name, pin, first)| {
        let at = later(&name).unwrap_or(first);
        (name, pin, at)
    };
    locks.liveness.pins().into_iter().map(at_its_position).collect()
}

/// What a pass is by itself.
struct Now<'a> {
    locks: &'a Locks,
    /// What it asks.
    truths: &'a Truths,
    /// The running server that its ledger is in.
    server: Option<&'a str>,
    /// The run, if it is one.
    run: Option<Uuid>,
}

/// Judges one store by its marker, and moves our entry in it on.
async fn check_store(
    collector: &Collector,
    adoption: &Adoption,
    managed: &ManagedStore,
    &Now { locks, truths, server, run }: &Now<'_>,
) -> Result<Result<Entry, Misplaced>, RunError> {
    let store = managed.store.as_ref();
    let name = store.name();
    let marker = match store.marker().await {
        Ok(marker) => marker,
        Err(error) => return Ok(Ok(Err(format!("its marker could not be read: {}", chain(&error))))),
    };
    let installation = adoption.installation;
    let (adopted, sources) = (adoption.stores.get(name), managed.declared());
    let known = Known { store: name, adopted, sources: &sources, installation, truths };
    match judge_marker(&known, marker.as_ref()) {
        Err(behind) => {
            // Whoever stood still since it read the ledger takes its successor's move for that of a copy.
            locks.ledger.verify().await?;
            let objection = adopted.zip(marker.as_ref()).filter(|_| run.is_some());
            let objection =
                objection.and_then(|(known, from)| Some((from, known.objection(installation, from, server)?)));
            if let Some((from, to)) = objection {
                object(collector, store, from, &to).await?;
            }
            return Ok(Err(behind.into()));
        }
        Ok(Err(reason)) => return Ok(Ok(Err(reason.to_string()))),
        Ok(Ok(())) => {}
    }
    let gone = || Ok(Ok(Err(NotAdopted::Unmarked.to_string())));
    let Some(from) = marker else { return gone() };
    let Some(before) = from.owner(installation) else { return gone() };
    if run.is_none() {
        return Ok(Ok(Ok(before.clone())));
    }
    let after = Owner { counter: before.counter + 1, truths: truths.clone(), ..before.clone() };
    let step = Move { run, from: before.counter, to: after.counter, server };
    if !collector.ledger.begin_move(name, &step).await? {
        return Ok(Err(Misplaced::Contended(name.to_owned())));
    }
    match store.move_marker(Some(&from), &from.with(after.clone())).await {
        Ok(true) => {
            collector.ledger.end_move(name, after.counter).await?;
            Ok(Ok(Ok(after)))
        }
        Ok(false) => {
            // A copy of our ledger that moved it has the count that we announced: that must not pass for our own move.
            collector.ledger.withdraw_move(name, before.counter, after.counter).await?;
            Ok(Err(Misplaced::Contended(name.to_owned())))
        }
        Err(error) => Ok(Ok(Err(format!("its marker could not be moved on: {}", chain(&error))))),
    }
}

/// Moves a marker that is ahead on, so that whoever moved it halts, too. The ledger hears of it afterwards: what was not done
/// is tried again by the next run.
async fn object(collector: &Collector, store: &dyn Store, from: &Marker, to: &Marker) -> Result<(), RunError> {
    let name = store.name();
    match store.move_marker(Some(from), to).await {
        Ok(true) => {
            collector.ledger.objected(name).await?;
            tracing::error!(
                store = name,
                "somebody works with a copy of this ledger, or it was restored: the store's marker was moved so that the other halts, too"
            );
        }
        Ok(false) => tracing::warn!(store = name, "somebody else moved the store's marker in this moment"),
        Err(error) => tracing::warn!(store = name, error = chain(&error), "the store's marker could not be moved"),
    }
    Ok(())
}

/// Whether the history of a source broke since it was last seen, without a proof that nothing was lost. If so, every
/// clock starts anew. The proof is a ledger in the same running server, whose counts are those of the markers: it lost nothing,
/// and so its neighbours did not either. (The cluster's identifier alone is no proof: a copy that was restored beside it has it too.)
///
/// The ledger is told where the sources are only when what vanished is marked (`read_truth`): a run that halts or ends before
/// that leaves the break to be seen again by the next one.
pub async fn check_history(
    collector: &Collector,
    locks: &Locks,
    places: &Places,
    found: &[(String, SourcePin, Position)],
) -> Result<bool, RunError> {
    let Some(adoption) = &places.adoption else { return Ok(false) };
    let counts_match = places.entries.iter().all(Result::is_ok);
    let mut broken = false;
    for (name, _, began) in &locks.liveness.pins() {
        let Some((_, last_seen)) = adoption.sources.get(name) else { continue };
        let read = found.iter().find(|(source, ..)| source == name).map_or(began, |(.., position)| position);
        let server = locks.liveness.server(name);
        let proven = counts_match && server.is_some() && server == places.server.as_deref();
        match History::judge(last_seen, began, read, proven) {
            History::Whole => {}
            History::Proven(why) => tracing::warn!(
                source = name,
                why,
                "the history of a liveness source broke, and the ledger's with it; nothing was lost"
            ),
            History::Broken(why) => {
                tracing::warn!(source = name, why, "the history of a liveness source broke: every clock starts anew");
                broken = true;
            }
        }
    }
    if broken {
        collector.ledger.start_clocks_anew().await?;
    }
    Ok(broken)
}
