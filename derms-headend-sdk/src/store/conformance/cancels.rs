//! Orders whose end an operator asks for.

use std::sync::Arc;

use derms_proto::link::{Report, SetpointPhase as Phase};
use derms_proto::{DispatchId, DispatchStatus as S, ReasonCode};

use super::super::{Cancel, Order, ReportFate, Store};
use super::Broken;
use super::kit::*;

sentences! {
    "a cancel ends what was never sent, for good" => never_sent,
    "a cancel of what was sent takes the next revision and moves nothing on" => sent_goes_on,
    "who asked first for an end is kept, and a second cancel changes nothing" => asked_once,
    "what waits moves above the release of an older order" => waiting_moves_up,
    "there is no release as long as a newer order that was sent has not ended" => newer_sent,
    "a release that is of no use any more is given anew, above the one that was" => given_anew,
    "a cancel of a site order is one of each share that has not ended" => site_orders,
    "a cancel of what has ended or is not known changes nothing" => ended,
    "a cancel that was sent before it could be stored is noted though the order has ended" => noted_late,
    "a release that is refused as stale says nothing of its order" => refusals,
}

fn cancel_of(id: DispatchId, principal: &str) -> Cancel {
    Cancel {
        id,
        at: at(50),
        principal: Some(principal.to_owned()),
        above: 0,
    }
}

/// The only order that a cancel changed.
async fn cancel(store: &Arc<dyn Store>, id: DispatchId) -> Result<Order, Broken> {
    let mut changed = store.cancel(&[cancel_of(id, "ann")]).await?;
    same("orders that the cancel changed", &changed.len(), &1)?;
    let order = changed.remove(0);
    same("the order that changed", &order.dispatch.id, &id)?;
    same(
        "the answer and what is stored",
        &order.dispatch,
        &stored(store, id).await?,
    )?;
    Ok(order)
}

async fn never_sent(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let order = committed(&store).await?;
    let cancelled = cancel(&store, order.id).await?;
    same("its release", &cancelled.release, &None)?;
    let dispatch = cancelled.dispatch;
    same(
        "its status and reason",
        &(dispatch.status, dispatch.reason),
        &(S::Cancelled, Some(ReasonCode::CancelledByOperator)),
    )?;
    same(
        "who asked for it, and when",
        &(
            dispatch.cancelled_by.as_deref(),
            dispatch.cancel_requested_at,
        ),
        &(Some("ann"), Some(at(50))),
    )?;
    same(
        "an attempt to send it",
        &send(&store, order.id, carrier).await?,
        &None,
    )?;
    let assets = order.asset_id.into_iter().collect::<Vec<_>>();
    same("the revision", &store.revisions(&assets).await?, &vec![1])?;
    same(
        "open orders",
        &store.open_orders(Some(&assets)).await?.len(),
        &0,
    )
}

async fn sent_goes_on(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let log = derms_proto::LogId::generate();
    for (seq, phases, status) in [
        (1, &[][..], S::Sent),
        (1, &[Phase::Received][..], S::Received),
        (2, &[Phase::Started][..], S::Active),
    ] {
        let order = sent(&store, carrier).await?;
        for phase in phases {
            let part = reports(carrier, log, vec![says(&order, seq, *phase)]);
            store.append_reports(&[part]).await?;
        }
        let before = stored(&store, order.id).await?;
        let now = cancel(&store, order.id).await?;
        same("its release", &now.release, &Some(2))?;
        same("its status", &now.dispatch.status, &status)?;
        same("its steps", &now.dispatch.transitions, &before.transitions)?;
        let assets = order.asset_id.into_iter().collect::<Vec<_>>();
        same("the revision", &store.revisions(&assets).await?, &vec![2])?;
        let open = store.open_orders(Some(&assets)).await?;
        same("the open order", &open, &vec![now])?;
        // Its agent has the last word.
        let fate = report(&store, carrier, says(&order, 1, Phase::Released)).await?;
        ensure!(
            matches!(&fate, ReportFate::Applied(now) if now.dispatch.status == S::Cancelled),
            "a release that was carried out was answered {fate:?}"
        );
        let (next, _) = commit(
            &store,
            &new_order(order.asset_id.unwrap_or_else(new_asset), new_site(), 9),
        )
        .await?;
        same("the next revision", &next.revision, &Some(3))?;
    }
    Ok(())
}

