//! What inputs are made of, so that a change within keeps the lengths around it right.

use proptest::prelude::*;
use proptest::sample::Index;

/// How an input is made of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Text, or bytes of no known form.
    Plain,
    /// A protobuf message, and those within it.
    Protobuf,
    /// gRPC: flag, length, message.
    Grpc,
    /// Two bytes, length (two bytes), a protobuf message.
    Records,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Varint,
    Big32,
    Little16,
    /// A varint of itself.
    Number,
    /// A fixed number of bytes.
    Fixed,
}

#[derive(Debug, Clone)]
struct Part {
    head: Vec<u8>,
    body: Vec<u8>,
    length: Length,
}

/// What is done to one part.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Its content is given to the caller, or replaced if it is a number.
    Content(u64),
    Drop,
    /// So many times more.
    Again(u16),
    Swap(Index),
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![
        any::<u64>(),
        prop::sample::select(super::mutate::NUMBERS.to_vec())
    ];
    let float = prop::sample::select(vec![f64::NAN, f64::INFINITY, 1e308, -0.0, 5.0]);
    prop_oneof![
        4 => number.prop_map(Change::Content),
        1 => float.prop_map(|float| Change::Content(float.to_bits())),
        1 => Just(Change::Drop),
        1 => prop_oneof![4 => 1..5_u16, 1 => 1..10_000_u16].prop_map(Change::Again),
        1 => any::<Index>().prop_map(Change::Swap),
    ]
}

/// Changes one part, found by going down along `path`; `content` changes what is no number. The
/// input comes back as it was if it has no parts.
pub(crate) fn within(
    shape: Shape,
    bytes: &[u8],
    path: &[Index],
    change: &Change,
    longest: usize,
    content: &mut dyn FnMut(&mut Vec<u8>),
) -> Vec<u8> {
    let (Some(mut parts), Some((first, deeper))) = (split(shape, bytes), path.split_first()) else {
        let mut bytes = bytes.to_vec();
        content(&mut bytes);
        return bytes;
    };
    if parts.is_empty() {
        return bytes.to_vec();
    }
    let at = first.index(parts.len());
    let part = &mut parts[at];
    let nested = matches!(
        part.length,
        Length::Varint | Length::Big32 | Length::Little16
    );
    if nested && !deeper.is_empty() && split(Shape::Protobuf, &part.body).is_some() {
        part.body = within(
            Shape::Protobuf,
            &part.body,
            deeper,
            change,
            longest,
            content,
        );
        return join(&parts);
    }
    match change {
        Change::Content(number) => match part.length {
            Length::Number => part.body = varint(*number),
            Length::Fixed => {
                let count = part.body.len();
                part.body = number.to_le_bytes()[8 - count..].to_vec();
            }
            _ => content(&mut part.body),
        },
        Change::Drop => drop(parts.remove(at)),
        Change::Again(times) => {
            let part = part.clone();
            let size = part.head.len() + part.body.len() + 1;
            let times = usize::from(*times).min(longest.saturating_sub(bytes.len()) / size);
            parts.splice(at..at, std::iter::repeat_n(part, times));
        }
        Change::Swap(with) => {
            let with = with.index(parts.len());
            parts.swap(at, with);
        }
    }
    join(&parts)
}

fn split(shape: Shape, bytes: &[u8]) -> Option<Vec<Part>> {
    let mut rest = bytes;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (part, after) = match shape {
            Shape::Plain => return None,
            Shape::Protobuf => field(rest)?,
            Shape::Grpc => {
                let length = u32::from_be_bytes(*rest.get(1..)?.first_chunk()?) as usize;
                cut(rest, 1, 4, length, Length::Big32)?
            }
            Shape::Records => {
                let length = u16::from_le_bytes(*rest.get(2..)?.first_chunk()?);
                cut(rest, 2, 2, length.into(), Length::Little16)?
            }
        };
        parts.push(part);
        rest = after;
    }
    Some(parts)
}

fn field(bytes: &[u8]) -> Option<(Part, &[u8])> {
    let (tag, head) = read_varint(bytes)?;
    let after = &bytes[head..];
    match tag & 7 {
        0 => cut(bytes, head, 0, read_varint(after)?.1, Length::Number),
        1 => cut(bytes, head, 0, 8, Length::Fixed),
        5 => cut(bytes, head, 0, 4, Length::Fixed),
        2 => {
            let (length, width) = read_varint(after)?;
            cut(
                bytes,
                head,
                width,
                usize::try_from(length).ok()?,
                Length::Varint,
            )
        }
        _ => None,
    }
}

/// `head` bytes, `skipped` bytes of length, `body` bytes, and what follows.
fn cut(
    bytes: &[u8],
    head: usize,
    skipped: usize,
    body: usize,
    length: Length,
) -> Option<(Part, &[u8])> {
    let (head, rest) = bytes.split_at_checked(head)?;
    let (body, rest) = rest.get(skipped..)?.split_at_checked(body)?;
    let part = Part {
        head: head.to_vec(),
        body: body.to_vec(),
        length,
    };
    Some((part, rest))
}

fn join(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(&part.head);
        let length = part.body.len() as u64;
        match part.length {
            Length::Varint => bytes.extend(varint(length)),
            Length::Big32 => bytes.extend((length as u32).to_be_bytes()),
            Length::Little16 => bytes.extend((length as u16).to_le_bytes()),
            Length::Number | Length::Fixed => {}
        }
        bytes.extend(&part.body);
    }
    bytes
}

fn varint(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(number, &mut bytes);
    bytes
}

/// The number, and how many bytes it takes.
fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut rest = bytes;
    let number = prost::encoding::decode_varint(&mut rest).ok()?;
    Some((number, bytes.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Outer {
        #[prost(uint64, tag = "1")]
        number: u64,
        #[prost(message, repeated, tag = "2")]
        inner: Vec<Inner>,
        #[prost(double, tag = "3")]
        float: f64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Inner {
        #[prost(string, tag = "1")]
        text: String,
    }

    fn message() -> Vec<u8> {
        let text = "x".repeat(120);
        let outer = Outer {
            number: 300,
            inner: vec![Inner { text }],
            float: 1.5,
        };
        outer.encode_to_vec()
    }

    #[test]
    fn parts_join_to_what_they_were() {
        let message = message();
        assert_eq!(join(&split(Shape::Protobuf, &message).unwrap()), message);
        let framed = [&[0, 0, 0, 0, 2][..], b"\x08\x01", &[1, 0, 0, 0, 0]].concat();
        assert_eq!(join(&split(Shape::Grpc, &framed).unwrap()), framed);
        let records = [&[0, 1, 2, 0][..], b"\x08\x01", &[1, 0, 0, 0]].concat();
        assert_eq!(join(&split(Shape::Records, &records).unwrap()), records);
        assert!(split(Shape::Records, &records[..5]).is_none());
    }

    #[test]
    fn a_longer_text_far_within_leaves_the_message_whole() {
        let runner = &mut proptest::test_runner::TestRunner::deterministic();
        let mut grown = 0;
        for _ in 0..100 {
            let path = prop::collection::vec(any::<Index>(), 2).new_tree(runner);
            let path = proptest::strategy::ValueTree::current(&path.unwrap());
            let changed = within(
                Shape::Protobuf,
                &message(),
                &path,
                &Change::Content(7),
                1 << 10,
                &mut |body| body.extend(b"and more"),
            );
            let outer = Outer::decode(&changed[..]).unwrap();
            grown += u32::from(outer.inner[0].text.ends_with("and more"));
        }
        assert!(grown > 10, "{grown}");
    }
}
