//! What has just happened, numbered, in bounded memory. No clock and no reader is known here.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use derms_proto::{AssetId, LiveItem, LiveKind, ResetReason, SessionRecord, SiteId};

/// What is remembered of measurements, and as much again of all else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) items: usize,
    /// In memory.
    pub(crate) bytes: usize,
}

/// What an item is about: who may see it depends on that, and nobody reads its text again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum About {
    Telemetry(AssetId),
    Dispatch {
        asset: Option<AssetId>,
        site: SiteId,
        ended: bool,
    },
    /// Whole: who does not see all of its assets is told of a part.
    Session {
        record: Box<SessionRecord>,
        /// What it does not serve any more.
        left: Vec<AssetId>,
    },
    Event {
        asset: Option<AssetId>,
        site: Option<SiteId>,
    },
}

/// Something that has happened.
#[derive(Debug)]
pub(crate) struct Item {
    number: u64,
    pub(crate) about: About,
    /// The event as it is sent, the same bytes to all.
    pub(crate) frame: Bytes,
}

/// The newest items. Measurements come by the thousand and must not push out what is rare, so
/// there are two rows with one numbering.
#[derive(Debug)]
pub(crate) struct Ring {
    instance: u64,
    /// The number of the next item.
    next: u64,
    bounds: Bounds,
    telemetry: Row,
    other: Row,
}

#[derive(Debug, Default)]
struct Row {
    items: VecDeque<Arc<Item>>,
    bytes: usize,
    /// What has a lower number is not here any more.
    floor: u64,
}

/// How far a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The first number that it has not seen.
    next: u64,
    telemetry: bool,
    other: bool,
}

/// The ring has forgotten what the reader wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fallen;

/// The text of an event, its number still to be written.
#[derive(Debug)]
pub(crate) struct Draft(Vec<u8>);

/// An id is `instance-number`, each of 16 hexadecimal digits: so a number is written into a text
/// whose length is known.
const DIGITS: usize = 16;
const NUMBER_AT: usize = "id: ".len() + DIGITS + 1;
/// Most events are shorter.
const USUAL: usize = 1_024;

impl Draft {
    pub(crate) fn new(instance: u64, item: &LiveItem) -> serde_json::Result<Self> {
        let mut text = Vec::with_capacity(USUAL);
        text.extend_from_slice(format!("id: {}\ndata: ", id(instance, 0)).as_bytes());
        serde_json::to_writer(&mut text, item)?;
        text.extend_from_slice(b"\n\n");
        Ok(Self(text))
    }

    pub(crate) fn numbered(self, number: u64) -> Bytes {
        let Self(mut text) = self;
        let places = text.iter_mut().skip(NUMBER_AT).take(DIGITS);
        for (place, nibble) in places.zip((0..DIGITS).rev()) {
            let nibble = (number >> (4 * nibble) & 0xf) as usize;
            *place = b"0123456789abcdef".get(nibble).copied().unwrap_or(b'0');
        }
        text.into()
    }
}

fn id(instance: u64, number: u64) -> String {
    format!("{instance:016x}-{number:016x}")
}

fn parse(id: &str) -> Option<(u64, u64)> {
    let (instance, number) = id.split_once('-')?;
    let hex = |text: &str| {
        let good = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| good)
    };
    Some((hex(instance)?, hex(number)?))
}

impl Item {
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) const fn kind(&self) -> LiveKind {
        match self.about {
            About::Telemetry(_) => LiveKind::Telemetry,
            About::Dispatch { .. } => LiveKind::Dispatch,
            About::Session { .. } => LiveKind::Session,
            About::Event { .. } => LiveKind::Event,
        }
    }

    fn bytes(&self) -> usize {
        let record = match &self.about {
            About::Session { record, left } => {
                size_of_val(record.assets.as_slice()) + size_of_val(left.as_slice()) + USUAL
            }
            _ => 0,
        };
        size_of::<Self>() + self.frame.len() + record
    }
}

impl Ring {
    /// `instance` is another one in each life of a headend.
    pub(crate) fn new(instance: u64, bounds: Bounds) -> Self {
        Self {
            instance,
            next: 1,
            bounds,
            telemetry: Row::default(),
            other: Row::default(),
        }
    }

    pub(crate) const fn instance(&self) -> u64 {
        self.instance
    }

    pub(crate) fn push(&mut self, about: About, draft: Draft) {
        let number = self.next;
        self.next += 1;
        let row = match about {
            About::Telemetry(_) => &mut self.telemetry,
            _ => &mut self.other,
        };
        let item = Item {
            number,
            about,
            frame: draft.numbered(number),
        };
        row.push(item, self.bounds);
    }

    /// Forgets everything, and that something is missing is known to whoever was here.
    pub(crate) fn forget(&mut self) {
        // This number is given to nothing: who has seen all before it has missed something.
        self.next += 1;
        for row in [&mut self.telemetry, &mut self.other] {
            *row = Row {
                floor: self.next,
                ..Row::default()
            };
        }
    }

