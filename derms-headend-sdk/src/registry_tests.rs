use std::collections::HashMap;

use derms_proto::{Asset, AssetKind, Power, Site, SiteId};
use uuid::Uuid;

use super::*;

const SITE: u128 = 1;

fn asset_id(n: u128) -> AssetId {
    AssetId::new(Uuid::from_u128(100 + n))
}

/// A site with `assets` assets; the gateway of the site is the agent with its id.
fn registry(assets: u128) -> Registry {
    let site = Site {
        id: SiteId::new(Uuid::from_u128(SITE)),
        name: "S".into(),
        location: String::new(),
    };
    let asset = |n| {
        let (min, max) = (Power::from_mw(-1.0), Power::from_mw(1.0));
        Asset::new(
            asset_id(n),
            format!("A{n}"),
            site.id,
            AssetKind::Battery,
            min,
            max,
        )
    };
    let fleet = Fleet::new(vec![site.clone()], (0..assets).map(asset).collect()).unwrap();
    Registry::new(Arc::new(fleet), Duration::from_secs(45), 256)
}

fn session(agent: AgentId, instance: u128, epoch: u64) -> Arc<Session> {
    let (outbound, _) = mpsc::channel(1);
    Arc::new(Session::new(NewSession {
        agent_id: agent,
        instance_id: InstanceId::new(Uuid::from_u128(instance)),
        epoch,
        peer: None,
        principal: None,
        credentials: None,
        software: Software::default(),
        capabilities: Capabilities::default(),
        durable: false,
        report_log: None,
        connected_at: now(),
        mailbox: Arc::default(),
        outbound,
    }))
}

fn now() -> Timestamp {
    Timestamp::from_unix_micros(1_000_000_000)
}

fn gateway() -> AgentId {
    AgentId::new(Uuid::from_u128(SITE))
}

fn insert(
    registry: &Registry,
    session: &Arc<Session>,
    claims: &[AssetId],
) -> Result<Vec<GrantStatus>, Close> {
    let mut statuses = Vec::new();
    registry.insert(session, claims, |grants| {
        statuses = grants.iter().map(|grant| grant.status).collect();
    })?;
    Ok(statuses)
}

fn serving_epoch(registry: &Registry, asset: AssetId) -> Option<u64> {
    registry.serving(asset).map(|session| session.epoch)
}

#[test]
fn after_any_interleaving_the_registry_is_the_newest_live_stream() {
    // Each agent's streams claim (epochs are given in order), are inserted and are torn down in
    // any order; a small model says who must be there.
    let mut random = fastrand_like(7);
    for round in 0..10_000 {
        let registry = registry(3);
        let mut model: HashMap<u128, u64> = HashMap::new();
        let mut newest: HashMap<u128, u64> = HashMap::new();
        let mut waiting: Vec<(u128, Arc<Session>)> = Vec::new();
        let mut live: Vec<(u128, Arc<Session>)> = Vec::new();
        let mut epochs: HashMap<u128, u64> = HashMap::new();
        for step in 0..14 {
            match random(3) {
                0 => {
                    let agent = u128::from(random(3));
                    let epoch = epochs.entry(agent).or_default();
                    *epoch += 1;
                    let id = AgentId::from(asset_id(agent));
                    waiting.push((agent, session(id, step, *epoch)));
                }
                1 if !waiting.is_empty() => {
                    let (agent, session) =
                        waiting.swap_remove(random(waiting.len() as u64) as usize);
                    let newest = newest.entry(agent).or_default();
                    let result = insert(&registry, &session, &[asset_id(agent)]);
                    assert_eq!(result.is_ok(), session.epoch > *newest, "round {round}");
                    if result.is_ok() {
                        *newest = session.epoch;
                        model.insert(agent, session.epoch);
                        live.push((agent, session));
                    }
                }
                2 if !live.is_empty() => {
                    let (agent, session) = live.swap_remove(random(live.len() as u64) as usize);
                    let current = model.get(&agent) == Some(&session.epoch);
                    assert_eq!(registry.remove(&session), current, "round {round}");
                    if current {
                        model.remove(&agent);
                    }
                }
                _ => {}
            }
            for agent in 0..3 {
                let expected = model.get(&agent).copied();
                assert_eq!(
                    serving_epoch(&registry, asset_id(agent)),
                    expected,
                    "round {round}"
                );
            }
            assert_eq!(registry.len(), model.len(), "round {round}");
        }
        for (_, session) in live {
            registry.remove(&session);
        }
        assert_eq!(registry.len(), 0);
        assert!(
            registry.tables.read().assets.is_empty(),
            "an entry outlived its session"
        );
    }
}

