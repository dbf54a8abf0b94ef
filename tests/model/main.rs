//! The protocol as a model, checked exhaustively in small worlds. `docs/model.md` tells what came of it.
//!
//! A [`Protocol`] is a world (`world`), what a collector does in it step by step (`collector`), and what happens to it
//! (`environment`): rows and resources come and go in any order, collectors die, freeze and lose their lock, databases are
//! restored, fail over, are cloned or replaced. The checker (the crate `stateright`) visits every state that can be reached within
//! the budgets of a `scenario`, and judges each step by the `claims`, which are lines of the contract (docs/safety.md).
//!
//! **What decides is the product's own code:** diff, evidence, clocks, gates, pins, markers and the judgement of the live set
//! are called from `course_gc::domain` (`decide`). What acts is modelled after `reconcile`, `sweep/batch.rs` and the ledger, with
//! the copies of S12 as the design has them.
//!
//! **Each safeguard is needed:** without any one of `safeguards` the checker finds a behaviour that breaks a claim. **Each
//! known gap is one:** what the protocol does not do, `gaps`, is shown the same way.
//!
//! Abstracted away:
//! - *One store, one or two resources, one or two collectors, three courses.* Stores share nothing but the locks and the ledger.
//!   A resource is all that one source holds of one course; its content is a version, so a copy, a digest and a fingerprint are too.
//!   A batch is one resource.
//! - *Time is hours.* It stands still while a run looks and plans. An hour is longer than a confirmation is good for, so a batch
//!   that is an hour older than its confirmation is stale. A copy expires at any time, but not while its batch is under way.
//! - *A step is atomic,* and its commit is durable unless a restore or a failover takes it back. Questions and answers are one step:
//!   what comes between them comes before or after. A question fails if the lock's session is lost, and else tells the truth, or, once
//!   blind, nothing at all. A liveness source that lies about single rows is what S4 shuts out, and not here.
//! - *The log's position* moves on with each live set that is read. So a restored one stays behind what was seen; see
//!   [`gaps::Gap::TheLogCatchesUp`].
//! - *Breakers, caps, pauses, approvals and adoption* are counts and switches of a person, tested where they are. Tombstones and
//!   requests are not there.
//! - *Asking again after the inventory* (S2) and *holding what an incomplete inventory shows* (S4) are in the protocol, but not
//!   among the safeguards: each delete is confirmed, so leaving them out costs a wrong plan, not a resource. Nor is the *first*
//!   look at references: the one with the batch holds.

#![expect(clippy::panic, clippy::unwrap_used, reason = "what a test needs and does not find fails it")]

mod claims;
mod collector;
mod decide;
mod environment;
mod gaps;
mod protocol;
mod safeguards;
mod scenario;
mod world;

use std::num::NonZero;
use std::thread::available_parallelism;

use course_gc::clock::{Clock, MachineClock};
use stateright::{Checker, HasDiscoveries, Model, Path};

use claims::Claim;
use environment::Action;
use gaps::GAPS;
use protocol::{Protocol, SOMETHING_GOES};
use safeguards::NEEDS;
use scenario::Scenario;
use world::State;

/// What the checker found.
struct Checked {
    states: usize,
    something_goes: bool,
    /// Each broken claim, and a shortest behaviour that breaks it, in words.
    broken: Vec<(&'static str, String)>,
}

/// Visits every state that can be reached, or goes on until `until`.
fn check(protocol: Protocol, until: HasDiscoveries) -> Checked {
    let threads = available_parallelism().map_or(1, NonZero::get);
    let checker = protocol.checker().threads(threads).finish_when(until).spawn_bfs().join();
    let mut discoveries = checker.discoveries();
    let something_goes = discoveries.remove(SOMETHING_GOES).is_some();
    let broken = discoveries.into_iter().map(|(claim, path)| (claim, in_words(path))).collect();
    Checked { states: checker.unique_state_count(), something_goes, broken }
}

/// A behaviour, one line a step.
fn in_words(path: Path<State, Action>) -> String {
    let line = |(state, action): &(State, Option<Action>)| match action {
        Some(Action::Step(me)) => Some(format!("  collector {me} at {:?}", state.collectors[*me].at)),
        Some(action) => Some(format!("  {action:?}")),
        None => None,
    };
    path.into_vec().iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// Checks the whole protocol in each of these worlds.
fn keeps_every_claim(scenarios: Vec<Scenario>) {
    for scenario in scenarios {
        let name = scenario.name;
        let began = MachineClock.since_boot();
        let checked = check(Protocol::whole(scenario), HasDiscoveries::AnyFailures);
        let took = MachineClock.since_boot().saturating_sub(began);
        println!("{name}: {} states, {:.1} s", checked.states, took.as_secs_f64());
        for (claim, behaviour) in &checked.broken {
            println!("{claim}:\n{behaviour}");
        }
        assert!(checked.broken.is_empty(), "in the world {name:?} the protocol breaks {:?}", checked.broken[0].0);
        assert!(checked.something_goes, "in the world {name:?} nothing is ever deleted, so it shows nothing");
    }
}

/// Checks that a changed protocol breaks a claim, and shows how.
fn breaks(what: &str, protocol: Protocol, claim: Claim) {
    let name = protocol.scenario.name;
    let checked = check(protocol, HasDiscoveries::AllOf([claim.name()].into()));
    let found = checked.broken.iter().find(|(broken, _)| *broken == claim.name());
    let (_, behaviour) = found.unwrap_or_else(|| {
        panic!("{what}: in the world {name:?}, with all of its {} states, {:?} holds", checked.states, claim.name())
    });
    println!("{what} ({name}): {}\n{behaviour}", claim.name());
}

#[test]
fn the_whole_protocol_keeps_every_claim() {
    keeps_every_claim(Scenario::all());
}

#[test]
#[ignore = "minutes: part of `make deep`"]
fn the_whole_protocol_keeps_every_claim_in_larger_worlds() {
    keeps_every_claim(Scenario::all().into_iter().map(Scenario::deeper).collect());
}

#[test]
fn every_safeguard_is_needed() {
    for need in &NEEDS {
        let what = format!("without {:?}", need.safeguard);
        breaks(&what, Protocol::without((need.scenario)(), need.safeguard), need.breaks);
    }
}

#[test]
fn every_known_gap_is_one() {
    for shown in &GAPS {
        let what = format!("with the gap {:?}", shown.gap);
        breaks(&what, Protocol::opening((shown.scenario)(), shown.gap), shown.breaks);
    }
}

#[test]
fn every_claim_can_be_broken() {
    for claim in Claim::ALL {
        assert!(NEEDS.iter().any(|need| need.breaks == *claim), "nothing shows that {claim:?} can be broken");
    }
}

#[test]
fn the_document_lists_every_claim_safeguard_and_gap() {
    const DOCUMENT: &str = include_str!("../../docs/model.md");
    let has_row = |cells: &str| assert!(DOCUMENT.contains(cells), "docs/model.md has no row with {cells:?}");
    for claim in Claim::ALL {
        has_row(&format!("| {} |", claim.name()));
    }
    for (index, need) in NEEDS.iter().enumerate() {
        assert_eq!(need.safeguard as usize, index, "the list of safeguards has {:?} in another place", need.safeguard);
        has_row(&format!("| `{:?}` | {} |", need.safeguard, need.breaks.name()));
    }
    for (index, shown) in GAPS.iter().enumerate() {
        assert_eq!(shown.gap as usize, index, "the list of gaps has {:?} in another place", shown.gap);
        has_row(&format!("| `{:?}` | {} |", shown.gap, shown.breaks.name()));
    }
}
