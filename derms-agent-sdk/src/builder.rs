//! How an agent is put together.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::Software;
use derms_proto::{AgentId, Asset, InstanceId, LogId};
use http::Uri;

use crate::clock::{Clock, SystemClock};
use crate::connect::{Dial, Security, Tcp};
use crate::disk::{self, Dir};
use crate::doctor::Doctor;
use crate::outbox::REPORT_CAPACITY;
use crate::runtime::Parts;
use crate::session::Config;
use crate::state::Recovered;
use crate::{AgentRuntime, Backoff, BuildError, DerAdapter, FullJitter};

/// Room for the newest samples in any case: a log that drops what it is given says nothing.
const LEAST_OUTBOX: usize = 64 << 10;
/// What samples may take in memory unless it is said otherwise, and at most with a state directory.
const IN_MEMORY: usize = 8 << 20;
/// What they may take on a disk unless it is said otherwise.
pub(crate) const ON_DISK: usize = 64 << 20;
/// How long samples are kept in memory unless it is said otherwise.
const AGE_IN_MEMORY: Duration = Duration::from_secs(24 * 3_600);
/// How long they are kept on a disk.
const AGE_ON_DISK: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Most assets of one agent.
pub(crate) const MAX_ASSETS: usize = 1_024;

pub(crate) type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Puts an [`AgentRuntime`] together; made by [`AgentRuntime::builder`].
#[must_use = "a builder does nothing until `build`"]
pub struct AgentBuilder {
    pub(crate) headend: Uri,
    agent_id: Option<AgentId>,
    pub(crate) assets: Vec<(Asset, Arc<dyn DerAdapter>)>,
    pub(crate) adapter_timeout: Duration,
    pub(crate) telemetry_bytes: Option<usize>,
    telemetry_age: Option<Duration>,
    pub(crate) software: Software,
    backoff: Box<dyn Backoff>,
    pub(crate) state_dir: Option<PathBuf>,
    shutdown: Vec<BoxFuture>,
    signals: bool,
    pub(crate) dialer: Arc<dyn Dial>,
    pub(crate) security: Security,
    pub(crate) clock: Arc<dyn Clock>,
}

