//! Cancels.

use derms_proto::DispatchId;

use super::super::{Cancel, Order};
use super::orders::OrderTables;

impl OrderTables {
    pub(super) fn cancel(&mut self, cancels: &[Cancel]) -> Vec<Order> {
        let mut changed = Vec::new();
        for cancel in cancels {
            let leaves = match self.parents.get(&cancel.id) {
                Some((_, children)) => children.clone(),
                None => vec![cancel.id],
            };
            let open = |id: &DispatchId| {
                let order = self.orders.get(id);
                order.is_some_and(|order| !order.dispatch.status.is_terminal())
            };
            if leaves.iter().any(open)
                && let Some((parent, _)) = self.parents.get_mut(&cancel.id)
                && parent.cancel_requested_at.is_none()
            {
                parent.cancel_requested_at = Some(cancel.at);
                parent.cancelled_by.clone_from(&cancel.principal);
            }
            changed.extend(
                leaves
                    .into_iter()
                    .filter_map(|id| self.cancel_one(id, cancel)),
            );
        }
        self.forget_oldest();
        changed
    }

    fn cancel_one(&mut self, id: DispatchId, cancel: &Cancel) -> Option<Order> {
        let order = self.orders.get(&id)?;
        let asset = order.dispatch.asset_id?;
        let open = self.open.get(&asset).into_iter().flatten();
        let mut others = open.filter_map(|other| self.orders.get(other));
        let passed = others.any(|other| other.has_passed(order));
        let before = self.revisions.get(&asset).copied().unwrap_or(0);
        let mut counter = before;
        let changed = self.change(id, |order, _| {
            order
                .cancel(cancel, passed, &mut counter)
                .then(|| order.clone())
        });
        if counter > before {
            self.raise_revision(asset, counter);
        }
        changed.flatten()
    }
}
