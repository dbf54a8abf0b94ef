//! The protocol as a model.

mod claims;
mod collector;
mod decide;
mod environment;
mod protocol;
mod safeguards;
mod scenario;
mod world;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use protocol::Protocol;
use safeguards::NEEDS;
use scenario::Scenario;

/// Checks everything there is, or up to the first broken claim. Returns the broken claims' names with the shortest behaviour.
fn check(protocol: Protocol) -> Vec<(String, String)> {
    let began = Instant::now();
    let name = protocol.scenario.name;
    let without = protocol.without;
    let checker = protocol.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut failures = Vec::new();
    for (property, path) in checker.discoveries() {
        if property != protocol::SOMETHING_GOES {
            failures.push((property.to_owned(), format!("{:?}", path.into_actions())));
        }
    }
    let goes = checker.discovery(protocol::SOMETHING_GOES).is_some();
    println!("{name} without {without:?}: {} states ({} generated), depth {}, {:?}, goes {goes} {failures:?}", checker.unique_state_count(), checker.state_count(), checker.max_depth(), began.elapsed());
    failures
}

#[test]
fn whole() {
    let mut bad = 0;
    for scenario in Scenario::all() {
        bad += check(Protocol::whole(scenario)).len();
    }
    assert_eq!(bad, 0);
}

#[test]
fn each() {
    for need in NEEDS {
        let f = check(Protocol::without((need.scenario)(), need.safeguard));
        if f.len() != 1 || f[0].0 != need.breaks.name() { println!("!!! {:?} expected {:?} got {f:?}", need.safeguard, need.breaks); }
    }
}
