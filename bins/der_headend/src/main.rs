//! A DERMS headend, as it is: `der_headend --help`.

mod args;

use std::error::Error;
use std::process::ExitCode;

use args::{Args, LogFormat};
use clap::Parser as _;
use derms_headend_sdk::proto::Fleet;
use derms_headend_sdk::Headend;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// `EX_USAGE` of sysexits.h.
const BAD_CONFIGURATION: u8 = 64;
const FAILED_START: u8 = 1;

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A failed print leaves nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { BAD_CONFIGURATION } else { 0 });
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    let fleet = match args.check().and_then(|()| Fleet::load(&args.assets).map_err(|e| e.to_string())) {
        Ok(fleet) => fleet,
        Err(error) => return fail(BAD_CONFIGURATION, &error),
    };
    match run(&args, fleet).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(|cause| format!(" ({cause})")).unwrap_or_default();
            fail(FAILED_START, &format!("{error}{cause}"))
        }
    }
}

async fn run(args: &Args, fleet: Fleet) -> Result<(), Box<dyn Error>> {
    let (sites, assets) = (fleet.sites().len(), fleet.assets().len());
    let mut terminate = signal(SignalKind::terminate())?;
    let headend = Headend::builder(fleet).build().await?;
    let http = Headend::bind(args.http_addr)?;
    let http_addr = http.local_addr()?;
    let (listeners, grpc_addr) = if args.one_port() {
        (vec![(http, headend.service())], http_addr)
    } else {
        let grpc = Headend::bind(args.grpc_addr)?;
        let grpc_addr = grpc.local_addr()?;
        (vec![(http, headend.rest_service()), (grpc, headend.grpc_service())], grpc_addr)
    };
    tracing::info!(%http_addr, %grpc_addr, sites, assets, store = "memory", "headend listens");
    let addresses = serde_json::json!({ "http_addr": http_addr, "grpc_addr": grpc_addr });
    let mut stdout = tokio::io::stdout();
    // Nobody may be reading: the log has said it too.
    let _ = stdout.write_all(format!("{addresses}\n").as_bytes()).await;
    let _ = stdout.flush().await;

    let shutdown = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => tracing::info!("interrupted; draining"),
            _ = terminate.recv() => tracing::info!("asked to terminate; draining"),
            () = parent_gone(), if args.exit_with_parent => tracing::info!("the launcher is gone; draining"),
        }
    };
    headend.serve(listeners, shutdown).await;
    tracing::info!("stopped");
    Ok(())
}

async fn parent_gone() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    while matches!(stdin.read(&mut buffer).await, Ok(1..)) {}
}

fn fail(code: u8, text: &str) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "der_headend: {text}");
    ExitCode::from(code)
}
