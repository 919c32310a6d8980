//! A headend with the agents of one site, and `derms` beside it.

use std::time::Duration;

use derms_client::proto::Event;
use derms_client::{Client, EventHistoryQuery};
use derms_tests::{Folder, HeadendProcess, Output, Process, Program, until};
use serde_json::Value;

pub(crate) const JERSEY: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
pub(crate) const BESS_1: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";

/// For what a loaded machine does at once.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The sample fleet; the gateway of Jersey serves its three batteries, nobody serves the others.
pub(crate) struct World {
    pub(crate) headend: HeadendProcess,
    faults: Folder,
    _gateway: Process,
}

impl World {
    pub(crate) async fn start() -> Self {
        let headend = HeadendProcess::start().await;
        let faults = Folder::new();
        let gateway = Program::new("edge_agent")
            .args(["--site-id", JERSEY, "--headend", &headend.grpc])
            .args(["--faults-dir", &faults.path().display().to_string()])
            .start();
        until("three measured batteries", SOON, async || {
            let measured = headend.client.telemetry_all().await.ok()?;
            (measured.len() == 3).then_some(())
        })
        .await;
        Self {
            headend,
            faults,
            _gateway: gateway,
        }
    }

    /// The device of BESS-1 can't be read for a moment: a warning with this text, and an information
    /// that it is over. Once there are no others, these are the newest.
    pub(crate) async fn trouble(&self, text: &str) -> [Event; 2] {
        let file = self.faults.file(BESS_1);
        std::fs::write(&file, text).unwrap();
        let failed = self.event("read_failed").await;
        std::fs::remove_file(file).unwrap();
        [failed, self.event("read_recovered").await]
    }

    async fn event(&self, code: &str) -> Event {
        until(code, SOON, async || {
            let events = self.client().events(EventHistoryQuery::new()).await.ok()?;
            events.items.into_iter().find(|event| event.code == code)
        })
        .await
    }

    pub(crate) fn client(&self) -> &Client {
        &self.headend.client
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.headend.http)
    }

    /// `derms` with these arguments, run to its end.
    pub(crate) async fn derms(&self, args: &[&str]) -> Output {
        let program = Program::new("derms").env("DERMS_URL", &self.url());
        program.args(args.iter().copied()).run().await
    }

    /// The same, which must succeed; its stdout.
    pub(crate) async fn said(&self, args: &[&str]) -> String {
        let output = self.derms(args).await;
        assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
        output.stdout
    }

    /// The same with `--json`: one value on one line.
    pub(crate) async fn json(&self, args: &[&str]) -> Value {
        let said = self.said(&[args, &["--json"]].concat()).await;
        assert_eq!(said.lines().count(), 1, "{said}");
        serde_json::from_str(&said).unwrap()
    }

    /// The same, which must fail so; its one line.
    pub(crate) async fn refused(&self, args: &[&str], code: i32) -> String {
        let output = self.derms(args).await;
        assert_eq!(output.code, Some(code), "{args:?}: {}", output.stderr);
        let last = output.stderr.lines().last();
        last.unwrap_or_else(|| panic!("{args:?} says nothing"))
            .to_owned()
    }
}
