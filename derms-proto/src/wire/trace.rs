//! The trace context that rides on each message.

use crate::{Traceparent, pb};

/// The W3C trace context of a message: what caused it, for tracing across processes.
///
/// Implemented for the two envelopes of the agent link; there is no reason to implement it for
/// anything else.
///
/// # Flow
/// Who sends a message sets the context of the span it works in; who receives one goes on from it.
///
/// # Guarantees
/// Only texts of the form of version 00 come out or go in: `00-<32 hex>-<16 hex>-<2 hex>` in lower
/// case, neither id all zero (W3C Trace Context, 3.2.2). Anything else counts as absent.
///
/// # What you must ensure
/// That a context is no secret and says nothing of persons: it is seen by both sides.
///
/// # Cancellation
/// It is not async.
///
/// # Errors
/// None: a message with a wrong context is a message without one.
///
/// # Example
/// ```
/// use derms_proto::link::AgentMessage;
/// use derms_proto::pb;
/// use derms_proto::wire::TraceContext;
///
/// let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let mut message = pb::AgentMessage::from(AgentMessage::Pong { nonce: 7 });
/// message.set_trace_context(Some(context.to_owned()));
/// assert_eq!(message.trace_context(), Some(context));
/// ```
pub trait TraceContext {
    /// The `traceparent`; `None` if there is none or it is not of the form of version 00.
    fn trace_context(&self) -> Option<&str>;

    /// Sets or removes the `traceparent`; one that is not of the form is removed.
    fn set_trace_context(&mut self, traceparent: Option<String>);
}

impl TraceContext for pb::AgentMessage {
    fn trace_context(&self) -> Option<&str> {
        self.traceparent.as_deref().filter(|text| well_formed(text))
    }

    fn set_trace_context(&mut self, traceparent: Option<String>) {
        self.traceparent = traceparent.filter(|text| well_formed(text));
    }
}

impl TraceContext for pb::HeadendMessage {
    fn trace_context(&self) -> Option<&str> {
        self.traceparent.as_deref().filter(|text| well_formed(text))
    }

    fn set_trace_context(&mut self, traceparent: Option<String>) {
        self.traceparent = traceparent.filter(|text| well_formed(text));
    }
}

/// Of version 00, as both sides write it.
fn well_formed(text: &str) -> bool {
    text.starts_with("00-") && Traceparent::parse(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_that_is_not_of_the_form_is_none() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(well_formed(good));
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1\n",
        ] {
            assert!(!well_formed(bad), "{bad:?}");
        }
        let mut message = pb::HeadendMessage {
            traceparent: Some("x".repeat(1 << 16)),
            body: None,
        };
        assert_eq!(message.trace_context(), None);
        message.set_trace_context(Some(good.to_owned()));
        assert_eq!(message.trace_context(), Some(good));
        message.set_trace_context(Some("none".to_owned()));
        assert_eq!(message.traceparent, None);
    }
}