async fn asked_once(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let order = sent(&store, carrier).await?;
    let first = cancel(&store, order.id).await?;
    let again = Cancel {
        at: at(60),
        ..cancel_of(order.id, "bob")
    };
    same("a second cancel", &store.cancel(&[again]).await?, &vec![])?;
    let assets = order.asset_id.into_iter().collect::<Vec<_>>();
    let open = store.open_orders(Some(&assets)).await?;
    same("the order", &open, &vec![first])?;
    same("the revision", &store.revisions(&assets).await?, &vec![2])?;
    // At the same time, too.
    let order = sent(&store, carrier).await?;
    let answers = at_once((0..8).map(|_| {
        let store = Arc::clone(&store);
        let cancel = cancel_of(order.id, "ann");
        async move { store.cancel(&[cancel]).await }
    }))
    .await?;
    let changes = answers.iter().flatten().count();
    same("changes by 8 cancels at the same time", &changes, &1)
}

async fn waiting_moves_up(store: Arc<dyn Store>) -> Checked {
    let (asset, site) = (new_asset(), new_site());
    let carrier = session(&store, new_agent()).await?;
    let (old, _) = commit(&store, &new_order(asset, site, 0)).await?;
    send(&store, old.id, carrier).await?;
    let (waiting, _) = commit(&store, &new_order(asset, site, 1)).await?;
    let cancelled = cancel(&store, old.id).await?;
    let waits = stored(&store, waiting.id).await?;
    same("what waits", &waits.status, &S::Pending)?;
    ensure!(
        cancelled.release > old.revision && waits.revision > cancelled.release,
        "the order {:?}, its release {:?} and what waits {:?} are not in order",
        old.revision,
        cancelled.release,
        waits.revision
    );
    let counter = store.revisions(&[asset]).await?;
    same("the revision", &counter.first().copied(), &waits.revision)
}

async fn newer_sent(store: Arc<dyn Store>) -> Checked {
    let (asset, site) = (new_asset(), new_site());
    let carrier = session(&store, new_agent()).await?;
    let (old, _) = commit(&store, &new_order(asset, site, 0)).await?;
    send(&store, old.id, carrier).await?;
    let (newer, _) = commit(&store, &new_order(asset, site, 1)).await?;
    send(&store, newer.id, carrier).await?;
    // What another agent was sent is in nobody's way.
    let (elsewhere, _) = commit(&store, &new_order(new_asset(), site, 2)).await?;
    let other = session(&store, new_agent()).await?;
    send(&store, elsewhere.id, carrier).await?;
    let again = new_order(elsewhere.asset_id.unwrap_or_else(new_asset), site, 3);
    let (at_other, _) = commit(&store, &again).await?;
    send(&store, at_other.id, other).await?;
    let given = cancel(&store, elsewhere.id).await?;
    same(
        "the release beside an order of another agent",
        &given.release,
        &Some(3),
    )?;
    let held = cancel(&store, old.id).await?;
    same(
        "a release that would end the newer order",
        &held.release,
        &None,
    )?;
    same("the revision", &store.revisions(&[asset]).await?, &vec![2])?;
    report(&store, carrier, says(&newer, 1, Phase::Rejected)).await?;
    let now = cancel(&store, old.id).await?;
    same(
        "the release when the newer has ended",
        &now.release,
        &Some(3),
    )?;
    same(
        "when it was asked for",
        &now.dispatch.cancel_requested_at,
        &Some(at(50)),
    )
}

