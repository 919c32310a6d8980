//! Whether the headend lives and can work.

use serde_json::json;

use crate::connection::Session;
use crate::{Outcome, fault, out};

pub(crate) async fn run(session: &Session) -> Outcome {
    let client = &session.client;
    client.healthz().await.map_err(|error| fault::of(&error))?;
    let ready = client.readyz().await;
    if session.json {
        // Both calls answer without a body of interest: this is the one value that is made here.
        out::json(&json!({ "live": true, "ready": ready.is_ok() }))?;
    } else {
        let text = if ready.is_ok() { "yes" } else { "no" };
        out::print(&format!("live   yes\nready  {text}\n"))?;
    }
    ready.map_err(|error| fault::of(&error).into())
}