/// SplitMix64: the same series on every run.
fn fastrand_like(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |bound| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

#[test]
fn the_teardown_of_a_taken_over_session_leaves_the_new_one_online() {
    let registry = registry(1);
    let agent = AgentId::from(asset_id(0));
    let (old, new) = (session(agent, 1, 1), session(agent, 2, 2));
    insert(&registry, &old, &[asset_id(0)]).unwrap();
    insert(&registry, &new, &[asset_id(0)]).unwrap();
    let close = old.mailbox.take().close.unwrap();
    assert_eq!(close.reason, CloseReason::TakenOver);
    assert!(!registry.remove(&old));
    assert_eq!(serving_epoch(&registry, asset_id(0)), Some(2));
    assert!(registry.is_current(&new) && !registry.is_current(&old));
}

#[test]
fn a_claim_is_granted_or_refused_asset_by_asset() {
    let registry = registry(2);
    let agent = AgentId::from(asset_id(0));
    let unknown = AssetId::new(Uuid::from_u128(9));
    let statuses = insert(
        &registry,
        &session(agent, 1, 1),
        // One that is claimed twice is answered once.
        &[asset_id(0), asset_id(1), asset_id(1), unknown],
    );
    let expected = [
        GrantStatus::Granted,
        GrantStatus::Forbidden,
        GrantStatus::UnknownAsset,
    ];
    assert_eq!(statuses.unwrap(), expected);
}

#[test]
fn an_asset_has_one_agent_at_a_time_and_the_other_gets_it_when_it_is_free() {
    let registry = registry(2);
    let single = session(AgentId::from(asset_id(0)), 1, 1);
    insert(&registry, &single, &[asset_id(0)]).unwrap();
    let site = session(gateway(), 2, 1);
    let statuses = insert(&registry, &site, &[asset_id(0), asset_id(1)]).unwrap();
    assert_eq!(
        statuses,
        [GrantStatus::ServedElsewhere, GrantStatus::Granted]
    );

    registry.remove(&single);
    let changed = registry.update(&site, &[asset_id(0)], &[], |_| {}).unwrap();
    assert_eq!(changed.granted, [asset_id(0)]);
    assert_eq!(registry.serving(asset_id(0)).unwrap().agent_id, gateway());
}

#[test]
fn an_asset_that_a_gateway_gives_up_is_offline_and_keeps_when_it_was_seen() {
    let registry = registry(2);
    let site = session(gateway(), 1, 1);
    insert(&registry, &site, &[asset_id(0), asset_id(1)]).unwrap();
    let dropped = [asset_id(0), asset_id(7)];
    let changed = registry.update(&site, &[], &dropped, |_| {}).unwrap();
    assert_eq!((changed.granted, changed.left), (vec![], vec![asset_id(0)]));
    assert!(registry.serving(asset_id(0)).is_none());
    assert_eq!(registry.last_seen(asset_id(0)), Some(now()));
    assert!(registry.serving(asset_id(1)).is_some());
}

#[test]
fn an_update_of_a_session_that_was_taken_over_changes_nothing() {
    let registry = registry(2);
    let (old, new) = (session(gateway(), 1, 1), session(gateway(), 2, 2));
    insert(&registry, &old, &[asset_id(0)]).unwrap();
    insert(&registry, &new, &[asset_id(0)]).unwrap();
    assert!(
        registry
            .update(&old, &[asset_id(1)], &[asset_id(0)], |_| {})
            .is_none()
    );
    assert_eq!(serving_epoch(&registry, asset_id(0)), Some(2));
    assert_eq!(serving_epoch(&registry, asset_id(1)), None);
}

#[tokio::test(start_paused = true)]
async fn a_silent_session_is_not_shown_as_connected() {
    let registry = registry(1);
    let silent = session(AgentId::from(asset_id(0)), 1, 1);
    insert(&registry, &silent, &[asset_id(0)]).unwrap();
    tokio::time::advance(Duration::from_secs(44)).await;
    assert!(registry.serving(asset_id(0)).is_some());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(registry.serving(asset_id(0)).is_none());
    assert!(registry.agents().is_empty());
    silent.seen(now());
    assert!(registry.serving(asset_id(0)).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_makes_no_session_seem_offline_or_alive() {
    let registry = registry(1);
    let session = session(AgentId::from(asset_id(0)), 1, 1);
    insert(&registry, &session, &[asset_id(0)]).unwrap();
    let hour = Duration::from_secs(3_600);
    for wall in [now().saturating_sub(hour), now().saturating_add(hour)] {
        session.seen(wall);
        assert_eq!(registry.last_seen(asset_id(0)), Some(wall));
        tokio::time::advance(Duration::from_secs(44)).await;
        assert!(registry.serving(asset_id(0)).is_some());
        assert_eq!(registry.agents().len(), 1);
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(registry.serving(asset_id(0)).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_third_takeover_between_processes_within_a_minute_is_suspect() {
    let registry = registry(1);
    let agent = AgentId::from(asset_id(0));
    let instance = |n| InstanceId::new(Uuid::from_u128(n));
    for epoch in 1..=3 {
        let suspect = registry.suspect(agent, instance(u128::from(epoch % 2)));
        assert!(
            suspect.is_none(),
            "takeover {} is no pattern yet",
            epoch - 1
        );
        insert(
            &registry,
            &session(agent, u128::from(epoch % 2), epoch),
            &[],
        )
        .unwrap();
    }
    let incumbent = registry.suspect(agent, instance(0)).unwrap();
    assert_eq!(incumbent.epoch, 3);
    // The same process that comes back is none, nor is one after a quiet minute.
    assert!(registry.suspect(agent, instance(1)).is_none());
    tokio::time::advance(TAKEOVER_WINDOW).await;
    assert!(registry.suspect(agent, instance(0)).is_none());
}

#[test]
fn more_assets_than_the_limit_are_refused_one_by_one() {
    let mut registry = registry(3);
    registry.max_assets = 2;
    let claims = [asset_id(0), asset_id(1), asset_id(2)];
    let statuses = insert(&registry, &session(gateway(), 1, 1), &claims).unwrap();
    let expected = [
        GrantStatus::Granted,
        GrantStatus::Granted,
        GrantStatus::TooMany,
    ];
    assert_eq!(statuses, expected);
}

#[test]
fn only_agents_that_may_serve_something_are_known() {
    let registry = registry(1);
    assert!(registry.knows(gateway()));
    assert!(registry.knows(asset_id(0).into()));
    assert!(!registry.knows(AgentId::new(Uuid::from_u128(77))));
}

#[tokio::test(start_paused = true)]
async fn how_long_an_asset_has_had_no_session_is_counted_from_its_last_one() {
    let registry = registry(2);
    assert_eq!(registry.unserved(asset_id(0)), Duration::MAX);
    for epoch in [1, 2] {
        let brief = session(gateway(), 1, epoch);
        registry.insert(&brief, &[asset_id(0)], |_| {}).unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(
            registry.unserved(asset_id(0)),
            Duration::ZERO,
            "silent, but there"
        );
        registry.remove(&brief);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(registry.unserved(asset_id(0)), Duration::from_secs(7));
    }
    assert_eq!(registry.unserved(asset_id(1)), Duration::MAX);
}

#[test]
fn a_probe_tells_what_a_new_session_would_get_and_changes_nothing() {
    use GrantStatus as G;
    let registry = registry(3);
    let of_its_own = AgentId::from(asset_id(1));
    let incumbent = session(of_its_own, 1, 1);
    insert(&registry, &incumbent, &[asset_id(1)]).unwrap();
    let asked = |agent, claims: &[AssetId]| {
        let (grants, connected) = registry.probe(agent, claims);
        let statuses: Vec<_> = grants.iter().map(|grant| grant.status).collect();
        (statuses, connected)
    };
    // Its own session would give way to the new one; that of another agent does not.
    let claims = [asset_id(1), asset_id(1), asset_id(2), asset_id(9)];
    let (granted, connected) = asked(of_its_own, &claims);
    assert_eq!(granted, [G::Granted, G::Forbidden, G::UnknownAsset]);
    assert!(connected);
    let (granted, connected) = asked(gateway(), &[asset_id(0), asset_id(1)]);
    assert_eq!(granted, [G::Granted, G::ServedElsewhere]);
    assert!(!connected);

    assert!(registry.is_current(&incumbent));
    assert_eq!(registry.len(), 1);
    assert_eq!(serving_epoch(&registry, asset_id(1)), Some(1));
    assert_eq!(serving_epoch(&registry, asset_id(0)), None);
}

#[test]
fn a_probe_of_more_assets_than_an_agent_may_have_is_answered_as_their_claim_is() {
    let mut registry = registry(3);
    registry.max_assets = 2;
    let claims = [asset_id(0), asset_id(1), asset_id(2)];
    let (probed, _) = registry.probe(gateway(), &claims);
    let claimed = insert(&registry, &session(gateway(), 1, 1), &claims).unwrap();
    assert_eq!(claimed[2], GrantStatus::TooMany);
    let probed: Vec<_> = probed.iter().map(|grant| grant.status).collect();
    assert_eq!(probed, claimed);
}
