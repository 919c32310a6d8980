//! What a history is asked for, and how a query is written.

use std::fmt::Display;
use std::time::Duration;

use derms_proto::{
    AssetId, Cursor, DispatchStatus, EventSource, LiveKind, Severity, SiteId, Timestamp,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A query: escaped, in the order in which it was put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn with(mut self, name: &str, value: Option<impl Display>) -> Self {
        if let Some(value) = value {
            let value = value.to_string();
            let separator = if self.0.is_empty() { "" } else { "&" };
            self.0.extend([separator, name, "="]);
            self.0.extend(utf8_percent_encode(&value, ESCAPED));
        }
        self
    }

    /// The path with this query, if there is any.
    pub(crate) fn after(&self, path: &str) -> String {
        match self.0.as_str() {
            "" => path.to_owned(),
            query => format!("{path}?{query}"),
        }
    }
}

/// The part of a list that is asked for.
#[derive(Debug, Clone, Default)]
struct Window {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    limit: Option<u32>,
    cursor: Option<Cursor>,
}

impl Window {
    fn write(&self, query: Query) -> Query {
        query
            .with("from", self.from)
            .with("to", self.to)
            .with("limit", self.limit)
    }
}

/// What a list is asked about.
#[derive(Debug, Clone, Default)]
struct Place {
    asset: Option<AssetId>,
    site: Option<SiteId>,
}

impl Place {
    fn write(&self, query: Query) -> Query {
        query
            .with("asset_id", self.asset)
            .with("site_id", self.site)
    }
}

macro_rules! window {
    ($name:ident) => {
        impl $name {
            /// Everything, newest first.
            pub fn new() -> Self {
                Self::default()
            }

            /// Nothing before this time. Default: from the beginning.
            pub fn from(mut self, from: Timestamp) -> Self {
                self.window.from = Some(from);
                self
            }

            /// Nothing at or after this time. Default: to the end.
            pub fn to(mut self, to: Timestamp) -> Self {
                self.window.to = Some(to);
                self
            }

            /// At most so many items on a page. Default: as many as the headend likes.
            pub fn limit(mut self, limit: u32) -> Self {
                self.window.limit = Some(limit);
                self
            }

            /// Go on where an earlier page ended, all else being as it was then.
            /// Default: at the newest item.
            pub fn cursor(mut self, cursor: Cursor) -> Self {
                self.window.cursor = Some(cursor);
                self
            }

            pub(crate) fn take_cursor(&mut self) -> Option<Cursor> {
                self.window.cursor.take()
            }
        }
    };
}

macro_rules! place {
    ($name:ident, $asset:literal, $site:literal) => {
        impl $name {
            #[doc = $asset]
            pub fn asset(mut self, asset: AssetId) -> Self {
                self.place.asset = Some(asset);
                self
            }

            #[doc = $site]
            pub fn site(mut self, site: SiteId) -> Self {
                self.place.site = Some(site);
                self
            }
        }
    };
}

/// What is asked of [`agents_history`](crate::Client::agents_history),
/// [`heartbeat_history`](crate::Client::heartbeat_history) and
/// [`stop_history`](crate::Client::stop_history).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct HistoryQuery {
    window: Window,
}

window!(HistoryQuery);

impl HistoryQuery {
    pub(crate) fn query(&self) -> Query {
        self.window.write(Query::default())
    }
}

/// What is asked of [`telemetry_history`](crate::Client::telemetry_history).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct TelemetryHistoryQuery {
    window: Window,
    step: Option<Duration>,
}

window!(TelemetryHistoryQuery);

impl TelemetryHistoryQuery {
    /// Buckets of this length, in whole seconds, instead of single measurements.
    /// Default: single measurements.
    pub fn step(mut self, step: Duration) -> Self {
        self.step = Some(step);
        self
    }

    pub(crate) fn query(&self) -> Query {
        let step = self.step.map(|step| step.as_secs_f64());
        self.window.write(Query::default()).with("step", step)
    }
}

/// What is asked of [`dispatch_history`](crate::Client::dispatch_history).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct DispatchHistoryQuery {
    window: Window,
    place: Place,
    status: Option<DispatchStatus>,
}

window!(DispatchHistoryQuery);

place!(
    DispatchHistoryQuery,
    "Only orders for this asset. Default: for all.",
    "Only orders for this site. Default: for all."
);

impl DispatchHistoryQuery {
    /// Only orders that stand there now. Default: all.
    pub fn status(mut self, status: DispatchStatus) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn query(&self) -> Query {
        let status = self.status.and_then(|status| {
            let json = serde_json::to_value(status).ok()?;
            json.as_str().map(str::to_owned)
        });
        let query = self.place.write(Query::default());
        self.window.write(query.with("status", status))
    }
}