async fn given_anew(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let order = sent(&store, carrier).await?;
    cancel(&store, order.id).await?;
    for (above, wanted) in [(1, 2), (2, 3), (9, 10)] {
        let again = Cancel {
            above,
            ..cancel_of(order.id, "ann")
        };
        store.cancel(&[again]).await?;
        let assets = order.asset_id.into_iter().collect::<Vec<_>>();
        let open = store.open_orders(Some(&assets)).await?;
        let release = open.first().and_then(|order| order.release);
        same("the release", &release, &Some(wanted))?;
        same(
            "the revision",
            &store.revisions(&assets).await?,
            &vec![wanted],
        )?;
    }
    Ok(())
}

async fn site_orders(store: Arc<dyn Store>) -> Checked {
    let (assets, site) = ([new_asset(), new_asset(), new_asset()], new_site());
    let carrier = session(&store, new_agent()).await?;
    let (parent, _) = commit(&store, &site_order(site, &assets, 0)).await?;
    let [waiting, sent, ended] = [0, 1, 2].map(|n| parent.children[n].id);
    send(&store, sent, carrier).await?;
    advance(&store, step(ended, S::Expired)).await?;
    let mut changed: Vec<_> = store
        .cancel(&[cancel_of(parent.id, "ann")])
        .await?
        .iter()
        .map(|order| (order.dispatch.id, order.dispatch.status, order.release))
        .collect();
    changed.sort_unstable();
    let mut wanted = vec![(waiting, S::Cancelled, None), (sent, S::Sent, Some(2))];
    wanted.sort_unstable();
    same("shares that changed", &changed, &wanted)?;
    let now = stored(&store, parent.id).await?;
    same(
        "the site order",
        &(
            now.status,
            now.cancelled_by.as_deref(),
            now.cancel_requested_at,
        ),
        &(S::Sent, Some("ann"), Some(at(50))),
    )?;
    same(
        "the share that had ended",
        &now.children.get(2).map(|share| share.cancel_requested_at),
        &Some(None),
    )?;
    report(
        &store,
        carrier,
        says(&parent.children[1], 1, Phase::Released),
    )
    .await?;
    let over = stored(&store, parent.id).await?;
    same("its status in the end", &over.status, &S::Expired)?;
    let again = Cancel {
        at: at(60),
        ..cancel_of(parent.id, "bob")
    };
    same(
        "a cancel of what is over",
        &store.cancel(&[again]).await?,
        &vec![],
    )?;
    same("the site order", &stored(&store, parent.id).await?, &over)
}

async fn ended(store: Arc<dyn Store>) -> Checked {
    let order = committed(&store).await?;
    advance(&store, step(order.id, S::Expired)).await?;
    let before = stored(&store, order.id).await?;
    let cancels = [
        cancel_of(order.id, "ann"),
        cancel_of(DispatchId::generate(), "ann"),
    ];
    same(
        "orders that changed",
        &store.cancel(&cancels).await?,
        &vec![],
    )?;
    same("the order", &stored(&store, order.id).await?, &before)
}

async fn noted_late(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let order = sent(&store, carrier).await?;
    report(&store, carrier, says(&order, 1, Phase::Released)).await?;
    let late = Cancel {
        above: 1,
        ..cancel_of(order.id, "ann")
    };
    store.cancel(&[late]).await?;
    let now = stored(&store, order.id).await?;
    same(
        "its status, and who asked",
        &(now.status, now.cancelled_by.as_deref()),
        &(S::Cancelled, Some("ann")),
    )
}

async fn refusals(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let order = sent(&store, carrier).await?;
    let cancelled = cancel(&store, order.id).await?;
    let mut refusal = says(&order, 1, Phase::Superseded);
    if let Report::Setpoint(told) = &mut refusal.entry.report {
        told.reason = Some(ReasonCode::StaleRevision);
        told.revision = 2;
    }
    let fate = report(&store, carrier, refusal).await?;
    ensure!(
        matches!(fate, ReportFate::ReleaseRefused { revision: 2, .. }),
        "a refusal of the release was answered {fate:?}"
    );
    same(
        "the order",
        &stored(&store, order.id).await?,
        &cancelled.dispatch,
    )
}
