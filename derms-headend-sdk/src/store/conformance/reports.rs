//! What agents say of orders, and doubt.

use std::sync::Arc;

use derms_proto::link::SetpointPhase as Phase;
use derms_proto::{DispatchStatus as S, LogId, Power};

use super::super::{Carrier, ReportFate, Store};
use super::Broken;
use super::kit::*;

sentences! {
    "reports move the orders they speak of" => reports_move,
    "a repeated report changes nothing, and is left out of the answer" => reports_once,
    "reports that come at the same time move an order once" => reports_once_at_the_same_time,
    "a contradiction is told and has no effect" => contradictions,
    "a report of an unknown order is told, and so is what is about none" => unknown_and_others,
    "an agent's report touches no order of another agent or asset" => foreign_reports,
    "the end of a session puts in doubt what it carried and has not ended, nothing else" => doubt,
    "what an agent drops from a session that goes on is in doubt until it speaks of it, nothing else" => dropped,
    "what is handed to a session that is over is in doubt at once" => doubt_at_once,
    "a late end of a session casts no doubt on what a later one has told" => no_late_doubt,
    "a report of a session that is over leaves the doubt" => doubt_remains,
    "an agent that says what is in force takes the doubt off it" => confirm,
}

async fn reports_move(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let order = sent(&store, carrier).await?;
    let other = sent(&store, carrier).await?;
    let log = LogId::generate();
    let first = reports(
        carrier,
        log,
        vec![
            says(&order, 1, Phase::Received),
            says(&order, 2, Phase::Started),
        ],
    );
    let second = reports(
        carrier,
        log,
        vec![
            says(&other, 3, Phase::Rejected),
            says(&order, 4, Phase::Completed),
        ],
    );
    let fates = store.append_reports(&[first, second]).await?;
    let mut found = Vec::new();
    for fates in &fates {
        let mut part = Vec::new();
        for fate in fates {
            let ReportFate::Applied(order) = fate else {
                return Err(Broken::Otherwise(format!("a report was answered {fate:?}")));
            };
            part.push((order.dispatch.id, order.dispatch.status));
        }
        found.push(part);
    }
    let wanted = vec![
        vec![(order.id, S::Received), (order.id, S::Active)],
        vec![(other.id, S::Rejected), (order.id, S::Completed)],
    ];
    same("fates", &found, &wanted)?;
    let now = stored(&store, order.id).await?;
    same(
        "what the device applied",
        &now.applied_mw,
        &Some(Power::from_mw(1.25)),
    )?;
    let steps = now.transitions.iter().skip(2);
    let steps: Vec<_> = steps
        .map(|step| (step.status, step.at, step.reported_at))
        .collect();
    let wanted = vec![
        (S::Received, at(100), Some(at(21))),
        (S::Active, at(100), Some(at(22))),
        (S::Completed, at(100), Some(at(24))),
    ];
    same("the order's steps", &steps, &wanted)?;
    let open = store.open_orders(None).await?;
    same("open orders", &open.len(), &0)
}

async fn reports_once(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let order = sent(&store, carrier).await?;
    let log = LogId::generate();
    let received = reports(carrier, log, vec![says(&order, 1, Phase::Received)]);
    let both = reports(
        carrier,
        log,
        vec![
            says(&order, 1, Phase::Received),
            says(&order, 2, Phase::Started),
        ],
    );
    let fates = store
        .append_reports(&[received.clone(), both.clone(), received])
        .await?;
    let counts: Vec<_> = fates.iter().map(Vec::len).collect();
    same("fates of each part", &counts, &vec![1, 1, 0])?;
    let once = stored(&store, order.id).await?;
    same(
        "fates of a repeated part",
        &store.append_reports(&[both]).await?,
        &vec![Vec::new()],
    )?;
    same("the order", &stored(&store, order.id).await?, &once)?;
    // Told again under a new number: known, and no new step.
    let fate = report(&store, carrier, says(&order, 1, Phase::Received)).await?;
    ensure!(
        matches!(fate, ReportFate::Repeated(_)),
        "a step told again was answered {fate:?}"
    );
    same("the order", &stored(&store, order.id).await?, &once)
}

async fn reports_once_at_the_same_time(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let order = sent(&store, carrier).await?;
    let log = LogId::generate();
    let fates = at_once((0..16).map(|_| {
        let store = Arc::clone(&store);
        let append = reports(carrier, log, vec![says(&order, 1, Phase::Started)]);
        async move { store.append_reports(&[append]).await }
    }))
    .await?;
    let fates = fates.iter().flatten().flatten().count();
    same("fates of one report", &fates, &1)?;
    same(
        "steps",
        &stored(&store, order.id).await?.transitions.len(),
        &3,
    )
}

