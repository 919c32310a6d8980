//! What an order would do, by the code that would do it.

use derms_proto::{AssetId, Dispatch, DispatchPreview, NewDispatch, PreviewOrder, PreviewShare};

use super::{DispatchError, Dispatcher, leaves};

impl Dispatcher {
    /// Checks and splits an order, and tells what giving it now would do. Nothing is stored or sent.
    pub(crate) async fn preview(
        &self,
        new: &NewDispatch,
    ) -> Result<DispatchPreview, DispatchError> {
        let now = self.clock.now();
        let dispatch = self.check(new, None, now)?;
        let assets: Vec<AssetId> = leaves(&dispatch).filter_map(|leaf| leaf.asset_id).collect();
        // Newest first.
        let open = self.store.open_orders(Some(&assets)).await?;
        let share = |leaf: &Dispatch| {
            let asset_id = leaf.asset_id?;
            let older = open
                .iter()
                .filter(|order| order.dispatch.asset_id == Some(asset_id));
            let superseded = older.filter_map(|older| {
                let older = &older.dispatch;
                let superseded_at = leaf.supersedes_at(older)?;
                Some(PreviewOrder {
                    id: older.id,
                    mw: older.mw,
                    status: older.status,
                    begins: Some(older.begins()),
                    ends: older.ends_by(),
                    superseded_at: Some(superseded_at),
                })
            });
            Some(PreviewShare {
                asset_id,
                mw: leaf.mw,
                online: self.registry.serving(asset_id).is_some(),
                supersedes: superseded.collect(),
            })
        };
        let assets = leaves(&dispatch).filter_map(share);
        Ok(DispatchPreview {
            assets: assets.collect(),
            asset_id: dispatch.asset_id,
            site_id: dispatch.site_id,
            mw: dispatch.mw,
            duration_s: dispatch.duration_s,
            ttl_s: dispatch.ttl_s,
            split: dispatch.split.clone(),
        })
    }
}
