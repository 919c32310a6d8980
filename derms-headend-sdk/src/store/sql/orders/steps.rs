//! Steps that the headend takes.

use super::super::super::{Advance, Order};
use super::super::connection::Connection;
use super::super::fault::Fault;
use super::held::Held;

pub(in super::super) async fn advance<C: Connection>(
    connection: &mut C,
    steps: &[Advance],
) -> Result<Vec<Option<Order>>, Fault> {
    let ids = steps.iter().map(|step| step.id).collect();
    let carriers = steps.iter().filter_map(|step| step.carrier);
    let agents = carriers.map(|carrier| carrier.agent).collect();
    let mut held = Held::take(connection, &ids, agents).await?;
    let mut moved = Vec::with_capacity(steps.len());
    for step in steps {
        let over = step.carrier.map(|carrier| held.ended(carrier.agent));
        let order = held.order(step.id).and_then(|(order, known)| {
            order
                .advance(step, over.unwrap_or(known))
                .then(|| order.clone())
        });
        moved.push(order);
    }
    held.save(connection).await?;
    Ok(moved)
}
