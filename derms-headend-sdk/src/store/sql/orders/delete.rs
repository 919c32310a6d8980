//! Orders that are old enough to be forgotten.

use std::collections::BTreeSet;

use derms_proto::DispatchId;
use uuid::Uuid;

use super::super::connection::Connection;
use super::super::fault::Fault;
use super::super::statement::Statement;
use super::rows;

/// Deletes orders with their shares, steps and keys; gives how many orders and shares.
pub(in super::super) async fn delete<C: Connection>(
    connection: &mut C,
    roots: &BTreeSet<DispatchId>,
) -> Result<u64, Fault> {
    if roots.is_empty() {
        return Ok(0);
    }
    let roots: Vec<Uuid> = roots.iter().map(|root| root.uuid()).collect();
    let shares =
        Statement::new(C::DIALECT, "select id from dispatches where parent_id").one_of(&roots);
    let mut all: BTreeSet<Uuid> = roots.iter().copied().collect();
    all.extend(
        rows::ids(connection, shares)
            .await?
            .iter()
            .map(|id| id.uuid()),
    );
    let all: Vec<Uuid> = all.into_iter().collect();
    let mut deleted = 0;
    for ids in all.chunks(1_000) {
        for (table, column) in [
            ("idempotency_keys", "dispatch_id"),
            ("transitions", "dispatch_id"),
            ("dispatches", "id"),
        ] {
            let sql = format!("delete from {table} where {column}");
            let statement = Statement::new(C::DIALECT, &sql).one_of(ids);
            let rows = connection.run(statement).await?;
            if table == "dispatches" {
                deleted += rows;
            }
        }
    }
    Ok(deleted)
}
