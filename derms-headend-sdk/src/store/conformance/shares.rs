//! Shares that are added to a site order.

use std::sync::Arc;

use derms_proto::link::SetpointPhase as Phase;
use derms_proto::{
    AssetId, Dispatch, DispatchStatus as S, Power, Resplit, SplitPolicy, SplitSummary,
};

use super::super::{AddedShares, Cancel, DispatchQuery, NewShares, Store};
use super::Broken;
use super::kit::*;

sentences! {
    "shares are added only to what nobody has touched since" => untouched,
    "a share that is added is committed as an order is" => committed_as_an_order,
    "a share whose place is taken does not count for its site order" => place_taken,
}

/// A site order for two assets, of which the first has failed and the second has a share in force.
struct Case {
    parent: Dispatch,
    assets: [AssetId; 2],
    carrier: super::super::Carrier,
}

impl Case {
    async fn new(store: &Arc<dyn Store>) -> Result<Self, Broken> {
        let mut assets = [new_asset(), new_asset()];
        assets.sort();
        let carrier = session(store, new_agent()).await?;
        let (parent, _) = commit(store, &site_order(new_site(), &assets, 0)).await?;
        for share in &parent.children {
            send(store, share.id, carrier).await?;
        }
        report(store, carrier, says(&parent.children[0], 1, Phase::Failed)).await?;
        report(store, carrier, says(&parent.children[1], 2, Phase::Started)).await?;
        Ok(Self {
            parent,
            assets,
            carrier,
        })
    }

    /// All of it for the second asset.
    fn shares(&self) -> NewShares {
        let [failed, old] = [0, 1].map(|n| &self.parent.children[n]);
        let mut share = new_order(self.assets[1], self.parent.site_id, 30).dispatch;
        share.parent_id = Some(self.parent.id);
        share.mw = Power::from_mw(3.0);
        let mut split = SplitSummary::new(SplitPolicy::Equal, Power::ZERO, Vec::new());
        split.resplits.push(Resplit {
            at: at(30),
            policy: SplitPolicy::Equal,
            version: 1,
            missing_mw: Power::from_mw(1.5),
            residual_mw: Power::ZERO,
            stands_in_for: vec![failed.id],
            shares: vec![share.id],
        });
        NewShares {
            parent: self.parent.id,
            split,
            seen: old.revision.into_iter().collect(),
            shares: vec![share],
            replaced: vec![failed.id],
        }
    }

    async fn add(&self, store: &Arc<dyn Store>, shares: &NewShares) -> Result<AddedShares, Broken> {
        let added = store.add_shares(shares).await?;
        added.ok_or_else(|| Broken::Otherwise("the shares were not added".to_owned()))
    }
}

async fn untouched(store: Arc<dyn Store>) -> Checked {
    let case = Case::new(&store).await?;
    let stranger = NewShares {
        parent: new_order(case.assets[0], new_site(), 0).dispatch.id,
        ..case.shares()
    };
    same(
        "shares of no order",
        &store.add_shares(&stranger).await?,
        &None,
    )?;
    // Somebody orders the asset meanwhile.
    let (meanwhile, _) =
        commit(&store, &new_order(case.assets[1], case.parent.site_id, 20)).await?;
    let before = stored(&store, case.parent.id).await?;
    same(
        "late shares",
        &store.add_shares(&case.shares()).await?,
        &None,
    )?;
    same(
        "the order that was given",
        &stored(&store, meanwhile.id).await?,
        &meanwhile,
    )?;
    same(
        "the site order",
        &stored(&store, case.parent.id).await?,
        &before,
    )?;
    let revisions = store.revisions(&case.assets).await?;
    same("the revisions", &revisions, &vec![1, 2])?;

    let case = Case::new(&store).await?;
    let cancel = Cancel {
        id: case.parent.id,
        at: at(25),
        principal: None,
        above: 0,
    };
    store.cancel(&[cancel]).await?;
    let mut shares = case.shares();
    shares.seen = store.revisions(&case.assets[1..]).await?;
    same(
        "shares of what is cancelled",
        &store.add_shares(&shares).await?,
        &None,
    )
}

async fn committed_as_an_order(store: Arc<dyn Store>) -> Checked {
    let case = Case::new(&store).await?;
    let new = case.shares();
    let added = case.add(&store, &new).await?;
    same("what it superseded", &added.superseded, &vec![])?;
    let [share] = &added.shares[..] else {
        return Err(Broken::Otherwise(format!("not one share: {added:?}")));
    };
    same(
        "its revision and status",
        &(share.revision, share.status, share.transitions.len()),
        &(Some(2), S::Pending, 1),
    )?;
    same(
        "the share as it is read",
        &stored(&store, share.id).await?,
        share,
    )?;
    let parent = stored(&store, case.parent.id).await?;
    let children: Vec<_> = parent.children.iter().map(|share| share.id).collect();
    let [failed, old] = [0, 1].map(|n| case.parent.children[n].id);
    same("the shares", &children, &vec![failed, old, share.id])?;
    same("the split", &parent.split, &Some(new.split.clone()))?;
    let open = store.open_orders(Some(&case.assets)).await?;
    let open: Vec<_> = open.iter().map(|order| order.dispatch.id).collect();
    same("open orders", &open, &vec![share.id, old])?;
    same("the same again", &store.add_shares(&new).await?, &None)?;
    // The split alone.
    let mut split = new;
    (split.shares, split.seen, split.replaced) = (Vec::new(), Vec::new(), vec![old]);
    split.split.residual_mw = Power::from_mw(0.5);
    store.add_shares(&split).await?;
    let parent = stored(&store, case.parent.id).await?;
    same("the split alone", &parent.split, &Some(split.split))?;
    let marks: Vec<_> = parent.children.iter().map(|s| s.replaced).collect();
    same("whose place is taken", &marks, &vec![false, true, false])
}

async fn place_taken(store: Arc<dyn Store>) -> Checked {
    let case = Case::new(&store).await?;
    let added = case.add(&store, &case.shares()).await?;
    let share = &added.shares[0];
    let marks = |parent: &Dispatch| -> Vec<bool> {
        parent.children.iter().map(|share| share.replaced).collect()
    };
    let now = stored(&store, case.parent.id).await?;
    same("who was replaced", &marks(&now), &vec![true, false, false])?;
    same("while it waits", &now.status, &S::Pending)?;
    send(&store, share.id, case.carrier).await?;
    report(
        &store,
        case.carrier,
        says(&case.parent.children[1], 3, Phase::Superseded),
    )
    .await?;
    report(&store, case.carrier, says(share, 4, Phase::Started)).await?;
    report(&store, case.carrier, says(share, 5, Phase::Completed)).await?;
    let now = stored(&store, case.parent.id).await?;
    same("in the end", &now.status, &S::Completed)?;
    for (status, wanted) in [(S::Completed, 1), (S::Failed, 0), (S::Superseded, 0)] {
        let query = DispatchQuery {
            site: Some(case.parent.site_id),
            status: Some(status),
            ..DispatchQuery::default()
        };
        let found = store.dispatches(&query).await?.items.len();
        same("site orders of this status", &found, &wanted)?;
    }
    Ok(())
}
