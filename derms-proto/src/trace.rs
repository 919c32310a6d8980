//! What caused something, told across processes.

use std::fmt;

/// The W3C trace context of a call or a message: `00-<trace id>-<parent id>-<flags>`.
///
/// ```
/// use derms_proto::Traceparent;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context = Traceparent::parse(text).unwrap();
/// assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert_eq!(context.to_string(), text);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Traceparent {
    trace: TraceId,
    span: SpanId,
    flags: u8,
}

/// One chain of cause and effect over all processes; shown as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// One piece of work in a trace; shown as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

impl Traceparent {
    /// A context; `None` if an id is 0. The lowest bit of `flags` says that the trace is recorded.
    #[must_use]
    pub const fn new(trace_id: u128, span_id: u64, flags: u8) -> Option<Self> {
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self {
            trace: TraceId(trace_id),
            span: SpanId(span_id),
            flags,
        })
    }

    /// Reads a `traceparent`. One of a later version is read as far as version 00 goes (W3C Trace
    /// Context, 3.2.4); `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mut parts, mut rest) = ([""; 4], text);
        for (part, len) in parts.iter_mut().zip([2, 32, 16, 2]) {
            (*part, rest) = rest.split_at_checked(len)?;
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let [version, trace, span, flags] = parts;
        let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let whole =
            text.len() == LEN || (version != "00" && text.as_bytes().get(LEN) == Some(&b'-'));
        let dashes = [2, 35, 52]
            .iter()
            .all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        if !whole || !dashes || version == "ff" || !parts.iter().all(|part| hex(part)) {
            return None;
        }
        Self::new(
            u128::from_str_radix(trace, 16).ok()?,
            u64::from_str_radix(span, 16).ok()?,
            u8::from_str_radix(flags, 16).ok()?,
        )
    }

    /// The trace.
    #[must_use]
    pub const fn trace_id(self) -> TraceId {
        self.trace
    }

    /// The work that this comes from: the parent of what it leads to.
    #[must_use]
    pub const fn span_id(self) -> SpanId {
        self.span
    }

    /// Whether whoever began the trace records it.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }

    /// The same trace, from other work in it; unchanged if the id is 0.
    #[must_use]
    pub const fn from_span(self, span_id: u64) -> Self {
        match Self::new(self.trace.0, span_id, self.flags) {
            Some(context) => context,
            None => self,
        }
    }
}

/// Of version 00.
const LEN: usize = 55;

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, flags } = self;
        write!(f, "00-{trace}-{span}-{flags:02x}")
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_written_as_it_was_read() {
        let context = Traceparent::parse(GOOD).unwrap();
        assert_eq!(context.to_string(), GOOD);
        assert!(context.is_sampled());
        let child = context.from_span(7);
        assert_eq!(child.trace_id(), context.trace_id());
        assert_eq!(child.span_id().to_string(), "0000000000000007");
    }

    #[test]
    fn a_context_of_a_later_version_is_read_as_far_as_ours_goes() {
        let later = format!("cc{}-more", &GOOD[2..]);
        assert_eq!(Traceparent::parse(&later), Traceparent::parse(GOOD));
    }

    #[test]
    fn what_is_no_context_is_none() {
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1\n",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-+1",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ä-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Traceparent::parse(bad), None, "{bad:?}");
        }
    }
}
