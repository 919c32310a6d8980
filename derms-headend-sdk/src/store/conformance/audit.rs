//! The audit trail.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::{AuditRecord, ProblemCode};

use super::super::{AuditQuery, HistoryQuery, Retention, Store};
use super::Broken;
use super::kit::*;

sentences! {
    "a record of the audit trail is read as it was given, and never changed" => kept,
    "the audit trail comes in pages, newest first, of a principal and of an action" => pages,
    "records of the audit trail are forgotten in their time" => forgotten,
}

fn record(second: u64, principal: &str, action: &str) -> AuditRecord {
    AuditRecord {
        principal: Some(principal.to_owned()),
        ..AuditRecord::new(at(second), action)
    }
}

async fn read(store: &Arc<dyn Store>, query: &AuditQuery) -> Result<Vec<AuditRecord>, Broken> {
    Ok(store.audit(query).await?.items)
}

async fn kept(store: Arc<dyn Store>) -> Checked {
    let whole = AuditRecord {
        peer: Some("192.0.2.7:5".to_owned()),
        target: Some("all".to_owned()),
        status: Some(403),
        code: Some(ProblemCode::Forbidden),
        detail: Some("x".repeat(10_000)),
        ..record(1, &"y".repeat(10_000), "stop")
    };
    let bare = AuditRecord::new(at(0), "refused_claim");
    store.append_audit(&[whole.clone(), bare.clone()]).await?;
    let other = AuditRecord {
        status: Some(200),
        code: None,
        principal: None,
        ..whole.clone()
    };
    store.append_audit(&[other]).await?;
    let all = read(&store, &AuditQuery::default()).await?;
    same("the audit trail", &all, &vec![whole, bare])?;
    let odd = record(2, "nul\0", "nul\0");
    store.append_audit(&[odd]).await?;
    same(
        "its length",
        &read(&store, &AuditQuery::default()).await?.len(),
        &3,
    )
}

async fn pages(store: Arc<dyn Store>) -> Checked {
    // Two of each second.
    let mut records: Vec<_> = (0..10)
        .map(|n| record(n / 2, if n % 2 == 0 { "ann" } else { "bob" }, "stop"))
        .collect();
    records[3].action = "cancel_dispatch".to_owned();
    store.append_audit(&records).await?;
    records.sort_by_key(|record| std::cmp::Reverse((record.at, record.id)));
    let mut query = AuditQuery {
        page: HistoryQuery {
            from: at(1),
            to: at(4),
            limit: 4,
            cursor: None,
        },
        ..AuditQuery::default()
    };
    let first = store.audit(&query).await?;
    same("the first page", &first.items, &records[2..6].to_vec())?;
    query.page.cursor = first.next_cursor;
    ensure!(query.page.cursor.is_some(), "there is no second page");
    let second = store.audit(&query).await?;
    same("the second page", &second.items, &records[6..8].to_vec())?;
    same("its cursor", &second.next_cursor, &None)?;
    let wrong = store.stops(&query.page).await;
    ensure!(
        matches!(wrong, Err(super::super::StoreError::InvalidCursor)),
        "a cursor of the audit trail was answered {wrong:?} in the list of stops"
    );
    let found = async |principal: Option<&str>, action: Option<&str>| {
        let query = AuditQuery {
            principal: principal.map(str::to_owned),
            action: action.map(str::to_owned),
            page: HistoryQuery::default(),
        };
        read(&store, &query).await.map(|records| records.len())
    };
    same("of a principal", &found(Some("ann"), None).await?, &5)?;
    same("of an action", &found(None, Some("stop")).await?, &9)?;
    same("of both", &found(Some("bob"), Some("stop")).await?, &4)?;
    same("of a part of a name", &found(Some("an"), None).await?, &0)
}

async fn forgotten(store: Arc<dyn Store>) -> Checked {
    let records = [10, 60, 110].map(|second| record(second, "ann", "stop"));
    store.append_audit(&records).await?;
    let mut retention = Retention::forever();
    store.prune(&retention, at(1_000_000)).await?;
    same(
        "what is kept for ever",
        &read(&store, &AuditQuery::default()).await?.len(),
        &3,
    )?;
    retention.audit = Some(Duration::from_secs(100));
    let pruned = store.prune(&retention, at(210)).await?;
    same("how many were forgotten", &pruned.audit, &2)?;
    let left = read(&store, &AuditQuery::default()).await?;
    same("what is left", &left, &records[2..].to_vec())
}
