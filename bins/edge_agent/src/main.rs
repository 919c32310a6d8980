//! An agent that serves simulated devices: one asset, or all assets of a site.

mod args;
mod check;
mod config;
mod faults;
mod metrics;
mod reload;

use std::path::PathBuf;
use std::process::ExitCode;

use derms_agent_sdk::proto::Asset;
use derms_agent_sdk::{AgentBuilder, AgentRuntime, BuildError, sim};
use derms_program::{Failure, Stop, chain};

use crate::config::{Config, Job};
use crate::faults::Faulty;
use crate::reload::Reload;

fn main() -> ExitCode {
    derms_program::exit(env!("CARGO_PKG_NAME"), start())
}

fn start() -> Result<(), Stop> {
    match Job::parse(std::env::args_os())? {
        Job::Run(config) => {
            let _log = derms_program::start_log(env!("CARGO_PKG_NAME"), config.log_format)?;
            // Everything runs on this thread, so each line of the log tells which agent it is of.
            let _name = tracing::info_span!("agent", agent_name = config.name).entered();
            Ok(runtime()?.block_on(run(*config))?)
        }
        Job::Check {
            args,
            config,
            log_format,
        } => {
            let _log = derms_program::start_log(env!("CARGO_PKG_NAME"), log_format)?;
            Ok(runtime()?.block_on(check::run(args, config))?)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::start(format!("can't start: {error}")))
}

/// The agent as it is configured, for a run or a check.
fn agent(config: &Config, devices: &Devices) -> AgentBuilder {
    let mut builder = AgentRuntime::builder(config.headend.clone())
        .agent_id(config.agent_id)
        .software(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    if let Some(dir) = &config.state_dir {
        builder = builder.state_dir(dir);
    }
    if let Some(bytes) = config.outbox_bytes {
        builder = builder.telemetry_outbox_bytes(bytes);
    }
    if let Some(age) = config.outbox_age {
        builder = builder.telemetry_outbox_age(age);
    }
    if let Some(tls) = &config.tls {
        builder = builder.tls(tls.clone());
    }
    if let Some(path) = &config.token_file {
        builder = builder.bearer_token(path);
    }
    for asset in &config.assets {
        builder = builder.adapter(asset.clone(), devices.of(asset));
    }
    builder
}

async fn run(config: Config) -> Result<(), Failure> {
    let devices = Devices::new(&config);
    let mut builder = agent(&config, &devices).shutdown_on_signal();
    if config.exit_with_parent {
        builder = builder.shutdown_on(derms_program::parent_gone());
    }
    let metrics = match config.metrics_addr {
        Some(address) => Some(metrics::listen(address).await?),
        None => None,
    };
    let runtime = builder.build().map_err(|error| match &error {
        // The configuration may be right: the directory is in use, or the disk refuses.
        BuildError::StateDir { .. } => Failure::start(chain(&error)),
        BuildError::Tls(_) => Failure::configuration(format!(
            "{}; mend the file, or name others with --ca, --cert and --key",
            chain(&error)
        )),
        BuildError::Token(_) => Failure::configuration(format!(
            "{}; mend the file, or name another with --token-file",
            chain(&error)
        )),
        _ => Failure::configuration(chain(&error)),
    })?;
    let (agent, headend, assets) = (config.agent_id, &config.headend, config.assets.len());
    tracing::info!(agent_id = %agent, %headend, assets, "serving simulated devices");
    let reload = match config.gateway {
        Some((file, site)) => Some(Reload::new(file, site, config.assets, devices)?),
        None => None,
    };
    let handle = runtime.handle();
    let metered = handle.clone();
    let metering = async move {
        match metrics {
            Some(listener) => {
                // With port 0 nobody else knows it.
                if let Ok(metrics_addr) = listener.local_addr() {
                    tracing::info!(%metrics_addr, "metrics at /metrics");
                }
                metrics::serve(listener, metered).await
            }
            None => std::future::pending().await,
        }
    };
    let reloading = async move {
        match reload {
            Some(reload) => reload.run(&handle).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        // It listens to signals from its first turn on: before anybody is told where metrics are.
        biased;
        ended = runtime.run() => ended,
        never = reloading => match never {},
        never = metering => match never {},
    };
    ended.map_err(|error| Failure::start(chain(&error)))
}

/// Makes the simulated devices.
struct Devices {
    seed: u64,
    /// `None`: they never fail.
    faults_dir: Option<PathBuf>,
}

impl Devices {
    fn new(config: &Config) -> Self {
        Self {
            seed: config.seed,
            faults_dir: config.faults_dir.clone(),
        }
    }

    fn of(&self, asset: &Asset) -> Faulty {
        let device = sim::for_asset(asset, self.seed);
        Faulty::new(device, self.faults_dir.as_deref(), asset.id)
    }
}
