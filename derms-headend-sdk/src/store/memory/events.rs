//! Alarms and changes of state.

use std::collections::{BTreeMap, HashMap};

use derms_proto::{Acknowledgement, Event, EventId, Page, Timestamp};

use super::super::page::{self, List, Place};
use super::super::{EventQuery, StoreError};

/// So many are kept, the newest.
const KEEP: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct EventTable {
    events: BTreeMap<Place, Event>,
    places: HashMap<EventId, Place>,
}

impl EventTable {
    pub(super) fn append<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) {
        for event in events {
            let place = Place::of_event(event);
            let known = self.places.entry(event.id);
            let place = *known.or_insert(place);
            self.events.entry(place).or_insert_with(|| event.clone());
        }
        while self.events.len() > KEEP {
            if let Some((_, event)) = self.events.pop_first() {
                self.places.remove(&event.id);
            }
        }
    }

    pub(super) fn history(&self, query: &EventQuery) -> Result<Page<Event>, StoreError> {
        let range = page::range(List::Events, &query.page)?;
        let found = self.events.range(range).rev();
        let found = found.filter(|(_, event)| query.takes(event));
        let found = found.map(|(place, event)| (*place, event.clone()));
        Ok(page::cut(List::Events, query.page.limit, found))
    }

    pub(super) fn event(&self, id: EventId) -> Option<Event> {
        self.events.get(self.places.get(&id)?).cloned()
    }

    pub(super) fn acknowledge(
        &mut self,
        id: EventId,
        acknowledgement: &Acknowledgement,
    ) -> Option<Event> {
        let event = self.events.get_mut(self.places.get(&id)?)?;
        event
            .acknowledged
            .get_or_insert_with(|| acknowledgement.clone());
        Some(event.clone())
    }

    /// Forgets what is older than this; gives how many.
    pub(super) fn prune(&mut self, before: Timestamp) -> u64 {
        let kept = self.events.split_off(&Place::at(before));
        let old = std::mem::replace(&mut self.events, kept);
        for event in old.values() {
            self.places.remove(&event.id);
        }
        old.len() as u64
    }
}
