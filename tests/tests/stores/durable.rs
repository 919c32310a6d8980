//! What was acknowledged is there when the store is opened again.

use derms_headend_sdk::store::{
    Advance, Commit, DispatchQuery, HistoryQuery, PostgresStore, TelemetryQuery,
};
use derms_proto::link::{LogKind, SetpointPhase};
use derms_proto::{AgentId, DispatchStatus, LimitStatus, LogId, PowerLimit, SiteId, StopScope};
use uuid::Uuid;

use crate::facts::*;
use crate::place::places;
use crate::server::server;

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_stops_are_there_when_the_store_is_opened_again() {
    for place in places() {
        let store = place.open().await;
        let site = SiteId::new(Uuid::new_v4());
        let (asset, scope) = (asset(), StopScope::Site(site));
        let held = limit(asset, site, LimitStatus::NotObeyed);
        let removed = PowerLimit {
            removed_at: Some(at(9)),
            ..limit(asset, site, LimitStatus::Removed)
        };
        store.put_limits(&[held.clone(), removed]).await.unwrap();
        store.put_stops(&[stop(site)]).await.unwrap();
        let before = store.restraints().await.unwrap();
        assert_eq!(before.limits, [held]);
        assert_eq!(before.stops.len(), 1);
        assert!(before.revisions.contains(&(scope, 7)));
        drop(store);
        assert_eq!(place.open().await.restraints().await.unwrap(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_there_when_the_store_is_opened_again() {
    for place in places() {
        let store = place.open().await;
        let (asset, site) = (asset(), SiteId::new(Uuid::new_v4()));
        let (agent, log) = (AgentId::from(asset), LogId::generate());
        // The asset moves to another site, and its clock runs ahead once.
        let mut ahead = full(asset, site, at(3));
        ahead.received_at = at(2);
        let rows = vec![
            full(asset, site, at(0)),
            full(asset, SiteId::new(Uuid::new_v4()), at(1)),
            ahead,
            bare(asset, at(4)),
        ];
        let mut telemetry = part(agent, log, 8, rows.clone());
        telemetry.gaps = vec![gap(1, 7)];
        store.append_telemetry(&[telemetry]).await.unwrap();
        store
            .append_heartbeats(&[heartbeat(asset, at(1))])
            .await
            .unwrap();

        let carrier = carrier(&*store, agent).await;
        let mut first = order(asset);
        first.idempotency = Some(key("k"));
        let first_order = commit(&*store, &first).await;
        let step = Advance {
            id: first_order.id,
            status: DispatchStatus::Sent,
            at: at(1),
            reason: None,
            text: None,
            carrier: Some(carrier),
        };
        store.advance(&[step]).await.unwrap();
        let report = told(carrier, &first_order, SetpointPhase::Started);
        store.append_reports(&[report]).await.unwrap();
        let waiting = commit(&*store, &order(asset)).await;
        let of_site = commit(
            &*store,
            &site_order(&[crate::facts::asset(), crate::facts::asset()]),
        )
        .await;
        store.mark_in_doubt(agent, carrier.epoch).await.unwrap();

        let all = DispatchQuery::default();
        let before = (
            store.dispatches(&all).await.unwrap().items,
            store.open_orders(None).await.unwrap(),
            store
                .sessions(&HistoryQuery::default())
                .await
                .unwrap()
                .items,
        );
        drop(store);

        let store = place.open().await;
        let after = (
            store.dispatches(&all).await.unwrap().items,
            store.open_orders(None).await.unwrap(),
            store
                .sessions(&HistoryQuery::default())
                .await
                .unwrap()
                .items,
        );
        assert_eq!(after, before);
        assert_eq!(after.0.len(), 3);
        let carried = after
            .1
            .iter()
            .find(|order| order.dispatch.id == first_order.id)
            .unwrap();
        assert_eq!(carried.carrier, Some(carrier));
        assert_eq!(carried.dispatch.status, DispatchStatus::Active);
        assert!(carried.dispatch.in_doubt);
        assert_eq!(carried.dispatch.transitions.len(), 3);
        assert_eq!(store.dispatch(of_site.id).await.unwrap(), Some(of_site));
        assert_eq!(store.dispatch(waiting.id).await.unwrap(), Some(waiting));

        let history = TelemetryQuery::new(asset, HistoryQuery::default());
        let mut wanted = rows.clone();
        wanted.reverse();
        assert_eq!(store.telemetry(&history).await.unwrap().items, wanted);
        assert_eq!(store.latest_telemetry().await.unwrap(), [rows[3].clone()]);
        assert_eq!(store.gaps(agent).await.unwrap(), [(log, gap(1, 7))]);
        let page = HistoryQuery::default();
        let beats = store.heartbeats(asset, &page).await.unwrap().items;
        assert_eq!(beats, [heartbeat(asset, at(1))]);

        // Nothing comes twice, and counters go on.
        store
            .append_telemetry(&[part(agent, log, 8, rows)])
            .await
            .unwrap();
        assert_eq!(store.telemetry(&history).await.unwrap().items.len(), 4);
        let cursor = async |kind, log| store.log_cursor(agent, kind, log).await.unwrap();
        assert_eq!(cursor(LogKind::Telemetry, log).await, Some(12));
        assert_eq!(
            cursor(LogKind::Report, carrier.report_log.unwrap()).await,
            Some(3)
        );
        let Commit::Repeated(again) = store.commit(&first).await.unwrap() else {
            panic!("the key is forgotten");
        };
        assert_eq!(again.id, first_order.id);
        assert_eq!(commit(&*store, &order(asset)).await.revision, Some(3));
        assert!(store.open_session(&session(agent), 0).await.unwrap() > carrier.epoch);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_contradictions_are_kept_as_they_were_received() {
    for place in places() {
        let store = place.open().await;
        let asset = asset();
        let carrier = carrier(&*store, asset.into()).await;
        let order = commit(&*store, &order(asset)).await;
        // It was never sent, so it can't have started.
        let report = told(carrier, &order, SetpointPhase::Started);
        store
            .append_reports(std::slice::from_ref(&report))
            .await
            .unwrap();
        store.append_reports(&[report]).await.unwrap();
        place
            .sql(
                "create table expected (n int check (n = 1)); \
                 insert into expected select count(*) from reports; \
                 insert into expected select count(*) from reports where \
                 kind = 'contradiction' and status = 3 and seq = 1; \
                 insert into expected select count(*) from events; \
                 insert into expected select count(*) from events where severity = 3 \
                 and code = 'arc_fault' and text = 'string 3' and source = 0",
            )
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_on_the_disk_whatever_the_database_says_of_commits() {
    for (set, wanted) in [("off", "on"), ("remote_apply", "remote_apply")] {
        let server = server();
        let url = server.database();
        let name = url.rsplit('/').next().unwrap();
        let alter = format!("alter database {name} set synchronous_commit = {set}");
        server.sql(&url, &alter);
        let store = PostgresStore::connect(&url).await.unwrap();
        let spy = "create table public.seen (setting text); \
                   create function public.spy() returns trigger language plpgsql as \
                   $$begin insert into public.seen values (current_setting('synchronous_commit')); \
                   return new; end$$; \
                   create trigger spy after insert on derms.sessions for each row \
                   execute function public.spy()";
        server.sql(&url, spy);
        carrier(&store, AgentId::from(asset())).await;
        assert_eq!(server.sql(&url, "select setting from public.seen"), wanted);
    }
}
