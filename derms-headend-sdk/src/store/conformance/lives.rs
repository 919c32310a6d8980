//! Sessions and heartbeats.

use std::sync::Arc;

use derms_proto::{Availability, ControlSource, DispatchStatus, Heartbeat};

use super::super::{HistoryQuery, MAX_COUNTER, Store};
use super::kit::*;

sentences! {
    "epochs of an agent strictly increase and are above `at_least`" => epochs_increase,
    "sessions that begin at the same time get different epochs" => epochs_differ,
    "a counter that an agent makes up counts for `MAX_COUNTER` at most" => epochs_have_room,
    "an unknown or ended session is left as it is" => an_end_stands,
    "`abandon_sessions` ends what has not ended and puts in doubt what it carried" => abandon,
    "a repeated heartbeat changes nothing" => heartbeats_once,
}

async fn epochs_increase(store: Arc<dyn Store>) -> Checked {
    let (agent, other) = (new_agent(), new_agent());
    let mut last = 0;
    for at_least in [0, 0, 7, 3, 0, 100, 0] {
        let epoch = store.open_session(&record(agent, at(0)), at_least).await?;
        ensure!(
            epoch > last && epoch > at_least,
            "epoch {epoch} came after {last} with `at_least` {at_least}"
        );
        last = epoch;
        store.open_session(&record(other, at(0)), 0).await?;
    }
    Ok(())
}

async fn epochs_differ(store: Arc<dyn Store>) -> Checked {
    let agent = new_agent();
    let mut epochs = at_once((0..32).map(|_| {
        let store = Arc::clone(&store);
        async move { store.open_session(&record(agent, at(0)), 0).await }
    }))
    .await?;
    epochs.sort_unstable();
    epochs.dedup();
    same("different epochs of 32 sessions", &epochs.len(), &32)
}

async fn epochs_have_room(store: Arc<dyn Store>) -> Checked {
    let (agent, asset) = (new_agent(), new_asset());
    let first = store.open_session(&record(agent, at(0)), u64::MAX).await?;
    let second = store.open_session(&record(agent, at(0)), u64::MAX).await?;
    ensure!(
        first > MAX_COUNTER && second > first && second < 2 * MAX_COUNTER,
        "after `at_least` 2⁶⁴ − 1 the epochs are {first} and {second}"
    );
    store.raise_revision(asset, u64::MAX).await?;
    let (order, _) = commit(&store, &new_order(asset, new_site(), 0)).await?;
    same(
        "the revision after 2⁶⁴ − 1",
        &order.revision,
        &Some(MAX_COUNTER + 1),
    )
}

async fn an_end_stands(store: Arc<dyn Store>) -> Checked {
    let agent = new_agent();
    let began = record(agent, at(5));
    let epoch = store.open_session(&began, 0).await?;
    store
        .close_session(agent, epoch + 1, &end(9, "unknown"))
        .await?;
    let page = store.sessions(&HistoryQuery::default()).await?;
    let mut wanted = began;
    wanted.epoch = epoch;
    same("a session that lives", &page.items, &vec![wanted.clone()])?;
    store.close_session(agent, epoch, &end(10, "first")).await?;
    store
        .close_session(agent, epoch, &end(11, "second"))
        .await?;
    wanted.disconnected_at = Some(at(10));
    wanted.cause = Some(end(10, "").cause);
    wanted.text = Some("first".to_owned());
    let page = store.sessions(&HistoryQuery::default()).await?;
    same("a session that ended", &page.items, &vec![wanted])
}

async fn abandon(store: Arc<dyn Store>) -> Checked {
    let (gone, left) = (
        session(&store, new_agent()).await?,
        session(&store, new_agent()).await?,
    );
    store
        .close_session(gone.agent, gone.epoch, &end(10, "stopped"))
        .await?;
    let (pending, carried) = (committed(&store).await?, sent(&store, left).await?);
    let marked = store.abandon_sessions(&end(50, "abandoned")).await?;
    let marked: Vec<_> = marked.iter().map(|order| order.dispatch.id).collect();
    same("orders newly in doubt", &marked, &vec![carried.id])?;
    ensure!(
        stored(&store, carried.id).await?.in_doubt,
        "what was carried is not in doubt"
    );
    let pending = stored(&store, pending.id).await?;
    ensure!(
        !pending.in_doubt && pending.status == DispatchStatus::Pending,
        "what was not sent is touched"
    );
    for record in store.sessions(&HistoryQuery::default()).await?.items {
        let text = if record.agent_id == gone.agent {
            "stopped"
        } else {
            "abandoned"
        };
        same("how it ended", &record.text.as_deref(), &Some(text))?;
    }
    let marked = store.abandon_sessions(&end(60, "again")).await?;
    same("orders in doubt for the second time", &marked.len(), &0)?;
    let next = store.open_session(&record(left.agent, at(70)), 0).await?;
    ensure!(next > left.epoch, "epoch {next} came after {}", left.epoch);
    Ok(())
}

async fn heartbeats_once(store: Arc<dyn Store>) -> Checked {
    let (agent, asset) = (new_agent(), new_asset());
    let beat = |seconds, asset_id| Heartbeat {
        asset_id,
        agent_id: agent,
        epoch: 1,
        received_at: at(seconds),
        agent_time: None,
        uptime_s: Some(1.5),
        outbox_depth: 3,
        dropped_samples: 4,
        availability: Availability::ReadOnly,
        control: ControlSource::Failsafe,
        control_mw: None,
        read_errors: 2,
    };
    let beats = [beat(1, asset), beat(2, asset), beat(1, new_asset())];
    store.append_heartbeats(&beats).await?;
    store.append_heartbeats(&beats).await?;
    let page = store.heartbeats(asset, &HistoryQuery::default()).await?;
    same(
        "heartbeats of the asset",
        &page.items,
        &vec![beats[1].clone(), beats[0].clone()],
    )
}
