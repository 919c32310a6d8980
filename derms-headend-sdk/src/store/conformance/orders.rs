//! Orders: committed, superseded, moved on by the headend.

use std::sync::Arc;

use derms_proto::{Actor, DispatchId, DispatchStatus as S, FollowUp, ReasonCode};

use super::super::{Commit, DispatchQuery, Idempotency, Order, Store};
use super::Broken;
use super::kit::*;

sentences! {
    "revisions of an asset strictly increase" => revisions_increase,
    "orders that are committed at the same time get different revisions" => revisions_differ,
    "a counter never goes back" => counters_rise,
    "a new order supersedes what is pending, and nothing that was sent" => pending_superseded,
    "an order that waits steps back only for what is in force when it would begin" => later_kept,
    "the same key and order are `Repeated`, another order is a `Conflict`" => keys,
    "orders with one key at the same time are one dispatch" => keys_at_the_same_time,
    "an order that comes again is `Repeated`" => repeated_by_id,
    "a site order is its children" => site_orders,
    "an order moves on as its life cycle allows, else not at all" => life_cycle,
    "the headend never expires what was sent" => sent_never_expires,
    "an order is sent again by a later session alone" => sent_again,
    "open orders are those that have not ended, newest revision first" => open_orders,
}

async fn revisions_increase(store: Arc<dyn Store>) -> Checked {
    let (asset, other, site) = (new_asset(), new_asset(), new_site());
    for wanted in 1..=3 {
        let (order, _) = commit(&store, &new_order(asset, site, wanted)).await?;
        same("the revision of the answer", &order.revision, &Some(wanted))?;
        same(
            "the revision in store",
            &stored(&store, order.id).await?,
            &order,
        )?;
        let steps: Vec<_> = order
            .transitions
            .iter()
            .map(|step| (step.status, step.at))
            .collect();
        same("its steps", &steps, &vec![(S::Pending, at(wanted))])?;
    }
    let (order, _) = commit(&store, &new_order(other, site, 0)).await?;
    same(
        "the first revision of another asset",
        &order.revision,
        &Some(1),
    )?;
    let revisions = store.revisions(&[other, new_asset(), asset]).await?;
    same("revisions", &revisions, &vec![1, 0, 3])
}

async fn revisions_differ(store: Arc<dyn Store>) -> Checked {
    let (assets, site) = ([new_asset(), new_asset()], new_site());
    let commits = at_once((0..32).map(|n| {
        let store = Arc::clone(&store);
        // Two calls that take both assets must not wait for each other.
        let order = site_order(site, &assets, n);
        async move { store.commit(&order).await }
    }))
    .await?;
    let mut revisions = Vec::new();
    for commit in commits {
        let Commit::New { dispatch, .. } = commit else {
            return Err(Broken::Otherwise(format!(
                "a new order was answered {commit:?}"
            )));
        };
        revisions.extend(
            dispatch
                .children
                .iter()
                .map(|child| (child.asset_id, child.revision)),
        );
    }
    revisions.sort_unstable();
    revisions.dedup();
    same(
        "different revisions of 32 orders for two assets",
        &revisions.len(),
        &64,
    )?;
    same(
        "the last revisions",
        &store.revisions(&assets).await?,
        &vec![32, 32],
    )?;
    let open = store.open_orders(Some(&assets)).await?;
    same("orders that wait, of two assets", &open.len(), &2)
}

async fn counters_rise(store: Arc<dyn Store>) -> Checked {
    let (asset, site) = (new_asset(), new_site());
    store.raise_revision(asset, 40).await?;
    store.raise_revision(asset, 7).await?;
    same("the counter", &store.revisions(&[asset]).await?, &vec![40])?;
    let (order, _) = commit(&store, &new_order(asset, site, 0)).await?;
    same("the next revision", &order.revision, &Some(41))?;
    // Nobody has seen the number of an order that waits, so it moves along, once.
    for _ in 0..2 {
        store.raise_revision(asset, 41).await?;
        let waits = store.dispatch(order.id).await?.and_then(|d| d.revision);
        same("the revision of the order that waits", &waits, &Some(42))?;
    }
    let (next, _) = commit(&store, &new_order(asset, site, 1)).await?;
    same("the one after", &next.revision, &Some(43))?;
    // What was sent keeps its number: its agent knows it by that.
    let carrier = session(&store, new_agent()).await?;
    ensure!(
        send(&store, next.id, carrier).await?.is_some(),
        "a pending order can't be sent"
    );
    store.raise_revision(asset, 60).await?;
    let sent = store.dispatch(next.id).await?.and_then(|d| d.revision);
    same("the revision of the order that was sent", &sent, &Some(43))
}

