//! Certificates for development, made by `der_headend pki`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use derms_client::proto::AgentId;
use derms_program::Failure;
use tokio::process::Command;

use crate::siblings::Siblings;

/// The folder of a CA, with a certificate of the headend and one of each agent.
#[derive(Debug)]
pub(crate) struct Pki(PathBuf);

impl Pki {
    /// Makes what is not there yet, in the data folder; agents get new certificates.
    pub(crate) async fn prepare(
        siblings: &Siblings,
        data_dir: Option<&Path>,
        agents: &[AgentId],
    ) -> Result<Self, Failure> {
        let data_dir = data_dir.unwrap_or(Path::new("derms-data"));
        let this = Self(data_dir.join("pki"));
        if !this.ca().exists() {
            this.run(siblings, ["init".into()]).await?;
        }
        let agents = agents
            .iter()
            .flat_map(|agent| ["--agent".into(), agent.to_string().into()]);
        let issue = std::iter::once("issue".into()).chain(agents);
        this.run(siblings, issue).await?;
        Ok(this)
    }

    async fn run(
        &self,
        siblings: &Siblings,
        task: impl IntoIterator<Item = OsString>,
    ) -> Result<(), Failure> {
        let status = Command::new(siblings.path("der_headend"))
            .args(["pki", "--dir"])
            .arg(&self.0)
            .args(task)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await
            .map_err(|error| Failure::start(format!("can't start der_headend: {error}")))?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::start(format!(
                "der_headend pki could not make certificates ({status}); its last line says why"
            )))
        }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// Flags of the headend.
    pub(crate) fn of_headend(&self) -> [OsString; 8] {
        [
            "--tls-cert".into(),
            self.file("headend.pem"),
            "--tls-key".into(),
            self.file("headend-key.pem"),
            "--client-ca".into(),
            self.file("ca.pem"),
            "--crl".into(),
            self.file("crl.pem"),
        ]
    }

    /// Flags of an agent.
    pub(crate) fn of_agent(&self, agent: AgentId) -> [OsString; 6] {
        [
            "--ca".into(),
            self.file("ca.pem"),
            "--cert".into(),
            self.file(&format!("agents/{agent}.pem")),
            "--key".into(),
            self.file(&format!("agents/{agent}-key.pem")),
        ]
    }

    fn file(&self, name: &str) -> OsString {
        self.0.join(name).into()
    }
}
