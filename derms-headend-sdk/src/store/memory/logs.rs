//! Where the logs of agents continue.

use std::collections::{HashMap, VecDeque};

use derms_proto::{AgentId, LogId};

/// An agent that keeps nothing begins a new log at every start; these many are remembered.
const LOGS_PER_AGENT: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Logs(HashMap<AgentId, VecDeque<(LogId, u64)>>);

impl Logs {
    /// The first number that is not settled.
    pub(super) fn cursor(&self, agent: AgentId, log: LogId) -> Option<u64> {
        let logs = self.0.get(&agent)?;
        logs.iter()
            .find(|(id, _)| *id == log)
            .map(|(_, cursor)| *cursor)
    }

    /// Moves a log on to `next_seq`, if it is not there yet; answers where it stood.
    pub(super) fn move_to(&mut self, agent: AgentId, log: LogId, next_seq: u64) -> u64 {
        let logs = self.0.entry(agent).or_default();
        let known = logs.iter().position(|(id, _)| *id == log);
        let cursor = known
            .and_then(|index| logs.remove(index))
            .map_or(0, |(_, cursor)| cursor);
        // The log that was used last is forgotten last.
        logs.push_back((log, cursor.max(next_seq)));
        if logs.len() > LOGS_PER_AGENT {
            logs.pop_front();
        }
        cursor
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn of_the_logs_of_one_agent_those_used_last_are_remembered() {
        let (agent, log) = (AgentId::new(Uuid::nil()), LogId::generate());
        let mut logs = Logs::default();
        assert_eq!(logs.move_to(agent, log, 5), 0);
        for _ in 0..100 {
            logs.move_to(agent, LogId::generate(), 1);
            assert_eq!(logs.move_to(agent, log, 3), 5, "it never goes back");
        }
        assert_eq!(logs.0[&agent].len(), LOGS_PER_AGENT);
    }
}