    /// Where a reader of these kinds stands that was told `last` last; and why it can't go on
    /// there, if so: then it stands at the newest.
    pub(crate) fn place(
        &self,
        last: Option<&str>,
        kinds: &[LiveKind],
    ) -> (Place, Option<ResetReason>) {
        let now = Place {
            next: self.next,
            telemetry: kinds.contains(&LiveKind::Telemetry),
            other: kinds.iter().any(|kind| *kind != LiveKind::Telemetry),
        };
        let Some(last) = last else {
            return (now, Some(ResetReason::Began));
        };
        let number = match parse(last) {
            Some((instance, number)) if instance == self.instance && number < self.next => number,
            _ => return (now, Some(ResetReason::Restarted)),
        };
        let then = Place {
            next: number + 1,
            ..now
        };
        match self.check(then) {
            Ok(()) => (then, None),
            Err(Fallen) => (now, Some(ResetReason::TooOld)),
        }
    }

    /// The id of the last event that a reader has passed.
    pub(crate) fn id(&self, place: Place) -> String {
        id(self.instance, place.next.saturating_sub(1))
    }

    /// At most so many items that a reader has not seen, in order; it stands behind them then.
    pub(crate) fn read(&self, place: &mut Place, most: usize) -> Result<Vec<Arc<Item>>, Fallen> {
        self.check(*place)?;
        let mut telemetry = self.telemetry.from(*place, place.telemetry).peekable();
        let mut other = self.other.from(*place, place.other).peekable();
        let mut items = Vec::new();
        while items.len() < most {
            let first = match (telemetry.peek(), other.peek()) {
                (Some(one), Some(two)) if one.number < two.number => telemetry.next(),
                (_, Some(_)) => other.next(),
                (_, None) => telemetry.next(),
            };
            let Some(item) = first else {
                // All others up to here were seen or are not wanted.
                place.next = self.next;
                return Ok(items);
            };
            place.next = item.number + 1;
            items.push(Arc::clone(item));
        }
        Ok(items)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.telemetry.items.len() + self.other.items.len()
    }

    fn check(&self, place: Place) -> Result<(), Fallen> {
        let fallen = place.telemetry && place.next < self.telemetry.floor
            || place.other && place.next < self.other.floor;
        if fallen { Err(Fallen) } else { Ok(()) }
    }
}

impl Row {
    fn push(&mut self, item: Item, bounds: Bounds) {
        self.bytes += item.bytes();
        self.items.push_back(Arc::new(item));
        while self.items.len() > bounds.items || self.bytes > bounds.bytes {
            let Some(oldest) = self.items.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
            self.floor = oldest.number + 1;
        }
    }