async fn later_kept(store: Arc<dyn Store>) -> Checked {
    let (asset, site) = (new_asset(), new_site());
    let order = |created_s: u64, start_s: Option<u64>, lease: Option<f64>| {
        let mut order = new_order(asset, site, created_s);
        order.dispatch.start_at = start_s.map(at);
        order.dispatch.duration_s = lease;
        order.dispatch.ramp_mw_per_min = Some(12.5);
        order.dispatch.follow_up = FollowUp::Hold;
        order
    };
    // Each with the ones before it that step back, by their place in this list.
    let orders = [
        (order(0, None, Some(10.0)), vec![]),
        (order(1, Some(500), None), vec![]),
        // It ends when the one before would begin.
        (order(2, Some(100), Some(400.0)), vec![]),
        // In force when the one before would begin.
        (order(3, Some(99), Some(2.0)), vec![2]),
        (order(4, None, Some(450.0)), vec![0, 3]),
        (order(5, None, None), vec![1, 4]),
    ];
    let mut committed = Vec::new();
    for (order, steps_back) in &orders {
        let (dispatch, superseded) = commit(&store, order).await?;
        same(
            "an order for later",
            &stored(&store, dispatch.id).await?,
            &dispatch,
        )?;
        let kept = (
            dispatch.start_at,
            dispatch.ramp_mw_per_min,
            dispatch.follow_up,
        );
        let given = (order.dispatch.start_at, Some(12.5), FollowUp::Hold);
        same("how it begins and ends", &kept, &given)?;
        committed.push(dispatch.id);
        let mut found: Vec<DispatchId> = superseded.iter().map(|order| order.id).collect();
        let mut wanted: Vec<DispatchId> = steps_back.iter().map(|n| committed[*n]).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        same("what stepped back", &found, &wanted)?;
    }
    let open = store.open_orders(Some(&[asset])).await?;
    same("orders that wait", &open.len(), &1)
}

async fn pending_superseded(store: Arc<dyn Store>) -> Checked {
    let (asset, site) = (new_asset(), new_site());
    let carrier = session(&store, new_agent()).await?;
    let (sent, _) = commit(&store, &new_order(asset, site, 0)).await?;
    ensure!(
        send(&store, sent.id, carrier).await?.is_some(),
        "a pending order can't be sent"
    );
    let (other, _) = commit(&store, &new_order(new_asset(), site, 1)).await?;
    let (old, superseded) = commit(&store, &new_order(asset, site, 2)).await?;
    same("superseded by the second order", &superseded.len(), &0)?;
    let (new, superseded) = commit(&store, &new_order(asset, site, 3)).await?;
    let superseded: Vec<_> = superseded
        .iter()
        .map(|d| (d.id, d.status, d.reason))
        .collect();
    let wanted = (old.id, S::Superseded, Some(ReasonCode::NewerOrder));
    same("superseded by the third order", &superseded, &vec![wanted])?;
    for (id, wanted) in [
        (sent.id, S::Sent),
        (other.id, S::Pending),
        (old.id, S::Superseded),
        (new.id, S::Pending),
    ] {
        same(
            "an order's status",
            &stored(&store, id).await?.status,
            &wanted,
        )?;
    }
    ensure!(
        send(&store, old.id, carrier).await?.is_none(),
        "a superseded order was sent"
    );
    Ok(())
}

async fn keys(store: Arc<dyn Store>) -> Checked {
    let (asset, site) = (new_asset(), new_site());
    let order = keyed(new_order(asset, site, 0), "k", "5 MW");
    let again = keyed(new_order(asset, site, 1), "k", "5 MW");
    let other = keyed(new_order(asset, site, 2), "k", "6 MW");
    let key = |fingerprint: &str| Idempotency {
        key: "k".to_owned(),
        fingerprint: fingerprint.to_owned(),
    };
    same("a free key", &store.committed(&key("5 MW")).await?, &None)?;
    let (first, _) = commit(&store, &order).await?;
    let repeated = Commit::Repeated(Box::new(first.clone()));
    same(
        "the same key and order",
        &store.commit(&again).await?,
        &repeated,
    )?;
    same(
        "the same key, looked up",
        &store.committed(&key("5 MW")).await?,
        &Some(repeated),
    )?;
    same(
        "the same key, another order",
        &store.commit(&other).await?,
        &Commit::Conflict,
    )?;
    let found = store.committed(&key("6 MW")).await?;
    same("the same, looked up", &found, &Some(Commit::Conflict))?;
    same("the revision", &store.revisions(&[asset]).await?, &vec![1])?;
    let all = store.dispatches(&DispatchQuery::default()).await?.items;
    same("all orders", &all, &vec![first.clone()])?;
    // The key lives on when its order has ended.
    advance(&store, step(first.id, S::Cancelled)).await?;
    let Commit::Repeated(ended) = store.commit(&again).await? else {
        return Err(Broken::Otherwise(
            "the key of an order that ended is free".to_owned(),
        ));
    };
    same(
        "the order as it stands",
        &(ended.id, ended.status),
        &(first.id, S::Cancelled),
    )?;
    commit(&store, &keyed(new_order(asset, site, 3), "K", "5 MW")).await?;
    Ok(())
}

