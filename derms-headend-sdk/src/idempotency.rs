//! Keys of clients: the same key and body give the same answer.

use std::fmt::Debug;

use serde::Serialize;

use crate::auth::Principal;
use crate::store::Idempotency;

/// The client's key, in the scope of its principal and of a kind of call, with what was asked.
pub(crate) fn idempotency(
    kind: &str,
    body: &(impl Serialize + Debug),
    principal: Option<&Principal>,
    key: &str,
) -> Idempotency {
    // A key holds no space, so no two kinds, keys and names give one text.
    let key = principal.map_or_else(
        || format!("{kind}{key}"),
        |principal| format!("{kind}{key} {}", principal.name()),
    );
    Idempotency {
        key,
        // JSON, for it is kept: fields that are added later leave it as it is.
        fingerprint: serde_json::to_string(body).unwrap_or_else(|_| format!("{body:?}")),
    }
}
