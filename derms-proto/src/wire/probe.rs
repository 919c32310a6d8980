//! A question that starts no session, and its answer.

use super::headend::{grant_out, grants};
use super::register::capabilities;
use super::scalar::{Fault, bounded, cut, id, id_text, timestamp, timestamp_out};
use super::{MAX_NAME_BYTES, MAX_TEXT_BYTES};
use crate::link::{Probe, ProbeAnswer, Software, WireError};
use crate::pb;

impl TryFrom<pb::ProbeRequest> for Probe {
    type Error = WireError;

    fn try_from(pb: pb::ProbeRequest) -> Result<Self, WireError> {
        probe(pb).map_err(|fault| fault.of("ProbeRequest"))
    }
}

fn probe(pb: pb::ProbeRequest) -> Result<Probe, Fault> {
    let software = pb.software.unwrap_or_default();
    Ok(Probe {
        agent_id: id("agent_id", &pb.agent_id)?,
        asset_ids: bounded("asset_ids", pb.asset_ids)?
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect(),
        protocol_minor: pb.protocol_minor,
        software: Software {
            name: cut(software.name, MAX_NAME_BYTES),
            version: cut(software.version, MAX_NAME_BYTES),
        },
    })
}

impl From<Probe> for pb::ProbeRequest {
    fn from(probe: Probe) -> Self {
        Self {
            agent_id: id_text(probe.agent_id.uuid()),
            asset_ids: probe
                .asset_ids
                .iter()
                .map(|id| id_text(id.uuid()))
                .collect(),
            protocol_minor: probe.protocol_minor,
            software: Some(pb::Software {
                name: probe.software.name,
                version: probe.software.version,
            }),
        }
    }
}

impl TryFrom<pb::ProbeAnswer> for ProbeAnswer {
    type Error = WireError;

    fn try_from(pb: pb::ProbeAnswer) -> Result<Self, WireError> {
        answer(pb).map_err(|fault| fault.of("ProbeAnswer"))
    }
}

fn answer(pb: pb::ProbeAnswer) -> Result<ProbeAnswer, Fault> {
    Ok(ProbeAnswer {
        server_time: timestamp("server_time", pb.server_time)?,
        protocol_minor: pb.protocol_minor,
        capabilities: capabilities(pb.capabilities)?,
        principal: pb.principal.map(|text| cut(text, MAX_TEXT_BYTES)),
        grants: grants(pb.grants)?,
        durable_acks: pb.durable_acks,
        connected: pb.connected,
    })
}

impl From<ProbeAnswer> for pb::ProbeAnswer {
    fn from(answer: ProbeAnswer) -> Self {
        Self {
            server_time: Some(timestamp_out(answer.server_time)),
            protocol_minor: answer.protocol_minor,
            capabilities: answer.capabilities,
            principal: answer.principal,
            grants: answer.grants.into_iter().map(grant_out).collect(),
            durable_acks: answer.durable_acks,
            connected: answer.connected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::link::{Grant, GrantStatus};

    const ID: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";

    fn question() -> Probe {
        Probe {
            agent_id: ID.parse().unwrap(),
            asset_ids: vec![ID.parse().unwrap()],
            protocol_minor: 3,
            software: Software {
                name: "acme".to_owned(),
                version: "1".to_owned(),
            },
        }
    }

    #[test]
    fn a_probe_and_its_answer_come_back_as_they_were() {
        assert_eq!(
            Probe::try_from(pb::ProbeRequest::from(question())),
            Ok(question())
        );
        let answer = ProbeAnswer {
            server_time: Timestamp::from_unix_micros(1_700_000_000_000_001),
            protocol_minor: 2,
            capabilities: vec!["limits".to_owned()],
            principal: Some("urn:derms:agent:x".to_owned()),
            grants: vec![Grant {
                asset_id: ID.parse().unwrap(),
                status: GrantStatus::Forbidden,
                last_revision: 0,
                text: Some("no".to_owned()),
            }],
            durable_acks: true,
            connected: true,
        };
        assert_eq!(
            ProbeAnswer::try_from(pb::ProbeAnswer::from(answer.clone())),
            Ok(answer)
        );
    }

    #[test]
    fn a_probe_without_an_agent_and_an_answer_without_a_time_are_refused() {
        let request = pb::ProbeRequest {
            agent_id: "me".to_owned(),
            ..question().into()
        };
        assert_eq!(Probe::try_from(request).unwrap_err().field, "agent_id");
        let error = ProbeAnswer::try_from(pb::ProbeAnswer::default()).unwrap_err();
        assert_eq!(error.field, "server_time");
    }

    #[test]
    fn an_asset_that_is_no_id_is_left_out() {
        let mut request = pb::ProbeRequest::from(question());
        request.asset_ids.push("BESS-1".to_owned());
        assert_eq!(Probe::try_from(request), Ok(question()));
    }
}
