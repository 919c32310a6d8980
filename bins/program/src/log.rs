//! The log: to stderr, as text or JSON.

use std::io::IsTerminal as _;
use std::str::FromStr as _;

use clap::{Args, ValueEnum};
use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
#[cfg(feature = "otel")]
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

pub use self::spans::Log;
use crate::Failure;

const REMEDY: &str =
    "write error, warn, info, debug, trace or off, or a module with one: derms_agent_sdk=debug";

/// The flag for the form of the log, for `#[command(flatten)]`.
#[derive(Debug, Clone, Copy, Args)]
pub struct LogArgs {
    /// How it logs, to stderr; RUST_LOG says how much (default: info)
    #[arg(
        long,
        global = true,
        env = "LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    Text,
    /// For programs: one object a line, with the fields of the event beside `message`.
    Json,
}

impl LogFormat {
    /// As it is written in the flag.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Starts to log, to stderr; `RUST_LOG` says how much, `info` if it is not set. Once per process.
/// Lines that nobody reads any more are lost, and the program goes on.
///
/// # Errors
/// `RUST_LOG` can't be read. A word that is no level is refused too: it would be taken for a
/// module, and a mistyped level would silence the program. With `otel`: the address of the collector
/// is none.
pub fn start_log(program: &'static str, format: LogFormat) -> Result<Log, Failure> {
    let filter = filter(std::env::var_os("RUST_LOG").unwrap_or_default().to_str())?;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // It would tell of a failed write with `eprintln!`, which panics when nobody reads stderr.
        .log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    spans::start(program, subscriber)
}

/// Spans go to a collector.
#[cfg(feature = "otel")]
mod spans {
    use super::*;
    use crate::otel;

    /// What was begun with the log. To be kept until the program ends: it sends the last spans then.
    #[derive(Debug)]
    #[must_use = "the last spans are sent when it is dropped"]
    pub struct Log {
        _exporting: Option<otel::Exporting>,
    }

    pub(super) fn start(
        program: &'static str,
        subscriber: impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    ) -> Result<Log, Failure> {
        let (export, exporting) = otel::start(program)?.unzip();
        let export = export.map(|export| export.with_filter(otel::filter()));
        subscriber.with(export).init();
        Ok(Log {
            _exporting: exporting,
        })
    }
}

/// Spans go nowhere.
#[cfg(not(feature = "otel"))]
mod spans {
    use super::*;

    /// What was begun with the log, to be kept until the program ends.
    #[derive(Debug)]
    #[must_use = "it is kept until the program ends"]
    pub struct Log(());

    pub(super) fn start(
        _: &'static str,
        subscriber: impl Subscriber + Send + Sync,
    ) -> Result<Log, Failure> {
        subscriber.init();
        Ok(Log(()))
    }
}

/// The filter that this text (`None`: no UTF-8) stands for.
fn filter(text: Option<&str>) -> Result<EnvFilter, Failure> {
    let bad = |what: String| Failure::configuration(format!("RUST_LOG: {what}; {REMEDY}"));
    let text = text.ok_or_else(|| bad("it is not UTF-8 text".to_owned()))?;
    for word in text.split(',').map(str::trim) {
        let bare = !word.is_empty() && !word.contains(['=', '[', ']', '{', '}']);
        if bare && LevelFilter::from_str(word).is_err() {
            return Err(bad(format!("`{word}` is no level")));
        }
    }
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(text)
        .map_err(|error| bad(format!("`{text}`: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_modules_with_levels_are_taken() {
        for (text, shown) in [
            ("", "info"),
            ("warn", "warn"),
            ("OFF", "off"),
            ("warn,derms_agent_sdk=debug", "derms_agent_sdk=debug,warn"),
            ("[agent]=trace", "[agent]=trace"),
        ] {
            assert_eq!(filter(Some(text)).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_would_silence_the_log_by_a_slip_is_refused_with_an_example() {
        for text in [
            Some("inof"),
            Some("warn,nonsense"),
            Some("a=verbose"),
            Some("=,="),
            None,
        ] {
            let failure = filter(text).unwrap_err();
            assert_eq!(failure.code(), 64);
            let line = failure.line();
            assert!(
                line.starts_with("RUST_LOG: ") && line.contains(REMEDY),
                "{line}"
            );
        }
    }

    #[test]
    fn a_format_is_written_as_its_flag_takes_it() {
        for format in LogFormat::value_variants() {
            assert_eq!(
                LogFormat::from_str(format.as_str(), false).as_ref(),
                Ok(format)
            );
        }
    }
}
