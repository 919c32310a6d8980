//! Tokens from a file, and the audit trail.

use std::path::PathBuf;

use derms_client::proto::ProblemCode;
use derms_client::{AuditHistoryQuery, Client, Error};
use serde_json::json;

use crate::fake::{Fake, ok, problem};

struct Secret(PathBuf);

impl Secret {
    fn new(name: &str, token: &str) -> Self {
        let name = format!("derms-client-{name}-{}", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        file.put(token);
        file
    }

    fn put(&self, token: &str) {
        std::fs::write(&self.0, token).expect("a file");
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn client(fake: &Fake, file: &Secret) -> Client {
    fake.builder("/")
        .token_file(&file.0)
        .retries(0)
        .build()
        .expect("a client")
}

fn sent(fake: &Fake) -> Vec<String> {
    let seen = fake.seen();
    let header = seen.iter().map(|seen| seen.header("authorization"));
    header
        .map(|value| value.unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn a_token_that_was_replaced_in_its_file_is_taken_when_the_old_one_is_refused() {
    let fake = Fake::new([
        ok(&json!([])),
        problem(401, "unauthenticated"),
        ok(&json!([])),
    ]);
    let file = Secret::new("renewed", "old\n");
    let client = client(&fake, &file);
    client.agents().await.unwrap();
    file.put("new\n");
    client.agents().await.unwrap();
    assert_eq!(sent(&fake), ["Bearer old", "Bearer old", "Bearer new"]);
}

#[tokio::test]
async fn a_token_that_is_still_the_same_is_not_shown_again() {
    let fake = Fake::new([problem(401, "unauthenticated")]);
    let file = Secret::new("same", "hush");
    let client = client(&fake, &file);
    let error = client.agents().await.unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::Unauthenticated));
    assert_eq!(sent(&fake), ["Bearer hush"]);
    assert!(!format!("{client:?} {error:?} {error}").contains("hush"));
}

#[test]
fn a_file_that_can_not_be_read_or_is_empty_is_told_at_once() {
    let builder = || Client::builder("http://127.0.0.1:1".parse().unwrap());
    let error = builder().token_file("nowhere").build().unwrap_err();
    assert!(matches!(error, Error::InvalidRequest { .. }));
    assert!(error.to_string().contains("nowhere"), "{error}");
    let file = Secret::new("empty", "\n");
    builder().token_file(&file.0).build().unwrap_err();
}

#[tokio::test]
async fn the_audit_trail_is_asked_for_by_principal_and_action() {
    let record = json!({
        "id": "01990000-0000-7000-8000-000000000001", "at": "2026-01-31T12:00:00Z",
        "principal": "ann b", "peer": null, "action": "stop", "target": "all", "status": 202,
        "code": null, "detail": null,
    });
    let fake = Fake::new([ok(&json!({"items": [record], "next_cursor": null}))]);
    let query = AuditHistoryQuery::new()
        .principal("ann b")
        .action("stop")
        .limit(5);
    let page = fake.client().audit(query).await.unwrap();
    assert_eq!(page.items[0].status, Some(202));
    let expected = ["GET /audit?principal=ann%20b&action=stop&limit=5"];
    assert_eq!(fake.targets(), expected);
}
