//! Starts a fleet of simulated agents, and a headend for them: for tests and bring-up.

mod access;
mod agents;
mod children;
mod config;
mod connected;
mod headend;
mod launch;
mod pki;
mod report;
mod siblings;

use std::process::ExitCode;

use derms_program::Stop;

use crate::config::Config;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    derms_program::exit(env!("CARGO_PKG_NAME"), start().await)
}

async fn start() -> Result<(), Stop> {
    let config = Config::parse(std::env::args_os())?;
    let _log = derms_program::start_log(env!("CARGO_PKG_NAME"), config.log_format)?;
    Ok(launch::run(&config).await?)
}