    fn from(&self, place: Place, wanted: bool) -> impl Iterator<Item = &Arc<Item>> {
        let seen = |item: &Arc<Item>| item.number < place.next;
        let first = if wanted {
            self.items.partition_point(seen)
        } else {
            self.items.len()
        };
        self.items.range(first..)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const INSTANCE: u64 = 0xabc;
    const ITEM: LiveItem = LiveItem::Unknown;
    const ALL: &[LiveKind] = &LiveKind::ALL;

    fn ring(items: usize) -> Ring {
        let bytes = 1 << 20;
        Ring::new(INSTANCE, Bounds { items, bytes })
    }

    fn draft() -> Draft {
        Draft::new(INSTANCE, &ITEM).unwrap()
    }

    fn telemetry(ring: &mut Ring) {
        let asset = AssetId::new(Uuid::from_u128(1));
        ring.push(About::Telemetry(asset), draft());
    }

    fn dispatch(ring: &mut Ring) {
        let about = About::Dispatch {
            asset: None,
            site: SiteId::new(Uuid::from_u128(2)),
            ended: false,
        };
        ring.push(about, draft());
    }

    fn numbers(items: &[Arc<Item>]) -> Vec<u64> {
        items.iter().map(|item| item.number).collect()
    }

    #[test]
    fn an_event_carries_the_id_that_its_reader_comes_back_with() {
        let mut ring = ring(10);
        for _ in 0..17 {
            telemetry(&mut ring);
        }
        let (mut place, _) = ring.place(Some(&id(INSTANCE, 16)), ALL);
        let items = ring.read(&mut place, 10).unwrap();
        let text = std::str::from_utf8(&items[0].frame).unwrap();
        let expected = "id: 0000000000000abc-0000000000000011\ndata: {\"kind\":\"unknown\"}\n\n";
        assert_eq!(text, expected);
        assert_eq!(ring.id(place), "0000000000000abc-0000000000000011");
        assert_eq!(parse(&ring.id(place)), Some((INSTANCE, 17)));
    }

    #[test]
    fn a_place_that_is_none_of_this_ring_begins_anew_and_says_so() {
        let mut ring = ring(2);
        for _ in 0..5 {
            telemetry(&mut ring);
        }
        let reset = |last: Option<&str>| ring.place(last, ALL).1;
        assert_eq!(reset(None), Some(ResetReason::Began));
        for stranger in ["", "7", "abc-3", "-", "+000000000000abc-0000000000000003"] {
            assert_eq!(
                reset(Some(stranger)),
                Some(ResetReason::Restarted),
                "{stranger}"
            );
        }
        let other_life = id(INSTANCE + 1, 5);
        assert_eq!(reset(Some(&other_life)), Some(ResetReason::Restarted));
        let future = id(INSTANCE, 6);
        assert_eq!(reset(Some(&future)), Some(ResetReason::Restarted));
        // 4 and 5 are here.
        assert_eq!(reset(Some(&id(INSTANCE, 2))), Some(ResetReason::TooOld));
        assert_eq!(reset(Some(&id(INSTANCE, 3))), None);
        assert_eq!(reset(Some(&id(INSTANCE, 5))), None);
    }

    #[test]
    fn measurements_do_not_push_out_what_is_rare() {
        let mut ring = ring(3);
        dispatch(&mut ring);
        for _ in 0..100 {
            telemetry(&mut ring);
        }
        let start = id(INSTANCE, 0);
        let (mut place, reset) = ring.place(Some(&start), &[LiveKind::Dispatch]);
        assert_eq!(reset, None);
        assert_eq!(numbers(&ring.read(&mut place, 9).unwrap()), [1]);
        assert_eq!(
            ring.id(place),
            id(INSTANCE, 101),
            "past what it does not want"
        );
        assert_eq!(ring.place(Some(&start), ALL).1, Some(ResetReason::TooOld));
    }

    #[test]
    fn memory_is_bounded_in_bytes_too() {
        let mut ring = ring(1_000_000);
        let bytes = ring.bounds.bytes;
        for _ in 0..100_000 {
            telemetry(&mut ring);
            assert!(ring.telemetry.bytes <= bytes);
        }
        let held: usize = ring.telemetry.items.iter().map(|item| item.bytes()).sum();
        assert_eq!(held, ring.telemetry.bytes);
        assert!(held > bytes / 2, "it holds what it may");
    }

    #[test]
    fn who_was_there_when_all_was_forgotten_learns_that_something_is_missing() {
        let mut ring = ring(10);
        telemetry(&mut ring);
        let (mut place, _) = ring.place(None, ALL);
        ring.forget();
        assert_eq!(
            ring.place(Some(&id(INSTANCE, 1)), ALL).1,
            Some(ResetReason::TooOld)
        );
        assert_eq!(ring.read(&mut place, 1).unwrap_err(), Fallen);
        let (mut place, _) = ring.place(None, ALL);
        telemetry(&mut ring);
        assert_eq!(ring.read(&mut place, 9).unwrap().len(), 1);
    }

    proptest! {
        /// What a reader gets is what was published since it came, or it learns that it is not:
        /// whatever the kinds, the sizes of its bites, and the breaks in between.
        #[test]
        fn nothing_is_missing_nothing_comes_twice_and_all_is_in_order(
            // What is published, how much is read then, and whether the reader comes back by its id.
            steps in prop::collection::vec((any::<bool>(), 0_usize..4, any::<bool>()), 1..200),
            kinds in prop::sample::subsequence(LiveKind::ALL.to_vec(), 1..=4),
            size in 1_usize..20,
        ) {
            let mut ring = ring(size);
            let (mut place, _) = ring.place(None, &kinds);
            let mut missing = VecDeque::new();
            for (number, (is_telemetry, bite, comes_back)) in (1_u64..).zip(steps) {
                if is_telemetry {
                    telemetry(&mut ring);
                } else {
                    dispatch(&mut ring);
                }
                let row = if is_telemetry { place.telemetry } else { place.other };
                if row {
                    missing.push_back((number, is_telemetry));
                }
                // Of a row the newest `size` are here.
                let of = |row| missing.iter().filter(|(_, of)| *of == row).count();
                let lost = of(true) > size || of(false) > size;
                if comes_back {
                    let (found, reset) = ring.place(Some(&ring.id(place)), &kinds);
                    prop_assert_eq!(reset.is_some(), lost);
                    if reset.is_some() {
                        missing.clear();
                    }
                    place = found;
                }
                match ring.read(&mut place, bite) {
                    Ok(items) => {
                        prop_assert!(!lost || comes_back);
                        prop_assert_eq!(items.len(), bite.min(missing.len()));
                        for item in items {
                            let (expected, _) = missing.pop_front().unwrap();
                            prop_assert_eq!(item.number, expected);
                        }
                    }
                    Err(Fallen) => {
                        prop_assert!(lost && !comes_back);
                        (place, _) = ring.place(None, &kinds);
                        missing.clear();
                    }
                }
            }
        }
    }
}