async fn contradictions(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let order = sent(&store, carrier).await?;
    report(&store, carrier, says(&order, 1, Phase::Rejected)).await?;
    let ended = stored(&store, order.id).await?;
    let fate = report(&store, carrier, says(&order, 2, Phase::Started)).await?;
    match fate {
        ReportFate::Contradiction { order, reported } => {
            same("what was reported", &reported, &S::Active)?;
            same("the order in the answer", &order.dispatch, &ended)?;
        }
        other => ensure!(false, "a contradiction was answered {other:?}"),
    }
    same(
        "the order in store",
        &stored(&store, order.id).await?,
        &ended,
    )
}

async fn unknown_and_others(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let mut unknown = committed(&store).await?;
    unknown.id = derms_proto::DispatchId::generate();
    let fate = report(&store, carrier, says(&unknown, 1, Phase::Started)).await?;
    same("its fate", &fate, &ReportFate::UnknownDispatch(unknown.id))?;
    let mut other = event(new_asset(), 1);
    other.event = None;
    let fate = report(&store, carrier, other.clone()).await?;
    same(
        "the fate of a report that is about nothing",
        &fate,
        &ReportFate::Other(other.entry),
    )
}

async fn foreign_reports(store: Arc<dyn Store>) -> Checked {
    let (own, other) = (
        session(&store, new_agent()).await?,
        session(&store, new_agent()).await?,
    );
    let order = sent(&store, own).await?;
    let unknown = ReportFate::UnknownDispatch(order.id);
    let fate = report(&store, other, says(&order, 1, Phase::Started)).await?;
    same("what another agent says of it", &fate, &unknown)?;
    let mut elsewhere = says(&order, 1, Phase::Started);
    elsewhere.entry.asset_id = new_asset();
    let fate = report(&store, own, elsewhere).await?;
    same("what is said of another asset", &fate, &unknown)?;
    same("the order", &stored(&store, order.id).await?, &order)
}

async fn doubt(store: Arc<dyn Store>) -> Checked {
    let agent = new_agent();
    let (carrier, later) = (session(&store, agent).await?, session(&store, agent).await?);
    let other = session(&store, new_agent()).await?;
    let carried = sent(&store, carrier).await?;
    let ended = sent(&store, carrier).await?;
    report(&store, carrier, says(&ended, 1, Phase::Rejected)).await?;
    let active = sent(&store, carrier).await?;
    report(&store, carrier, says(&active, 1, Phase::Started)).await?;
    let untouched = [
        ended.id,
        sent(&store, later).await?.id,
        sent(&store, other).await?.id,
        committed(&store).await?.id,
    ];
    let marked = store.mark_in_doubt(agent, carrier.epoch).await?;
    let mut ids: Vec<_> = marked.iter().map(|order| order.dispatch.id).collect();
    ids.sort_unstable();
    let mut wanted = vec![carried.id, active.id];
    wanted.sort_unstable();
    same("orders newly in doubt", &ids, &wanted)?;
    for id in wanted {
        ensure!(
            stored(&store, id).await?.in_doubt,
            "an order that was carried is not in doubt"
        );
    }
    for id in untouched {
        ensure!(
            !stored(&store, id).await?.in_doubt,
            "an order is in doubt without reason"
        );
    }
    let marked = store.mark_in_doubt(agent, carrier.epoch).await?;
    same("orders in doubt for the second time", &marked.len(), &0)?;
    // The next report takes the doubt away, and so does an end.
    report(&store, later, says(&active, 2, Phase::Completed)).await?;
    report(&store, later, says(&carried, 3, Phase::Received)).await?;
    for id in [active.id, carried.id] {
        ensure!(
            !stored(&store, id).await?.in_doubt,
            "an order is in doubt after a report"
        );
    }
    Ok(())
}

async fn dropped(store: Arc<dyn Store>) -> Checked {
    let agent = new_agent();
    let (carrier, later) = (session(&store, agent).await?, session(&store, agent).await?);
    let other = session(&store, new_agent()).await?;
    let silent = sent(&store, carrier).await?;
    let active = sent(&store, carrier).await?;
    report(&store, carrier, says(&active, 1, Phase::Started)).await?;
    let ended = sent(&store, carrier).await?;
    report(&store, carrier, says(&ended, 2, Phase::Failed)).await?;
    let handed_on = sent(&store, later).await?;
    let of_another = sent(&store, other).await?;
    let waiting = committed(&store).await?;
    let kept = sent(&store, carrier).await?;
    let gone = [&silent, &active, &ended, &handed_on, &of_another, &waiting];
    let gone: Vec<_> = gone.iter().filter_map(|order| order.asset_id).collect();
    let marked = store.mark_dropped(agent, carrier.epoch, &gone).await?;
    let mut ids: Vec<_> = marked.iter().map(|order| order.dispatch.id).collect();
    ids.sort_unstable();
    let mut wanted = vec![silent.id, active.id];
    wanted.sort_unstable();
    same("orders newly in doubt", &ids, &wanted)?;
    for id in wanted {
        ensure!(
            stored(&store, id).await?.in_doubt,
            "an order of a dropped asset is not in doubt"
        );
    }
    for id in [ended.id, handed_on.id, of_another.id, waiting.id, kept.id] {
        ensure!(
            !stored(&store, id).await?.in_doubt,
            "an order is in doubt without reason"
        );
    }
    let marked = store.mark_dropped(agent, carrier.epoch, &gone).await?;
    same("orders in doubt for the second time", &marked.len(), &0)?;
    report(&store, carrier, says(&active, 3, Phase::Failed)).await?;
    report(&store, carrier, says(&silent, 4, Phase::Received)).await?;
    for id in [active.id, silent.id] {
        ensure!(
            !stored(&store, id).await?.in_doubt,
            "an order is in doubt after a report"
        );
    }
    Ok(())
}

