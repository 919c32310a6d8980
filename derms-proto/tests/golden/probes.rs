//! A question that starts no session, and its answer: no members of an envelope.

use derms_proto::link::*;
use derms_proto::pb;
use prost::Message as _;

use super::*;

pub(crate) fn of_probes() -> Vec<Golden<Probe>> {
    let full = Probe {
        agent_id: id(AGENT),
        asset_ids: vec![id(ASSET)],
        protocol_minor: 2,
        software: Software {
            name: "edge_agent".to_owned(),
            version: "1.2.3".to_owned(),
        },
    };
    let minimal = pb::ProbeRequest {
        agent_id: AGENT.to_owned(),
        ..pb::ProbeRequest::default()
    };
    vec![
        Golden {
            name: "probe_request",
            bytes: pb::ProbeRequest::from(full.clone()).encode_to_vec(),
            message: full,
        },
        Golden {
            name: "probe_request_minimal",
            bytes: minimal.encode_to_vec(),
            message: Probe {
                agent_id: id(AGENT),
                asset_ids: vec![],
                protocol_minor: 0,
                software: Software::default(),
            },
        },
    ]
}

pub(crate) fn of_probe_answers() -> Vec<Golden<ProbeAnswer>> {
    let full = ProbeAnswer {
        server_time: noon(),
        protocol_minor: 2,
        capabilities: vec!["compressed".to_owned()],
        principal: Some(format!("urn:derms:agent:{AGENT}")),
        grants: vec![Grant {
            asset_id: id(ASSET),
            status: GrantStatus::ServedElsewhere,
            last_revision: 0,
            text: Some("another agent serves it".to_owned()),
        }],
        durable_acks: true,
        connected: true,
    };
    let minimal = pb::ProbeAnswer {
        server_time: Some(pb_noon()),
        ..pb::ProbeAnswer::default()
    };
    vec![
        Golden {
            name: "probe_answer",
            bytes: pb::ProbeAnswer::from(full.clone()).encode_to_vec(),
            message: full,
        },
        Golden {
            name: "probe_answer_minimal",
            bytes: minimal.encode_to_vec(),
            message: ProbeAnswer {
                server_time: noon(),
                protocol_minor: 0,
                capabilities: vec![],
                principal: None,
                grants: vec![],
                durable_acks: false,
                connected: false,
            },
        },
    ]
}