async fn keys_at_the_same_time(store: Arc<dyn Store>) -> Checked {
    let (asset, site) = (new_asset(), new_site());
    let commits = at_once((0..16).map(|n| {
        let store = Arc::clone(&store);
        let order = keyed(new_order(asset, site, n), "k", "5 MW");
        async move { store.commit(&order).await }
    }))
    .await?;
    let mut ids: Vec<DispatchId> = Vec::new();
    for commit in &commits {
        match commit {
            Commit::New { dispatch, .. } | Commit::Repeated(dispatch) => ids.push(dispatch.id),
            Commit::Conflict => {
                let text = "the same order with the same key is a conflict";
                return Err(Broken::Otherwise(text.to_owned()));
            }
        }
    }
    ids.sort_unstable();
    ids.dedup();
    let new = commits
        .iter()
        .filter(|commit| matches!(commit, Commit::New { .. }))
        .count();
    same(
        "dispatches of one key, and new ones",
        &(ids.len(), new),
        &(1, 1),
    )?;
    let all = store
        .dispatches(&DispatchQuery::default())
        .await?
        .items
        .len();
    same(
        "all orders, and the revision",
        &(all, store.revisions(&[asset]).await?),
        &(1, vec![1]),
    )
}

async fn repeated_by_id(store: Arc<dyn Store>) -> Checked {
    let (asset, site) = (new_asset(), new_site());
    for order in [
        new_order(asset, site, 0),
        site_order(site, &[asset, new_asset()], 1),
    ] {
        let (first, _) = commit(&store, &order).await?;
        let again = store.commit(&order).await?;
        same(
            "the same order again",
            &again,
            &Commit::Repeated(Box::new(first)),
        )?;
    }
    same("the revision", &store.revisions(&[asset]).await?, &vec![2])
}

async fn site_orders(store: Arc<dyn Store>) -> Checked {
    let (assets, site) = ([new_asset(), new_asset()], new_site());
    let carrier = session(&store, new_agent()).await?;
    let order = site_order(site, &assets, 0);
    let (parent, _) = commit(&store, &order).await?;
    same("the parent's revision", &parent.revision, &None)?;
    same(
        "the parent in store",
        &stored(&store, parent.id).await?,
        &parent,
    )?;
    let shares: Vec<_> = parent
        .children
        .iter()
        .map(|c| (c.parent_id, c.revision))
        .collect();
    same("the shares", &shares, &vec![(Some(parent.id), Some(1)); 2])?;
    let [first, second] = [parent.children[0].id, parent.children[1].id];
    same(
        "a share alone",
        &stored(&store, first).await?,
        &parent.children[0],
    )?;
    let status = async || -> Result<(S, bool), Broken> {
        let parent = stored(&store, parent.id).await?;
        Ok((parent.status, parent.in_doubt))
    };
    send(&store, first, carrier).await?;
    same(
        "with one share sent",
        &status().await?,
        &(S::Pending, false),
    )?;
    send(&store, second, carrier).await?;
    same("with both sent", &status().await?, &(S::Sent, false))?;
    store.mark_in_doubt(carrier.agent, carrier.epoch).await?;
    same("with both in doubt", &status().await?, &(S::Sent, true))?;
    advance(&store, step(first, S::Failed)).await?;
    same("with one failed", &status().await?, &(S::Sent, true))?;
    advance(&store, step(second, S::Indeterminate)).await?;
    same("with both ended", &status().await?, &(S::Failed, false))?;
    let moved = advance(&store, step(parent.id, S::Cancelled)).await?;
    same("a step of the parent itself", &moved, &None)
}

