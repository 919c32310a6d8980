//! The command line of an operator: `derms --help`.

mod args;
mod ask;
mod audit;
mod connection;
mod dispatch;
mod events;
mod export;
mod fault;
mod fleet;
mod health;
mod input;
mod limit;
mod lists;
mod names;
mod order;
mod out;
mod stop;
mod table;
mod telemetry;
mod watch;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory as _;
use derms_program::{Failure, Stop};

use crate::args::{Args, Command, DispatchTask, EventsTask, LimitTask, StopTask, TelemetryTask};
use crate::connection::Session;

/// How every command ends. `Stop::Text` with nothing in it: whoever read the output is gone.
type Outcome<T = ()> = Result<T, Stop>;

fn main() -> ExitCode {
    let result = start(std::env::args_os()).map_err(|stop| match stop {
        // Texts of the headend are in it.
        Stop::Failed(failure) => {
            Stop::Failed(Failure::new(failure.code(), words::clean(failure.line())))
        }
        text @ Stop::Text(_) => text,
    });
    derms_program::exit(env!("CARGO_PKG_NAME"), result)
}

fn start(args: impl IntoIterator<Item = OsString>) -> Outcome {
    let args: Args = derms_program::parse(args)?;
    if let Command::Completion { shell } = args.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "derms", &mut script);
        return out::print(&String::from_utf8_lossy(&script));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::start(format!("can't start: {error}")))?;
    let session = args.connection.open()?;
    runtime.block_on(run(&session, args.command))
}

async fn run(session: &Session, command: Command) -> Outcome {
    match command {
        Command::Assets { asset } => fleet::assets(session, asset.as_deref()).await,
        Command::Sites => fleet::sites(session).await,
        Command::Agents(args) => fleet::agents(session, &args).await,
        Command::Telemetry(args) => match args.task {
            Some(TelemetryTask::History(history)) => telemetry::history(session, &history).await,
            None => telemetry::latest(session, args.asset.as_deref()).await,
        },
        Command::Watch(target) => watch::run(session, &target).await,
        Command::Events(args) => match args.task {
            Some(EventsTask::Show { id }) => events::show(session, &id).await,
            Some(EventsTask::Ack { id, note }) => {
                events::acknowledge(session, &id, note.as_deref()).await
            }
            None => events::list(session, &args.filter).await,
        },
        Command::Dispatch(args) => match args.task {
            Some(DispatchTask::Show { id }) => dispatch::show(session, &id).await,
            Some(DispatchTask::List(filter)) => dispatch::list(session, &filter).await,
            None => order::give(session, &args.order).await,
        },
        Command::Cancel { id } => dispatch::cancel(session, &id).await,
        Command::Limit { task } => match task {
            LimitTask::Set(args) => limit::set(session, &args).await,
            LimitTask::Remove { id } => limit::remove(session, &id).await,
            LimitTask::List(args) => limit::list(session, &args).await,
        },
        Command::Stop(args) => match args.task {
            Some(StopTask::List { history }) => stop::list(session, history).await,
            Some(StopTask::Show { id }) => stop::show(session, &id).await,
            None => stop::stop(session, &args.order).await,
        },
        Command::Resume { id, within } => stop::resume(session, &id, within).await,
        Command::Audit(args) => audit::list(session, &args).await,
        Command::Export(args) => export::run(session, &args).await,
        Command::Health => health::run(session).await,
        // Needs no headend: it was done before.
        Command::Completion { .. } => Ok(()),
    }
}