impl AgentBuilder {
    pub(crate) fn new(headend: Uri) -> Self {
        Self {
            headend,
            agent_id: None,
            assets: Vec::new(),
            adapter_timeout: Duration::from_secs(10),
            telemetry_bytes: None,
            telemetry_age: None,
            software: Software {
                name: env!("CARGO_PKG_NAME").into(),
                version: env!("CARGO_PKG_VERSION").into(),
            },
            backoff: Box::new(FullJitter::new()),
            state_dir: None,
            shutdown: Vec::new(),
            signals: false,
            dialer: Arc::new(Tcp),
            security: Security::default(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Adds an asset and the adapter of its device. A gateway is the same call again; at most
    /// 1,024 assets.
    pub fn adapter(mut self, asset: Asset, adapter: impl DerAdapter) -> Self {
        self.assets.push((asset, Arc::new(adapter)));
        self
    }

    /// Who the agent is. Default: the asset's id for one asset, the site's id for several of one
    /// site; required for assets of several sites.
    pub fn agent_id(mut self, agent_id: AgentId) -> Self {
        self.agent_id = Some(agent_id);
        self
    }

    /// How long one call of an adapter may take before it is dropped. Default 10 s; at least
    /// 10 ms.
    pub fn adapter_timeout(mut self, limit: Duration) -> Self {
        self.adapter_timeout = limit.max(Duration::from_millis(10));
        self
    }

    /// Where the agent remembers, over a restart, what it accepted, what it reported and what is
    /// not acknowledged. The directory is made if it is not there; it is for this agent alone.
    /// Default: none, all is kept in memory.
    ///
    /// With it an order is on the disk before it is reported as received and before the device is
    /// told; a lease that runs when the process is killed goes on when it is started again; and
    /// samples that were not acknowledged survive, but for the last 2 s. What is damaged or lost is
    /// declared to the headend, and the agent starts all the same.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// How many bytes of samples are kept until they are acknowledged. Full: the oldest go, and
    /// the headend is told which.
    ///
    /// In memory: default 8 MiB, about 40,000 samples. With a [`state_dir`](Self::state_dir): on
    /// the disk, default 64 MiB, about 700,000 samples, which is three hours of 256 assets at 4 s;
    /// memory then holds 8 MiB at most, and that only while the disk fails. At least 64 KiB.
    pub fn telemetry_outbox_bytes(mut self, bytes: usize) -> Self {
        self.telemetry_bytes = Some(bytes.max(LEAST_OUTBOX));
        self
    }

    /// How long samples are kept that are not acknowledged, if there is room for them. Older ones go,
    /// and the headend is told which. Default 24 h in memory, 7 days with a
    /// [`state_dir`](Self::state_dir); at least 1 min.
    ///
    /// On a disk they go by whole files of up to 512 KiB, each by the newest sample in it, so they may
    /// stay longer by what it takes to fill one: one asset every 4 s, 6 h.
    pub fn telemetry_outbox_age(mut self, age: Duration) -> Self {
        self.telemetry_age = Some(age.max(Duration::from_secs(60)));
        self
    }

    /// Name and version of your software, shown to the operator. Default: those of this crate.
    pub fn software(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.software = Software {
            name: name.into(),
            version: version.into(),
        };
        self
    }

    /// How long to wait before the next attempt to connect. Default [`FullJitter`]: uniform
    /// between 0.1 s and min(60 s, 1 s × 1.6ⁿ).
    pub fn backoff(mut self, backoff: impl Backoff) -> Self {
        self.backoff = Box::new(backoff);
        self
    }

    /// Shuts the agent down when this future is ready; see
    /// [`AgentRuntime::run`](crate::AgentRuntime::run) for what that means. May be called again:
    /// the first one counts.
    pub fn shutdown_on(mut self, future: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown.push(Box::pin(future));
        self
    }

    /// Shuts the agent down at SIGTERM and Ctrl-C. Default: signals are left to you.
    pub fn shutdown_on_signal(mut self) -> Self {
        self.signals = true;
        self
    }

    /// How an `https` address is dialled: whom to trust, and what to show. Default: none, and `https`
    /// is refused.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::ClientTls) -> Self {
        self.security.tls = Some(Arc::new(tls));
        self
    }

    /// The token by which the headend knows this agent, if it has no certificate: a file with
    /// nothing else in it, which is read anew for each attempt to connect. Over `http` it is sent to
    /// this machine alone. Default: none.
    pub fn bearer_token(mut self, path: impl Into<PathBuf>) -> Self {
        self.security.token = Some(path.into());
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn through(mut self, dialer: Arc<dyn Dial>, clock: Arc<dyn Clock>) -> Self {
        self.dialer = dialer;
        self.clock = clock;
        self
    }

    /// Checks everything, and opens and reads the [`state_dir`](Self::state_dir), which is nobody
    /// else's until the agent is dropped or has run. Nothing is started yet.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(self) -> Result<AgentRuntime, BuildError> {
        let agent_id = self.check_plain()?;
        self.check_files()?;
        let (state, recovered) = self.open_state(agent_id)?.unzip();
        let memory = self.telemetry_bytes.unwrap_or(IN_MEMORY);
        let age = self.age();
        let kinds = self
            .assets
            .iter()
            .map(|(asset, adapter)| (asset.clone(), adapter.describe().kind));
        let config = Config {
            agent_id,
            instance_id: InstanceId::generate(),
            software: self.software,
            assets: kinds.collect(),
            backoff: self.backoff,
            seed: fastrand::u64(..),
            telemetry_log: LogId::generate(),
            report_log: LogId::generate(),
            telemetry_bytes: if state.is_some() {
                memory.min(IN_MEMORY)
            } else {
                memory
            },
            telemetry_age: age,
            report_capacity: REPORT_CAPACITY,
            recovered,
        };
        let devices = self
            .assets
            .into_iter()
            .map(|(asset, adapter)| (asset.id, adapter));
        Ok(AgentRuntime::new(Parts {
            headend: self.headend,
            config,
            devices: devices.collect(),
            adapter_timeout: self.adapter_timeout,
            state,
            shutdown: self.shutdown,
            signals: self.signals,
            dialer: self.dialer,
            security: self.security,
            clock: self.clock,
        }))
    }

    /// How long samples are kept.
    fn age(&self) -> Duration {
        self.telemetry_age.unwrap_or(match self.state_dir {
            Some(_) => AGE_ON_DISK,
            None => AGE_IN_MEMORY,
        })
    }

    fn open_state(&self, agent_id: AgentId) -> Result<Option<(Dir, Recovered)>, BuildError> {
        let Some(path) = &self.state_dir else {
            return Ok(None);
        };
        let options = disk::Options {
            agent_id,
            boot: self.clock.boot(),
            now: self.clock.now().mono,
            telemetry_bytes: self.telemetry_bytes.unwrap_or(ON_DISK) as u64,
            telemetry_age: self.age(),
        };
        let opened = Dir::open(path, &options);
        opened.map(Some).map_err(|error| BuildError::StateDir {
            path: path.clone(),
            source: error.into(),
        })
    }

    /// Looks at all that the agent needs without starting it, beside an agent of the same id that
    /// may run. See [`Doctor`].
    pub fn doctor(self) -> Doctor {
        Doctor::new(self)
    }

    /// Checks what can be checked without looking at any file; gives who the agent is.
    pub(crate) fn check_plain(&self) -> Result<AgentId, BuildError> {
        self.check_headend()?;
        for (asset, _) in &self.assets {
            if let Some(problem) = asset.problem() {
                return Err(BuildError::InvalidAsset {
                    asset_id: asset.id,
                    name: asset.name.clone(),
                    problem,
                });
            }
        }
        self.check_identity()
    }

    fn check_headend(&self) -> Result<(), BuildError> {
        let Security { tls, token } = &self.security;
        let host = self.headend.host().filter(|host| !host.is_empty());
        let problem = match (self.headend.scheme_str(), host) {
            (Some("http"), Some(_)) if tls.is_some() => {
                Some("is not for TLS, which was asked for; write https://")
            }
            (Some("http"), Some(host)) if token.is_some() && !is_loopback(host) => {
                Some("would show the token to all on the way; write https://")
            }
            (Some("http"), Some(_)) => None,
            (Some("https"), Some(_)) if tls.is_some() => None,
            (Some("https"), Some(_)) => Some(
                "needs TLS: say whom to trust with `tls(…)` (feature `tls` of derms-agent-sdk)",
            ),
            _ => Some("is none; write it like https://headend.example:50051"),
        };
        if let Some(problem) = problem {
            return Err(BuildError::Headend {
                uri: self.headend.clone(),
                problem,
            });
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), BuildError> {
        let Security { tls, token } = &self.security;
        if let Some(tls) = tls {
            tls.check(&self.headend).map_err(BuildError::Tls)?;
        }
        if let Some(path) = token {
            crate::token::authorization(path).map_err(|error| BuildError::Token(error.into()))?;
        }
        Ok(())
    }

    fn check_identity(&self) -> Result<AgentId, BuildError> {
        let Some((first, _)) = self.assets.first() else {
            return Err(BuildError::NoAsset);
        };
        if self.assets.len() > MAX_ASSETS {
            return Err(BuildError::TooManyAssets {
                count: self.assets.len(),
                limit: MAX_ASSETS,
            });
        }
        let mut seen = BTreeSet::new();
        if let Some((asset, _)) = self.assets.iter().find(|(asset, _)| !seen.insert(asset.id)) {
            return Err(BuildError::DuplicateAsset { asset_id: asset.id });
        }
        let one_site = self
            .assets
            .iter()
            .all(|(asset, _)| asset.site_id == first.site_id);
        match self.agent_id {
            Some(agent_id) => Ok(agent_id),
            None if self.assets.len() == 1 => Ok(first.id.into()),
            None if one_site => Ok(first.site_id.into()),
            None => Err(BuildError::AgentIdMissing),
        }
    }
}

/// Whether nothing that is sent there leaves this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |ip| {
        ip.to_canonical().is_loopback()
    })
}

impl fmt::Debug for AgentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentBuilder")
            .field("headend", &self.headend)
            .field("agent_id", &self.agent_id)
            .field("assets", &self.assets.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_kept_for_a_day_in_memory_for_a_week_on_a_disk_and_as_it_is_told() {
        let builder = || AgentRuntime::builder("http://h:1".parse().unwrap());
        let days = |days: u64| Duration::from_secs(days * 86_400);
        assert_eq!(builder().age(), days(1));
        assert_eq!(builder().state_dir("x").age(), days(7));
        let told = builder().telemetry_outbox_age(days(30)).state_dir("x");
        assert_eq!(told.age(), days(30));
        let least = builder().telemetry_outbox_age(Duration::ZERO);
        assert_eq!(least.age(), Duration::from_secs(60));
    }
}
