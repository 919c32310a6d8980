//! A headend with the agents of one site, and `derms` beside it.

use std::time::Duration;

use derms_client::Client;
use derms_tests::{HeadendProcess, Output, Process, Program, until};
use serde_json::Value;

pub(crate) const JERSEY: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
pub(crate) const BESS_1: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";

/// For what a loaded machine does at once.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The sample fleet; the gateway of Jersey serves its three batteries, nobody serves the others.
pub(crate) struct World {
    pub(crate) headend: HeadendProcess,
    _gateway: Process,
}

impl World {
    pub(crate) async fn start() -> Self {
        let headend = HeadendProcess::start().await;
        let args = ["--site-id", JERSEY, "--headend", &headend.grpc];
        let gateway = Process::start("edge_agent", &args);
        until("three measured batteries", SOON, async || {
            let measured = headend.client.telemetry_all().await.ok()?;
            (measured.len() == 3).then_some(())
        })
        .await;
        Self {
            headend,
            _gateway: gateway,
        }
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
