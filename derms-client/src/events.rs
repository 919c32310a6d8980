//! Alarms and changes of state.

use derms_proto::{Event, EventId, NewAcknowledgement};
use http::Method;

use crate::client::Call;
use crate::{Client, Error, EventHistoryQuery, PageRequest};

impl Client {
    /// Events, newest first by the time at which they happened (`GET /events`).
    pub fn events(&self, mut query: EventHistoryQuery) -> PageRequest<Event> {
        let cursor = query.take_cursor();
        PageRequest::new(self, "/events", query.query(), cursor)
    }

    /// An event as it stands (`GET /events/{id}`).
    ///
    /// # Errors
    /// `unknown_event`; see [`Error`].
    pub async fn event(&self, id: EventId) -> Result<Event, Error> {
        self.get(&format!("/events/{id}")).await
    }

    /// Acknowledges an event (`POST /events/{id}/ack`), with a note of at most 1,024 characters, and returns it
    /// as it stands: the first acknowledgement stays. May be repeated.
    ///
    /// # Errors
    /// `unknown_event`, `invalid_request`; see [`Error`].
    pub async fn acknowledge(&self, id: EventId, note: Option<&str>) -> Result<Event, Error> {
        let new = NewAcknowledgement {
            note: note.map(str::to_owned),
        };
        let body = serde_json::to_vec(&new)
            .map_err(|error| Error::invalid_request(format!("the note is no JSON: {error}")))?;
        let call = Call {
            method: Method::POST,
            target: format!("/events/{id}/ack"),
            body: Some(body.into()),
            retry: true,
            repeatable: true,
            ..Call::default()
        };
        self.call(&call).await
    }
}
