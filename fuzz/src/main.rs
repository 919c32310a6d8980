//! `cargo xtask fuzz` in its working clothes.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks on its standard streams"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use derms_fuzz::supervise::{Outcome, supervise};
use derms_fuzz::worker::{Work, replay, work};
use derms_fuzz::{Target, targets};

/// Feeds mutated inputs to the decoders of what strangers send.
#[derive(Debug, Parser)]
#[command(name = "derms-fuzz")]
struct Args {
    /// The decoders to feed; all if none is named.
    target: Vec<String>,
    /// Print what there is, and feed nothing.
    #[arg(long)]
    list: bool,
    /// How long to feed each, after the inputs of its corpus.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Chooses the mutations; the same number gives the same ones.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// Where inputs that broke a decoder are kept.
    #[arg(long, value_name = "DIR", default_value = "target/fuzz")]
    findings: PathBuf,
    /// Feed this file alone to the one decoder that is named.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Be the process that may break, with the input at hand in this file.
    #[arg(long, value_name = "FILE", hide = true)]
    worker: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    if args.list {
        for target in targets::ALL {
            println!("{:<16} {}", target.name, target.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&args.target)?;
    if args.replay.is_some() && chosen.len() != 1 {
        return Err("name the one target that the file is for".into());
    }
    if let (Some(current), Some(target)) = (&args.worker, chosen.first()) {
        return be_worker(args, current, target);
    }
    let mut broken = 0;
    for target in chosen {
        broken += u32::from(!supervised(args, target)?);
    }
    Ok(if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>, Box<dyn Error>> {
    if names.is_empty() {
        return Ok(targets::ALL.iter().collect());
    }
    let find = |name: &String| {
        targets::named(name).ok_or_else(|| format!("no target {name}; see --list").into())
    };
    names.iter().map(find).collect()
}

fn be_worker(args: &Args, current: &Path, target: &Target) -> Result<ExitCode, Box<dyn Error>> {
    if let Some(file) = &args.replay {
        println!("{:?}", replay(target, current, &std::fs::read(file)?)?);
        return Ok(ExitCode::SUCCESS);
    }
    let done = work(
        target,
        &Work {
            current: current.to_owned(),
            time: Duration::from_secs(args.seconds),
            seed: args.seed,
        },
    )?;
    println!("{} inputs, {} of them taken", done.runs, done.taken);
    Ok(ExitCode::SUCCESS)
}

/// Whether nothing was found.
fn supervised(args: &Args, target: &Target) -> Result<bool, Box<dyn Error>> {
    std::fs::create_dir_all(&args.findings)?;
    let current = args.findings.join(format!("{}.now", target.name));
    let mut worker = Command::new(std::env::current_exe()?);
    // Each thread would reserve address space by the 64 MiB, and take it for memory.
    worker.env("MALLOC_ARENA_MAX", "1");
    worker.arg(target.name).arg("--worker").arg(&current);
    worker.args(["--seconds", &args.seconds.to_string()]);
    worker.args(["--seed", &args.seed.to_string()]);
    let mut time = Duration::from_secs(args.seconds);
    if let Some(file) = &args.replay {
        worker.arg("--replay").arg(file);
        time = Duration::ZERO;
    }
    let outcome = supervise(&mut worker, target.name, &current, &args.findings, time)?;
    match outcome {
        Outcome::Clean(said) => {
            println!("{:<16} {}", target.name, said.trim_end());
            Ok(true)
        }
        Outcome::Broken(finding) => {
            println!(
                "{:<16} FOUND a {} by {}; try it again with `cargo xtask fuzz {} --replay {}`",
                target.name,
                finding.kind,
                finding.path.display(),
                target.name,
                finding.path.display()
            );
            Ok(false)
        }
    }
}
