use derms_proto::link::Software;
use derms_proto::{Asset, AssetKind, Fleet, InstanceId, Power, Site, SiteId};
use http::{Extensions, HeaderMap, header};
use uuid::Uuid;

use super::*;
use crate::{AgentTokens, Headend};

/// Of the token `test`.
const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn fleet(asset: AssetId) -> Fleet {
    let site = Site {
        id: SiteId::new(Uuid::from_u128(1)),
        name: "S".into(),
        location: String::new(),
    };
    let (min, max) = (Power::from_mw(-1.0), Power::from_mw(1.0));
    let asset = Asset::new(asset, "A", site.id, AssetKind::Battery, min, max);
    Fleet::new(vec![site], vec![asset]).unwrap()
}

fn register(agent: AgentId) -> Register {
    Register {
        agent_id: agent,
        instance_id: InstanceId::new(Uuid::from_u128(4)),
        protocol_minor: 0,
        capabilities: Vec::new(),
        software: Software::default(),
        last_epoch: 0,
        logs: Vec::new(),
        assets: Vec::new(),
        durable: false,
        agent_time: None,
    }
}

#[tokio::test]
async fn what_stopped_counting_while_a_claim_was_on_its_way_ends_its_session() {
    let asset = AssetId::new(Uuid::from_u128(2));
    let agent = AgentId::from(asset);
    let path = std::env::temp_dir().join(format!("derms-claim-{}", Uuid::new_v4()));
    std::fs::write(&path, format!("{agent} {HASH}\n")).unwrap();
    let headend = Headend::builder(fleet(asset))
        .agent_tokens(AgentTokens::load(&path).unwrap())
        // Nobody looks by himself while this lasts.
        .reload_interval(Duration::from_secs(3_600))
        .build()
        .await
        .unwrap();
    let core = headend.core();
    for (line, ends) in [(HASH.to_owned(), false), (HASH.replace('9', "8"), true)] {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer test".parse().unwrap());
        let now = core.clock.now();
        let credentials = core.auth.identify(&Extensions::new(), &headers, now);
        std::fs::write(&path, format!("{agent} {line}\n")).unwrap();
        core.auth.reload(now);
        let (outbound, _queue) = mpsc::channel(8);
        let claimant = Claimant {
            peer: None,
            principal: None,
            credentials: credentials.unwrap(),
            mailbox: Arc::new(Mailbox::new(outbound.clone())),
            outbound,
        };
        let claimed = claim(Arc::clone(core), Box::new(register(agent)), claimant).await;
        let close = claimed.unwrap().session.mailbox.take().close;
        let reason = close.map(|close| close.reason);
        assert_eq!(reason, ends.then_some(CloseReason::Revoked));
    }
    std::fs::remove_file(path).unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_gets_no_turn_at_the_store_is_told_to_come_later_and_who_has_gone_leaves_nothing_there()
{
    let asset = AssetId::new(Uuid::from_u128(2));
    let agent = AgentId::from(asset);
    let headend = Headend::builder(fleet(asset)).build().await.unwrap();
    let core = headend.core();
    let claim = async || {
        let (outbound, queue) = mpsc::channel(8);
        let claimant = Claimant {
            peer: None,
            principal: None,
            credentials: None,
            mailbox: Arc::new(Mailbox::new(outbound.clone())),
            outbound,
        };
        let claim = claim(Arc::clone(core), Box::new(register(agent)), claimant);
        (core.streams.spawn(claim), queue)
    };
    let stored = async || {
        let sessions = core.store.sessions(&Default::default()).await;
        sessions.unwrap().items.len()
    };
    let turns = core.registering.acquire_many(AT_THE_STORE as u32).await;
    let (waiting, _queue) = claim().await;
    let start = tokio::time::Instant::now();
    let close = waiting.await.unwrap().unwrap_err();
    assert_eq!(close.reason, CloseReason::Overloaded);
    assert_eq!(close.retry_after, Some(OVERLOAD_RETRY));
    assert_eq!(start.elapsed().as_secs(), 10, "before its agent gives up");
    let (gone, queue) = claim().await;
    let (patient, _queue) = claim().await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    drop(queue);
    assert_eq!(stored().await, 0);
    drop(turns);
    assert!(gone.await.unwrap().is_err());
    assert!(patient.await.unwrap().is_ok());
    assert_eq!(stored().await, 1);
}
