//! What the headend costs, beside a bare gRPC server that only decodes, keeps the latest value and
//! acknowledges. Run by `cargo xtask bench`; `docs/performance.md` tells what the figures mean.
//!
//! Three programs in one: the servers (`headend`, `bare`), the load (`load`), and the director
//! that starts them, each on a core of its own, and judges what they say. The director talks to
//! the others in lines of JSON over their standard streams.

mod fleet;
mod load;
mod run;
mod server;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "derms-bench")]
struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: run::Options,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The headend of the SDK.
    #[command(hide = true)]
    Headend {
        agents: u32,
        /// Where it stores; in memory if not given.
        #[arg(long)]
        store: Option<String>,
    },
    /// A bare gRPC server.
    #[command(hide = true)]
    Bare,
    /// Many agents in one process.
    #[command(hide = true)]
    Load,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.part {
        None => run::run(&args.run),
        Some(Part::Headend { agents, store }) => server::headend::run(agents, store.as_deref()),
        Some(Part::Bare) => server::bare::run(),
        Some(Part::Load) => load::run(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            words::complain(&format!("derms-bench: {error}"));
            ExitCode::FAILURE
        }
    }
}