async fn life_cycle(store: Arc<dyn Store>) -> Checked {
    same(
        "an unknown order",
        &advance(&store, step(DispatchId::generate(), S::Failed)).await?,
        &None,
    )?;
    for next in S::ALL.into_iter().filter(|next| *next != S::Sent) {
        let carrier = session(&store, new_agent()).await?;
        let (pending, sent) = (committed(&store).await?, sent(&store, carrier).await?);
        for order in [pending, sent] {
            let allowed = order.status.may_become(next, Actor::Headend);
            let mut step = step(order.id, next);
            step.reason = Some(ReasonCode::NoReport);
            step.text = Some("because".to_owned());
            let moved = advance(&store, step.clone()).await?;
            let name = format!("{:?} to {next:?}", order.status);
            same(&name, &moved.is_some(), &allowed)?;
            let now = stored(&store, order.id).await?;
            let Some(Order { dispatch, .. }) = moved else {
                same(&name, &now, &order)?;
                continue;
            };
            same(&name, &dispatch, &now)?;
            let last = now
                .transitions
                .last()
                .map(|t| (t.status, t.at, t.reason, t.text.clone()));
            let wanted = (step.status, step.at, step.reason, step.text.clone());
            same(&name, &last, &Some(wanted))?;
            let found = (
                now.status,
                now.reason,
                now.text.clone(),
                now.transitions.len(),
            );
            let steps = order.transitions.len() + 1;
            same(&name, &found, &(next, step.reason, step.text, steps))?;
            let again = advance(&store, self::step(order.id, next)).await?;
            same("a step of an order that has ended", &again, &None)?;
        }
    }
    // Many in one call, each for itself.
    let (first, second) = (committed(&store).await?, committed(&store).await?);
    let steps = [
        step(first.id, S::Cancelled),
        step(first.id, S::Expired),
        step(DispatchId::generate(), S::Cancelled),
        step(second.id, S::Expired),
    ];
    let moved = store.advance(&steps).await?;
    let moved: Vec<_> = moved
        .iter()
        .map(|o| o.as_ref().map(|o| (o.dispatch.id, o.dispatch.status)))
        .collect();
    let wanted = vec![
        Some((first.id, S::Cancelled)),
        None,
        None,
        Some((second.id, S::Expired)),
    ];
    same("four steps", &moved, &wanted)
}

async fn sent_never_expires(store: Arc<dyn Store>) -> Checked {
    let carrier = session(&store, new_agent()).await?;
    let order = sent(&store, carrier).await?;
    same(
        "its expiry",
        &advance(&store, step(order.id, S::Expired)).await?,
        &None,
    )?;
    same(
        "its status",
        &stored(&store, order.id).await?.status,
        &S::Sent,
    )
}

async fn sent_again(store: Arc<dyn Store>) -> Checked {
    let agent = new_agent();
    let (first, second) = (session(&store, agent).await?, session(&store, agent).await?);
    let order = committed(&store).await?;
    same(
        "without a session",
        &advance(&store, step(order.id, S::Sent)).await?,
        &None,
    )?;
    let attempts = at_once((0..8).map(|_| {
        let store = Arc::clone(&store);
        let mut step = step(order.id, S::Sent);
        step.carrier = Some(first);
        async move { store.advance(&[step]).await }
    }))
    .await?;
    let through = attempts
        .iter()
        .flatten()
        .filter(|order| order.is_some())
        .count();
    same("attempts of one session that went through", &through, &1)?;
    let again = send(&store, order.id, second).await?;
    let again = again.map(|order| (order.dispatch.revision, order.carrier));
    same(
        "sent by a later session",
        &again,
        &Some((Some(1), Some(second))),
    )?;
    same(
        "sent by the older one",
        &send(&store, order.id, first).await?,
        &None,
    )?;
    let epochs: Vec<_> = stored(&store, order.id)
        .await?
        .transitions
        .iter()
        .map(|step| step.epoch)
        .collect();
    same(
        "its steps",
        &epochs,
        &vec![None, Some(first.epoch), Some(second.epoch)],
    )
}

async fn open_orders(store: Arc<dyn Store>) -> Checked {
    let (asset, other, site) = (new_asset(), new_asset(), new_site());
    let carrier = session(&store, new_agent()).await?;
    let (old, _) = commit(&store, &new_order(asset, site, 0)).await?;
    send(&store, old.id, carrier).await?;
    let (ended, _) = commit(&store, &new_order(asset, site, 1)).await?;
    advance(&store, step(ended.id, S::Cancelled)).await?;
    let (new, _) = commit(&store, &new_order(asset, site, 2)).await?;
    let (elsewhere, _) = commit(&store, &site_order(site, &[other], 3)).await?;
    let open = store.open_orders(Some(&[asset, new_asset()])).await?;
    let found: Vec<_> = open
        .iter()
        .map(|order| (order.dispatch.id, order.carrier))
        .collect();
    same(
        "open orders of one asset",
        &found,
        &vec![(new.id, None), (old.id, Some(carrier))],
    )?;
    let all = store.open_orders(None).await?;
    let mut found: Vec<_> = all.iter().map(|order| order.dispatch.id).collect();
    let mut wanted = vec![new.id, old.id, elsewhere.children[0].id];
    found.sort_unstable();
    wanted.sort_unstable();
    same("all open orders", &found, &wanted)?;
    same(
        "open orders of no asset",
        &store.open_orders(Some(&[])).await?.len(),
        &0,
    )
}