/// What is asked of [`limits_history`](crate::Client::limits_history).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct LimitHistoryQuery {
    window: Window,
    place: Place,
}

window!(LimitHistoryQuery);

place!(
    LimitHistoryQuery,
    "Only limits of this asset. Default: of all.",
    "Only limits of the assets of this site. Default: of all."
);

impl LimitHistoryQuery {
    pub(crate) fn query(&self) -> Query {
        self.place.write(self.window.write(Query::default()))
    }
}

/// What is asked of [`live`](crate::Client::live).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct LiveQuery {
    kinds: Vec<LiveKind>,
    place: Place,
    after: Option<String>,
}

place!(
    LiveQuery,
    "Only what is about this asset. Default: about all.",
    "Only what is about this site or an asset of it. Default: about all."
);

impl LiveQuery {
    /// Everything, from now on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also this kind, and no kind that was not asked for. Default: all.
    pub fn kind(mut self, kind: LiveKind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// From behind the event of this id ([`Live::last_event_id`](crate::Live::last_event_id)), all
    /// else being as it was then. Default: from now on.
    pub fn after(mut self, id: impl Into<String>) -> Self {
        self.after = Some(id.into());
        self
    }

    pub(crate) fn take_after(&mut self) -> Option<String> {
        self.after.take()
    }

    pub(crate) fn query(&self) -> Query {
        let kinds: Vec<&str> = self.kinds.iter().map(|kind| kind.as_str()).collect();
        let kinds = Some(kinds.join(",")).filter(|kinds| !kinds.is_empty());
        self.place.write(Query::default().with("kind", kinds))
    }
}

/// What is asked of [`events`](crate::Client::events).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct EventHistoryQuery {
    window: Window,
    place: Place,
    severity: Option<Severity>,
    source: Option<EventSource>,
    acknowledged: Option<bool>,
}

window!(EventHistoryQuery);

place!(
    EventHistoryQuery,
    "Only events of this asset. Default: of all.",
    "Only events of this site. Default: of all."
);

impl EventHistoryQuery {
    /// Only events that are at least this severe. Default: all.
    pub fn at_least(mut self, severity: Severity) -> Self {
        self.severity = Some(severity);
        self
    }

    /// Only events that this side raised. Default: both.
    pub fn source(mut self, source: EventSource) -> Self {
        self.source = Some(source);
        self
    }

    /// Only events that somebody has acknowledged, or nobody. Default: all.
    pub fn acknowledged(mut self, acknowledged: bool) -> Self {
        self.acknowledged = Some(acknowledged);
        self
    }

    pub(crate) fn query(&self) -> Query {
        let query = self.place.write(Query::default());
        let query = query
            .with("severity", self.severity)
            .with("source", self.source)
            .with("acknowledged", self.acknowledged);
        self.window.write(query)
    }
}

/// What is asked of [`audit`](crate::Client::audit).
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct AuditHistoryQuery {
    window: Window,
    principal: Option<String>,
    action: Option<String>,
}

window!(AuditHistoryQuery);

impl AuditHistoryQuery {
    /// Only records of this principal. Default: of all.
    pub fn principal(mut self, name: impl Into<String>) -> Self {
        self.principal = Some(name.into());
        self
    }

    /// Only records of this action, such as `submit_dispatch`. Default: of all.
    pub fn action(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }

    pub(crate) fn query(&self) -> Query {
        let query = Query::default()
            .with("principal", self.principal.as_ref())
            .with("action", self.action.as_ref());
        self.window.write(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_query_leaves_no_question_mark() {
        let query = Query::default().with("limit", None::<u32>);
        assert_eq!(query.after("/agents/history"), "/agents/history");
    }

    #[test]
    fn values_are_escaped_so_that_none_can_add_a_parameter() {
        let query = Query::default().with("cursor", Some("a&b=c+d /?#%é~"));
        assert_eq!(
            query.after("/x"),
            "/x?cursor=a%26b%3Dc%2Bd%20%2F%3F%23%25%C3%A9~"
        );
    }

    #[test]
    fn times_and_steps_are_written_as_the_contract_says() {
        let at = Timestamp::from_unix_micros(1_500_000);
        let query = TelemetryHistoryQuery::new()
            .from(at)
            .to(Timestamp::UNIX_EPOCH)
            .limit(7)
            .step(Duration::from_secs(60));
        let expected =
            "/t?from=1970-01-01T00%3A00%3A01.5Z&to=1970-01-01T00%3A00%3A00Z&limit=7&step=60";
        assert_eq!(query.query().after("/t"), expected);
    }
}
