//! What somebody on call has: curl.

use std::path::PathBuf;

use serde_json::Value;
use tokio::process::Command;

/// A base URL, with the CA that it is trusted by.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    base: String,
    ca: Option<PathBuf>,
}

impl Source {
    pub(crate) fn new(base: impl Into<String>) -> Self {
        Self {
            base: base.into(),
            ca: None,
        }
    }

    pub(crate) fn trusting(mut self, ca: PathBuf) -> Self {
        self.ca = Some(ca);
        self
    }

    /// Status and body; `None` if nobody answers.
    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "20", "-w", "\n%{http_code}"]);
        if let Some(ca) = &self.ca {
            curl.arg("--cacert").arg(ca);
        }
        let output = curl.arg(format!("{}{path}", self.base)).output().await;
        let output = output.expect("curl is installed");
        let said = String::from_utf8(output.stdout).expect("text");
        let (body, status) = said.rsplit_once('\n')?;
        let status = status.parse().expect("a status");
        (status > 0).then(|| (status, body.to_owned()))
    }

    /// Status and JSON; 0 and `null` if nobody answers so.
    pub(crate) async fn json(&self, path: &str) -> (u16, Value) {
        let Some((status, body)) = self.get(path).await else {
            return (0, Value::Null);
        };
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    /// The value of a series of `/metrics`; `None` if there is none, or nobody answers.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await?;
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        value.parse().ok()
    }
}
