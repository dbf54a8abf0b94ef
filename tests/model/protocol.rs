//! The world and its rules, as the checker takes them.

use stateright::{Model, Property};

use crate::claims;
use crate::environment::{self, Action};
use crate::gaps::Gap;
use crate::safeguards::Safeguard;
use crate::scenario::{Event, Scenario};
use crate::world::State;

/// The name of the property that something is deleted at all.
pub const SOMETHING_GOES: &str = "something goes";

/// The protocol in a bounded world; whole, without one of its safeguards, or with a known gap opened.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub scenario: Scenario,
    pub without: Option<Safeguard>,
    pub gap: Option<Gap>,
}

impl Protocol {
    pub fn whole(scenario: Scenario) -> Self {
        Self { scenario, without: None, gap: None }
    }
    pub fn without(scenario: Scenario, safeguard: Safeguard) -> Self {
        Self { without: Some(safeguard), ..Self::whole(scenario) }
    }
    pub fn opening(scenario: Scenario, gap: Gap) -> Self {
        Self { gap: Some(gap), ..Self::whole(scenario) }
    }
    pub fn keeps(&self, safeguard: Safeguard) -> bool {
        self.without != Some(safeguard)
    }
    pub fn opens(&self, gap: Gap) -> bool {
        self.gap == Some(gap)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let clone = self.scenario.budget(Event::Clone) > 0;
        vec![State::begin(self.scenario.start, &self.scenario.slots, clone)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // A behaviour ends where it breaks a claim.
        if state.broken.is_empty() {
            environment::actions(self, state, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut after = environment::after(self, before, action);
        after.broken = claims::broken(self, before, action, &after);
        Some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = claims::properties();
        // A protocol that never deletes anything would keep every claim.
        properties.push(Property::sometimes(SOMETHING_GOES, |_, state: &State| {
            state.collectors.iter().any(|collector| collector.hit)
        }));
        properties
    }
}
