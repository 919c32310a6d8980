//! An agent that serves simulated devices: one asset, or all assets of a site.

mod args;
mod config;
mod faults;
mod metrics;
mod reload;

use std::path::PathBuf;
use std::process::ExitCode;

use derms_agent_sdk::proto::Asset;
use derms_agent_sdk::{AgentRuntime, BuildError, sim};
use derms_program::{Failure, Stop, chain};

use crate::config::Config;
use crate::faults::Faulty;
use crate::reload::Reload;

fn main() -> ExitCode {
    derms_program::exit(env!("CARGO_PKG_NAME"), start())
}

fn start() -> Result<(), Stop> {
    let config = Config::parse(std::env::args_os())?;
    let _log = derms_program::start_log(env!("CARGO_PKG_NAME"), config.log_format)?;
    // Everything runs on this thread, so each line of the log tells which agent it is of.
    let _name = tracing::info_span!("agent", agent_name = config.name).entered();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::start(format!("can't start: {error}")))?;
    Ok(runtime.block_on(run(config))?)
}

async fn run(config: Config) -> Result<(), Failure> {
    let (agent, headend, assets) = (config.agent_id, config.headend, config.assets.len());
    let mut builder = AgentRuntime::builder(headend.clone())
        .agent_id(agent)
        .software(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
        .shutdown_on_signal();
    if let Some(dir) = config.state_dir {
        builder = builder.state_dir(dir);
    }
    if let Some(tls) = config.tls {
        builder = builder.tls(tls);
    }
    if let Some(path) = config.token_file {
        builder = builder.bearer_token(path);
    }
    let devices = Devices {
        seed: config.seed,
        faults_dir: config.faults_dir,
    };
    for asset in &config.assets {
        builder = builder.adapter(asset.clone(), devices.of(asset));
    }
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
        _ => Failure::configuration(chain(&error)),
    })?;
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
    fn of(&self, asset: &Asset) -> Faulty {
        let device = sim::for_asset(asset, self.seed);
        Faulty::new(device, self.faults_dir.as_deref(), asset.id)
    }
}
