//! Breadth first through all states, so that what is found is found by the shortest way.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::properties::Property;
use super::step::{Action, Step};
use super::world::{Model, World};

/// What a search has found.
#[derive(Debug)]
pub(crate) struct Found {
    /// How many different states there are (up to what was found).
    pub(crate) states: usize,
    /// The longest of the shortest ways to a state.
    pub(crate) depth: usize,
    /// The first property that does not hold, and the shortest way there.
    pub(crate) broken: Option<(Property, Vec<Action>)>,
}

/// Goes through all states of a model until one of these properties is broken.
pub(crate) fn search(model: Model, properties: &[Property]) -> Found {
    let first = World::first();
    // Of each state 64 bits are kept: that two of five million share them, and one goes unseen, has
    // a chance of one in a million.
    let mut seen = HashSet::from([fingerprint(&first)]);
    // How each state was come to: from which, by what.
    let mut ways: Vec<(usize, Action)> = Vec::new();
    let mut frontier = VecDeque::from([(first, 0, 0)]);
    let mut deepest = 0;
    while let Some((world, place, depth)) = frontier.pop_front() {
        deepest = depth;
        let actions = Action::possible(model, &world);
        let quiet = actions.iter().all(Action::is_trouble);
        for action in actions {
            let step = Step::take(model, &world, action);
            let new = seen.insert(fingerprint(&step.after));
            let broken = properties.iter().find(|property| !property.holds(&step));
            if new || broken.is_some() {
                ways.push((place, action));
            }
            if let Some(broken) = broken {
                return Found {
                    states: seen.len(),
                    depth,
                    broken: Some((*broken, way(&ways, ways.len()))),
                };
            }
            if new {
                frontier.push_back((step.after, ways.len(), depth + 1));
            }
        }
        let broken = properties
            .iter()
            .find(|property| quiet && !property.holds_at_rest(&world));
        if let Some(broken) = broken {
            return Found {
                states: seen.len(),
                depth,
                broken: Some((*broken, way(&ways, place))),
            };
        }
    }
    Found {
        states: seen.len(),
        depth: deepest,
        broken: None,
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

/// Place 0 is the first state, place `n` what `ways[n - 1]` led to.
fn way(ways: &[(usize, Action)], mut place: usize) -> Vec<Action> {
    let mut actions = Vec::new();
    while let Some((from, action)) = place.checked_sub(1).and_then(|last| ways.get(last)) {
        actions.push(*action);
        place = *from;
    }
    actions.reverse();
    actions
}
