//! What keeps an agent from its work, found before it is started or beside one that runs.

mod device;
mod link;
mod overheard;
mod place;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::error::Error;
use std::fmt;

use derms_proto::{AgentId, Check, CheckReport};

use crate::AgentBuilder;

/// The names of all checks, in the order in which they are made. `grant`, `read` and
/// `write_default` come once for each asset.
pub const CHECKS: [&str; 17] = [
    CONFIGURATION,
    STATE_DIRECTORY,
    DISK_SPACE,
    STATE_LOCK,
    TLS_FILES,
    OWN_CERTIFICATE,
    TOKEN,
    NAME_RESOLUTION,
    TCP,
    TLS,
    SERVER_CERTIFICATE,
    PROTOCOL,
    LINK,
    CLOCK,
    GRANT,
    READ,
    WRITE_DEFAULT,
];

/// The check of what an agent is given, also for the program that reads it: what it can't read it
/// reports under this name.
pub const CONFIGURATION: &str = "configuration";
const STATE_DIRECTORY: &str = "state_directory";
const DISK_SPACE: &str = "disk_space";
const STATE_LOCK: &str = "state_lock";
const TLS_FILES: &str = "tls_files";
const OWN_CERTIFICATE: &str = "own_certificate";
const TOKEN: &str = "token";
const NAME_RESOLUTION: &str = "name_resolution";
const TCP: &str = "tcp";
const TLS: &str = "tls";
const SERVER_CERTIFICATE: &str = "server_certificate";
const PROTOCOL: &str = "protocol";
const LINK: &str = "link";
const CLOCK: &str = "clock";
const GRANT: &str = "grant";
const READ: &str = "read";
const WRITE_DEFAULT: &str = "write_default";

/// Looks at everything that an agent needs, without starting it; made by
/// [`AgentBuilder::doctor`].
///
/// It registers nowhere, begins no session, gives no order and leaves no file: an agent of the same
/// id that runs meanwhile keeps its session. It reads each device once, beside that agent.
///
/// ```no_run
/// # async fn check(builder: derms_agent_sdk::AgentBuilder) {
/// let report = builder.doctor().run().await;
/// print!("{report}");
/// std::process::exit(if report.is_ok() { 0 } else { 1 });
/// # }
/// ```
#[must_use = "nothing is looked at until `run`"]
pub struct Doctor {
    builder: AgentBuilder,
    write_default: bool,
}

impl Doctor {
    pub(crate) const fn new(builder: AgentBuilder) -> Self {
        Self {
            builder,
            write_default: false,
        }
    }

    /// Also tells each device to go to its default. Refused for all devices while an agent of the
    /// same id runs: two would steer one device. Default: no device is told anything.
    pub const fn write_default(mut self) -> Self {
        self.write_default = true;
        self
    }

    /// Makes all checks, in the order of [`CHECKS`]. What can't be looked at because something
    /// before it failed is skipped. Each step has a limit, of 20 s at most; where all answer it takes
    /// less than a second.
    pub async fn run(self) -> CheckReport {
        let Self {
            mut builder,
            write_default,
        } = self;
        let mut checks = Vec::new();
        let agent = match builder.check_plain() {
            Ok(agent) => agent,
            Err(error) => {
                checks.push(Check::fail(
                    CONFIGURATION,
                    chain(&error),
                    "change what the agent is given",
                ));
                let others = CHECKS.iter().filter(|name| **name != CONFIGURATION);
                checks.extend(others.map(|name| Check::skip(name, "the configuration is wrong")));
                return CheckReport::new(checks);
            }
        };
        checks.push(configuration(&builder, agent));
        let runs = place::look(&builder, agent, &mut checks).await;
        let probed = link::look(&builder, agent, &mut checks).await;
        let in_use = runs || probed.is_some_and(|answer| answer.connected);
        let devices = std::mem::take(&mut builder.assets);
        let limit = builder.adapter_timeout;
        device::read(&devices, limit, &mut checks).await;
        let writing = match (write_default, in_use) {
            (false, _) => device::Writing::NotAsked,
            (true, true) => device::Writing::InUse,
            (true, false) => device::Writing::Asked,
        };
        device::write_default(&devices, writing, limit, &mut checks).await;
        CheckReport::new(checks)
    }
}

fn configuration(builder: &AgentBuilder, agent: AgentId) -> Check {
    let assets = builder.assets.iter();
    let names: Vec<&str> = assets.map(|(asset, _)| asset.name.as_str()).collect();
    let headend = &builder.headend;
    let text = format!(
        "agent {agent} serves {} and dials {headend}",
        names.join(", ")
    );
    Check::ok(CONFIGURATION, text)
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl fmt::Debug for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doctor")
            .field("builder", &self.builder)
            .field("write_default", &self.write_default)
            .finish()
    }
}
