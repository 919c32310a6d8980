//! Places in lists, and pages cut at them.

use std::ops::Range;

use derms_proto::{Cursor, Event, Page, Timestamp};

use super::{HistoryQuery, StoreError};

/// Where an item stands in its list: by time, then by what tells apart those of one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) at: Timestamp,
    pub(super) id: u128,
    pub(super) serial: u64,
}

/// The lists, so that a cursor of one is none of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Sessions,
    Telemetry,
    Buckets,
    Dispatches,
    Heartbeats,
    Limits,
    Stops,
    Audit,
    Events,
}

impl List {
    const fn tag(self) -> &'static str {
        match self {
            Self::Sessions => "s",
            Self::Telemetry => "t",
            Self::Buckets => "b",
            Self::Dispatches => "d",
            Self::Heartbeats => "h",
            Self::Limits => "l",
            Self::Stops => "p",
            Self::Audit => "a",
            Self::Events => "e",
        }
    }
}

impl Place {
    /// Before everything of this time.
    pub(super) const fn at(at: Timestamp) -> Self {
        Self {
            at,
            id: 0,
            serial: 0,
        }
    }

    pub(super) fn of_event(event: &Event) -> Self {
        Self {
            at: event.at,
            id: event.id.uuid().as_u128(),
            serial: 0,
        }
    }

    fn cursor(self, list: List) -> Cursor {
        let (tag, micros) = (list.tag(), self.at.unix_micros());
        Cursor::new(format!("{tag}.{micros}.{:x}.{}", self.id, self.serial))
    }

    fn read(cursor: &Cursor, list: List) -> Option<Self> {
        let mut parts = cursor.as_str().split('.');
        parts.next().filter(|tag| *tag == list.tag())?;
        let at = Timestamp::from_unix_micros(parts.next()?.parse().ok()?);
        let id = u128::from_str_radix(parts.next()?, 16).ok()?;
        let serial = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { at, id, serial })
    }
}

/// The part of a list that a query asks for and its cursor has not passed.
pub(super) fn range(list: List, query: &HistoryQuery) -> Result<Range<Place>, StoreError> {
    let mut end = Place::at(query.to);
    if let Some(cursor) = &query.cursor {
        let place = Place::read(cursor, list).ok_or(StoreError::InvalidCursor)?;
        end = end.min(place);
    }
    Ok(Place::at(query.from).min(end)..end)
}

/// How many items a page has to be cut from, at most.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn fetch(limit: usize) -> i64 {
    i64::try_from(limit.max(1).saturating_add(1)).unwrap_or(i64::MAX)
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) const fn empty<T>() -> Page<T> {
    Page {
        items: Vec::new(),
        next_cursor: None,
    }
}

/// Takes a page from items that come newest first.
pub(super) fn cut<T>(list: List, limit: usize, items: impl Iterator<Item = (Place, T)>) -> Page<T> {
    let limit = limit.max(1);
    let mut rest = items.peekable();
    let mut items = Vec::new();
    let mut last = None;
    while items.len() < limit {
        let Some((place, item)) = rest.next() else {
            break;
        };
        items.push(item);
        last = Some(place);
    }
    let more = rest.peek().is_some();
    Page {
        items,
        next_cursor: last.filter(|_| more).map(|place| place.cursor(list)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_its_place_and_nothing_else_does() {
        let place = Place {
            at: Timestamp::from_unix_micros(-5),
            id: u128::MAX,
            serial: 7,
        };
        let cursor = place.cursor(List::Telemetry);
        assert_eq!(Place::read(&cursor, List::Telemetry), Some(place));
        assert_eq!(Place::read(&cursor, List::Dispatches), None);
        for text in [
            "",
            "t",
            "t.1",
            "t.1.2",
            "t.1.2.3.4",
            "t.x.2.3",
            "t.1.g.3",
            "t.1.2.-3",
        ] {
            assert_eq!(
                Place::read(&Cursor::new(text), List::Telemetry),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_empty() {
        let query = HistoryQuery {
            from: Timestamp::from_unix_micros(9),
            to: Timestamp::from_unix_micros(5),
            ..HistoryQuery::default()
        };
        assert!(range(List::Telemetry, &query).unwrap().is_empty());
    }
}
