//! Nothing is changed on the way, and nothing that arrives panics.

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::wire::strategy;

proptest! {
    #[test]
    fn an_agents_message_arrives_as_it_was_sent(message in strategy::agent_message()) {
        let bytes = pb::AgentMessage::from(message.clone()).encode_to_vec();
        let back = AgentMessage::try_from(pb::AgentMessage::decode(&bytes[..]).unwrap());
        prop_assert_eq!(back, Ok(message));
    }

    #[test]
    fn a_headends_message_arrives_as_it_was_sent(message in strategy::headend_message()) {
        let bytes = pb::HeadendMessage::from(message.clone()).encode_to_vec();
        let back = HeadendMessage::try_from(pb::HeadendMessage::decode(&bytes[..]).unwrap());
        prop_assert_eq!(back, Ok(message));
    }

    #[test]
    fn fields_of_a_newer_peer_are_skipped(
        message in strategy::agent_message(),
        number in 1_000_u32..10_000,
        value in any::<u64>(),
    ) {
        let mut bytes = pb::AgentMessage::from(message.clone()).encode_to_vec();
        prost::encoding::uint64::encode(number, &value, &mut bytes);
        let back = AgentMessage::try_from(pb::AgentMessage::decode(&bytes[..]).unwrap());
        prop_assert_eq!(back, Ok(message));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(message) = pb::AgentMessage::decode(&bytes[..]) {
            let _ = AgentMessage::try_from(message);
        }
        if let Ok(message) = pb::HeadendMessage::decode(&bytes[..]) {
            let _ = HeadendMessage::try_from(message);
        }
    }

    /// Closer to real messages than random bytes, so it reaches further in.
    #[test]
    fn damaged_messages_never_panic(
        agent in strategy::agent_message(),
        headend in strategy::headend_message(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut from_agent = pb::AgentMessage::from(agent).encode_to_vec();
        let mut from_headend = pb::HeadendMessage::from(headend).encode_to_vec();
        for (index, byte) in damage {
            for bytes in [&mut from_agent, &mut from_headend] {
                if !bytes.is_empty() {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
            }
        }
        if let Ok(message) = pb::AgentMessage::decode(&from_agent[..]) {
            let _ = AgentMessage::try_from(message);
        }
        if let Ok(message) = pb::HeadendMessage::decode(&from_headend[..]) {
            let _ = HeadendMessage::try_from(message);
        }
    }
}
