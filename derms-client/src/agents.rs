//! Agents and their sessions.

use derms_proto::{AgentStatus, SessionRecord};

use crate::client::Call;
use crate::query::Query;
use crate::{Client, Error, HistoryQuery, PageRequest};

impl Client {
    /// The agents that are connected now, one per session (`GET /agents`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agents(&self) -> Result<Vec<AgentStatus>, Error> {
        self.get("/agents").await
    }

    /// The same and, with `connected: false`, the assets that no agent serves
    /// (`GET /agents?all=true`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agents_all(&self) -> Result<Vec<AgentStatus>, Error> {
        let query = Query::default().with("all", Some(true));
        self.call(&Call::get("/agents", &query)).await
    }

    /// The sessions of all agents, live and ended (`GET /agents/history`).
    pub fn agents_history(&self, mut query: HistoryQuery) -> PageRequest<SessionRecord> {
        let cursor = query.take_cursor();
        PageRequest::new(self, "/agents/history", query.query(), cursor)
    }
}
