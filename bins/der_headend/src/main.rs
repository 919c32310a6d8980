//! A DERMS headend, as it is: `der_headend --help`.

mod access;
mod args;
mod bounds;
mod capacity;
mod check;
mod database;
mod db;
mod link;
mod listen;
mod pki;
mod retention;
mod safe_start;
mod token;

use std::process::ExitCode;

use derms_headend_sdk::Headend;
use derms_program::{Failure, Signals, Stop, chain};

use crate::args::{Config, Job};
use crate::listen::listen;

fn main() -> ExitCode {
    derms_program::exit(env!("CARGO_PKG_NAME"), start())
}

fn start() -> Result<(), Stop> {
    let job = Job::parse(std::env::args_os())?;
    let _log = derms_program::start_log(
        env!("CARGO_PKG_NAME"),
        match &job {
            Job::Serve(config) => config.log_format,
            Job::Db { log_format, .. }
            | Job::Pki { log_format, .. }
            | Job::Token { log_format, .. }
            | Job::Check { log_format, .. } => *log_format,
        },
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::start(format!("can't start: {error}")))?;
    Ok(runtime.block_on(async {
        match job {
            Job::Serve(config) => run(*config).await,
            Job::Db {
                task,
                database,
                retention,
                ..
            } => db::run(&task, database, &retention).await,
            Job::Pki { args, .. } => pki::run(&args),
            Job::Token { task, file, .. } => token::run(&task, &file),
            Job::Check { given, report, .. } => check::run(*given, report).await,
        }
    })?)
}

async fn run(config: Config) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let one_port = config.one_port();
    let (sites, assets) = (config.fleet.sites().len(), config.fleet.assets().len());
    let store = config.database.name();
    for reason in &config.unsafe_because {
        tracing::warn!("INSECURE: {reason}");
    }
    let tls = config.link.tls.is_some();
    let builder = Headend::builder(config.fleet)
        .retention(config.retention)
        .max_assets_per_agent(config.max_assets_per_agent);
    let builder = config.link.give_to(builder);
    let builder = config.bounds.give_to(config.access.give_to(builder));
    let builder = config.capacity.give_to(builder);
    let headend = config
        .database
        .give_to(builder)
        .await?
        .build()
        .await
        .map_err(|error| Failure::start(chain(&error)))?;

    let (http, http_addr) = listen(config.http_addr, "--http-addr", "HEADEND_HTTP_ADDR")?;
    let (listeners, grpc_addr) = if one_port {
        (vec![(http, headend.service())], http_addr)
    } else {
        let (grpc, grpc_addr) = listen(config.grpc_addr, "--grpc-addr", "HEADEND_GRPC_ADDR")?;
        let rest = (http, headend.rest_service());
        (vec![rest, (grpc, headend.grpc_service())], grpc_addr)
    };
    tracing::info!(%http_addr, %grpc_addr, sites, assets, store, tls, "headend listens");
    let addresses = serde_json::json!({ "http_addr": http_addr, "grpc_addr": grpc_addr });
    derms_program::say(&format!("{addresses}\n"));

    let shutdown = async {
        tokio::select! {
            () = signals.next() => tracing::info!("asked to stop; draining"),
            () = derms_program::parent_gone(), if config.exit_with_parent => {
                tracing::info!("the launcher is gone; draining");
            }
        }
    };
    headend.serve(listeners, shutdown).await;
    if headend.is_taken_over() {
        return Err(Failure::start(
            "another headend has taken the database over; see that one runs for a database",
        ));
    }
    tracing::info!("stopped");
    Ok(())
}