async fn doubt_at_once(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    store.mark_in_doubt(carrier.agent, carrier.epoch).await?;
    let order = sent(&store, carrier).await?;
    ensure!(order.in_doubt, "the order in the answer is not in doubt");
    ensure!(
        stored(&store, order.id).await?.in_doubt,
        "the order in store is not in doubt"
    );
    let later = session(&store, carrier.agent).await?;
    let order = send(&store, order.id, later).await?;
    ensure!(
        order.is_some_and(|order| !order.dispatch.in_doubt),
        "an order that a live session carries is in doubt"
    );
    Ok(())
}

/// An order that the first session carried and the second has told of, before the first one's end
/// is recorded.
async fn told_later(
    store: &Arc<dyn Store>,
) -> Result<(derms_proto::Dispatch, Carrier, Carrier), Broken> {
    let agent = new_agent();
    let first = session(store, agent).await?;
    let order = sent(store, first).await?;
    let second = session(store, agent).await?;
    report(store, second, says(&order, 1, Phase::Started)).await?;
    Ok((order, first, second))
}

async fn no_late_doubt(store: Arc<dyn Store>) -> Checked {
    let (order, first, second) = told_later(&store).await?;
    let marked = store.mark_in_doubt(first.agent, first.epoch).await?;
    same("orders newly in doubt", &marked.len(), &0)?;
    ensure!(
        !stored(&store, order.id).await?.in_doubt,
        "the order is in doubt"
    );
    let marked = store.mark_in_doubt(second.agent, second.epoch).await?;
    same(
        "orders in doubt when the later session ends",
        &marked.len(),
        &1,
    )?;
    let marked = store.mark_in_doubt(first.agent, first.epoch).await?;
    same(
        "orders in doubt when the first is ended again",
        &marked.len(),
        &0,
    )?;
    ensure!(
        stored(&store, order.id).await?.in_doubt,
        "the doubt is gone"
    );
    Ok(())
}

async fn doubt_remains(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let order = sent(&store, carrier).await?;
    store.mark_in_doubt(carrier.agent, carrier.epoch).await?;
    // It was read before the session ended, and comes out of a queue after.
    report(&store, carrier, says(&order, 1, Phase::Started)).await?;
    let order = stored(&store, order.id).await?;
    same(
        "the order",
        &(order.status, order.in_doubt),
        &(S::Active, true),
    )
}

async fn confirm(store: Arc<dyn Store>) -> Checked {
    let agent = new_agent();
    let first = session(&store, agent).await?;
    let (order, silent) = (sent(&store, first).await?, sent(&store, first).await?);
    let asset = order.asset_id.unwrap_or_else(new_asset);
    store.mark_in_doubt(agent, first.epoch).await?;
    let second = session(&store, agent).await?;
    let foreign = session(&store, new_agent()).await?;
    let said = [(asset, order.id)];
    let confirmed = store.confirm(foreign.agent, foreign.epoch, &said).await?;
    same("confirmed by another agent", &confirmed.len(), &0)?;
    let elsewhere = [(new_asset(), order.id)];
    let confirmed = store.confirm(agent, second.epoch, &elsewhere).await?;
    same("confirmed for another asset", &confirmed.len(), &0)?;
    let confirmed = store.confirm(agent, second.epoch, &said).await?;
    let confirmed: Vec<_> = confirmed
        .iter()
        .map(|o| (o.dispatch.id, o.dispatch.status, o.dispatch.in_doubt))
        .collect();
    same("confirmed", &confirmed, &vec![(order.id, S::Sent, false)])?;
    ensure!(
        !stored(&store, order.id).await?.in_doubt,
        "a confirmed order is in doubt"
    );
    ensure!(
        stored(&store, silent.id).await?.in_doubt,
        "the doubt of another order is gone"
    );
    let marked = store.mark_in_doubt(agent, second.epoch).await?;
    same("orders in doubt when that session ends", &marked.len(), &1)
}
