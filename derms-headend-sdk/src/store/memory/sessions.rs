//! Sessions and epochs.

use std::collections::{BTreeMap, HashMap, VecDeque};

use derms_proto::{AgentId, Page, SessionRecord, Timestamp};

use super::super::page::{self, List, Place};
use super::super::{HistoryQuery, MAX_COUNTER, SessionEnd, StoreError};

#[derive(Debug)]
pub(super) struct SessionTables {
    keep_ended: usize,
    epochs: HashMap<AgentId, u64>,
    records: BTreeMap<Place, SessionRecord>,
    open: HashMap<(AgentId, u64), Place>,
    /// In the order in which they ended.
    ended: VecDeque<Place>,
}

impl SessionTables {
    pub(super) fn new(keep_ended: usize) -> Self {
        Self {
            keep_ended,
            epochs: HashMap::new(),
            records: BTreeMap::new(),
            open: HashMap::new(),
            ended: VecDeque::new(),
        }
    }

    pub(super) fn open(&mut self, session: &SessionRecord, at_least: u64) -> u64 {
        let known = self.epochs.entry(session.agent_id).or_default();
        let epoch = (*known).max(at_least.min(MAX_COUNTER)) + 1;
        *known = epoch;
        let place = Place {
            at: session.connected_at,
            id: session.agent_id.uuid().as_u128(),
            serial: epoch,
        };
        let record = SessionRecord {
            epoch,
            ..session.clone()
        };
        self.records.insert(place, record);
        self.open.insert((session.agent_id, epoch), place);
        epoch
    }

    pub(super) fn close(&mut self, agent: AgentId, epoch: u64, end: &SessionEnd) {
        let Some(place) = self.open.remove(&(agent, epoch)) else {
            return;
        };
        if let Some(record) = self.records.get_mut(&place) {
            record.disconnected_at = Some(end.at);
            record.cause = Some(end.cause);
            record.text = Some(end.text.clone());
        }
        self.ended.push_back(place);
        if self.ended.len() > self.keep_ended
            && let Some(oldest) = self.ended.pop_front()
        {
            self.records.remove(&oldest);
        }
    }

    /// Ends all; answers the newest epoch of every agent.
    pub(super) fn abandon(&mut self, end: &SessionEnd) -> Vec<(AgentId, u64)> {
        let open: Vec<(AgentId, u64)> = self.open.keys().copied().collect();
        for (agent, epoch) in open {
            self.close(agent, epoch, end);
        }
        self.epochs
            .iter()
            .map(|(agent, epoch)| (*agent, *epoch))
            .collect()
    }

    pub(super) fn prune(&mut self, before: Timestamp) -> u64 {
        let (records, mut pruned) = (&mut self.records, 0);
        self.ended.retain(|place| {
            let ended = records.get(place).and_then(|record| record.disconnected_at);
            let old = ended.is_none_or(|ended| ended < before);
            if old && records.remove(place).is_some() {
                pruned += 1;
            }
            !old
        });
        pruned
    }

    pub(super) fn history(&self, query: &HistoryQuery) -> Result<Page<SessionRecord>, StoreError> {
        let range = page::range(List::Sessions, query)?;
        let rows = self.records.range(range).rev();
        let rows = rows.map(|(place, row)| (*place, row.clone()));
        Ok(page::cut(List::Sessions, query.limit, rows))
    }
}
