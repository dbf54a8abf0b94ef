//! The protocol as a model.

mod claims;
mod collector;
mod decide;
mod environment;
mod gaps;
mod protocol;
mod safeguards;
mod scenario;
mod world;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use protocol::Protocol;
use gaps::GAPS;
use safeguards::NEEDS;
use scenario::Scenario;

fn check(protocol: Protocol, until: HasDiscoveries) -> Vec<(String, String)> {
    let began = Instant::now();
    let name = protocol.scenario.name;
    let without = protocol.without;
    let gap = protocol.gap;
    let checker = protocol.checker().threads(2).finish_when(until).spawn_bfs().join();
    let mut failures = Vec::new();
    for (property, path) in checker.discoveries() {
        if property != protocol::SOMETHING_GOES {
            failures.push((property.to_owned(), format!("{:?}", path.into_actions())));
        }
    }
    let goes = checker.discovery(protocol::SOMETHING_GOES).is_some();
    println!("{name} without {without:?} gap {gap:?}: {} states ({} generated), depth {}, {:?}, goes {goes} {failures:?}", checker.unique_state_count(), checker.state_count(), checker.max_depth(), began.elapsed());
    failures
}

#[test]
fn whole() {
    let mut bad = 0;
    for scenario in Scenario::all() {
        bad += check(Protocol::whole(scenario), HasDiscoveries::AnyFailures).len();
    }
    assert_eq!(bad, 0);
}

#[test]
fn each() {
    for need in NEEDS {
        let f = check(Protocol::without((need.scenario)(), need.safeguard), HasDiscoveries::AllOf([need.breaks.name()].into()));
        if !f.iter().any(|f| f.0 == need.breaks.name()) { println!("!!! {:?} expected {:?}", need.safeguard, need.breaks); }
    }
    for need in GAPS {
        let f = check(Protocol { gap: Some(need.gap), ..Protocol::whole((need.scenario)())}, HasDiscoveries::AllOf([need.breaks.name()].into()));
        if !f.iter().any(|f| f.0 == need.breaks.name()) { println!("!!! {:?} expected {:?}", need.gap, need.breaks); }
    }
}
