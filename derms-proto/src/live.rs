//! What happens now, as `GET /stream` tells it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Dispatch, Event, SessionRecord, Telemetry};

/// What can be asked of `GET /stream`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LiveKind {
    /// Measurements that are the newest of their asset.
    Telemetry,
    /// Orders that have moved.
    Dispatch,
    /// Sessions that began or ended.
    Session,
    /// Alarms and changes of state.
    Event,
}

impl LiveKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Telemetry, Self::Dispatch, Self::Session, Self::Event];

    /// Its word, as in `kind` of an item.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Dispatch => "dispatch",
            Self::Session => "session",
            Self::Event => "event",
        }
    }
}

impl fmt::Display for LiveKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LiveKind {
    type Err = InvalidLiveKind;

    fn from_str(text: &str) -> Result<Self, InvalidLiveKind> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == text)
            .ok_or_else(|| InvalidLiveKind(text.chars().take(40).collect()))
    }
}

/// A text that is no [`LiveKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no kind `{0}`; write telemetry, dispatch, session or event")]
pub struct InvalidLiveKind(String);

/// One thing that has happened: the data of a server-sent event of `GET /stream`.
///
/// `kind` tells which. A reader passes over a kind that it does not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LiveItem {
    /// A measurement that is the newest of its asset, by time of measurement.
    Telemetry(Box<Telemetry>),
    /// An order for an asset as it stands after a change; of a site order its shares are told, with
    /// its id as `parent_id`. What is told twice is the same.
    Dispatch(Box<Dispatch>),
    /// A session that has begun, that serves other assets since then (`disconnected_at` is `null`; it
    /// serves `assets` and nothing else), or that has ended (`cause` tells why).
    Session(Box<SessionRecord>),
    /// A new alarm or change of state. Acknowledgements are not told.
    Event(Box<Event>),
    /// What was before this is not told here: read the lists. What follows is whole.
    Reset {
        /// Why.
        reason: ResetReason,
    },
    /// The last item of this connection. Connect again with the id of this event.
    End {
        /// Why.
        reason: EndReason,
    },
    /// Sent by a newer headend than this type knows.
    #[serde(other)]
    Unknown,
}

/// Why a stream does not go on where its reader was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResetReason {
    /// The reader named no place: its stream begins here.
    Began,
    /// The place is none of this life of the headend.
    Restarted,
    /// The place is too long ago: what followed it is not remembered any more.
    TooOld,
    /// Sent by a newer headend than this type knows.
    #[serde(other)]
    Unknown,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// The headend is shutting down.
    Draining,
    /// It has lasted as long as a stream may.
    Lifetime,
    /// The reader fell behind what is remembered.
    TooSlow,
    /// What the reader proved itself by does not count any more, or means something else now.
    Credentials,
    /// Sent by a newer headend than this type knows.
    #[serde(other)]
    Unknown,
}

impl LiveItem {
    /// What it is about; `None` for what is about the stream itself, and for what is not known.
    #[must_use]
    pub const fn kind(&self) -> Option<LiveKind> {
        match self {
            Self::Telemetry(_) => Some(LiveKind::Telemetry),
            Self::Dispatch(_) => Some(LiveKind::Dispatch),
            Self::Session(_) => Some(LiveKind::Session),
            Self::Event(_) => Some(LiveKind::Event),
            Self::Reset { .. } | Self::End { .. } | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{AssetId, Measurements, Power, SiteId, Timestamp};

    fn read(json: &str) -> LiveItem {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_item_is_read_as_it_was_written() {
        let telemetry = LiveItem::Telemetry(Box::new(Telemetry {
            asset_id: AssetId::new(Uuid::from_u128(1)),
            site_id: SiteId::new(Uuid::from_u128(2)),
            measured_at: Timestamp::from_unix_micros(5),
            received_at: Timestamp::from_unix_micros(6),
            measurements: Measurements {
                mw: Some(Power::from_mw(-1.5)),
                ..Measurements::default()
            },
        }));
        let json = serde_json::to_string(&telemetry).unwrap();
        assert!(json.starts_with(r#"{"kind":"telemetry","#), "{json}");
        assert_eq!(read(&json), telemetry);
        let reset = LiveItem::Reset {
            reason: ResetReason::TooOld,
        };
        assert_eq!(read(r#"{"kind":"reset","reason":"too_old"}"#), reset);
    }

    #[test]
    fn what_a_newer_headend_tells_is_read_past() {
        assert_eq!(read(r#"{"kind":"weather","sun":1}"#), LiveItem::Unknown);
        let end = LiveItem::End {
            reason: EndReason::Unknown,
        };
        assert_eq!(read(r#"{"kind":"end","reason":"moon","since":3}"#), end);
        let reset = LiveItem::Reset {
            reason: ResetReason::Unknown,
        };
        assert_eq!(read(r#"{"kind":"reset","reason":"tide"}"#), reset);
    }

    #[test]
    fn each_kind_has_one_word_in_queries_and_in_items() {
        for kind in LiveKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        let error = "weather".parse::<LiveKind>().unwrap_err().to_string();
        assert!(
            error.contains("telemetry, dispatch, session or event"),
            "{error}"
        );
    }
}
