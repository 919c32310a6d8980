//! How long history is kept, as flags.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use derms_headend_sdk::store::Retention;

/// Days, or for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Days(Option<u32>);

impl FromStr for Days {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "forever" {
            return Ok(Self(None));
        }
        match text.parse() {
            Ok(days @ 1..) => Ok(Self(Some(days))),
            _ => Err("write a number of days from 1, or `forever`"),
        }
    }
}

/// Flags and environment. The defaults are those of the library.
#[derive(Debug, Args)]
pub(crate) struct RetentionArgs {
    /// Days that telemetry and its gaps are kept, or `forever`
    #[arg(
        long,
        env = "RETENTION_TELEMETRY_DAYS",
        value_name = "DAYS",
        default_value = "30",
        global = true
    )]
    telemetry_days: Days,

    /// Days that heartbeats are kept, or `forever`
    #[arg(
        long,
        env = "RETENTION_HEARTBEAT_DAYS",
        value_name = "DAYS",
        default_value = "7",
        global = true
    )]
    heartbeat_days: Days,

    /// Days that sessions are kept after their end, or `forever`
    #[arg(
        long,
        env = "RETENTION_SESSION_DAYS",
        value_name = "DAYS",
        default_value = "365",
        global = true
    )]
    session_days: Days,

    /// Days that events are kept, or `forever`
    #[arg(
        long,
        env = "RETENTION_EVENT_DAYS",
        value_name = "DAYS",
        default_value = "365",
        global = true
    )]
    event_days: Days,

    /// Days that reports that moved no order are kept, or `forever`
    #[arg(
        long,
        env = "RETENTION_REPORT_DAYS",
        value_name = "DAYS",
        default_value = "365",
        global = true
    )]
    report_days: Days,

    /// Days that orders are kept after their end, with all their steps, or `forever`
    #[arg(
        long,
        env = "RETENTION_DISPATCH_DAYS",
        value_name = "DAYS",
        default_value = "1825",
        global = true
    )]
    dispatch_days: Days,

    /// Days that limits and stops are kept after their end, or `forever`
    #[arg(
        long,
        env = "RETENTION_LIMIT_DAYS",
        value_name = "DAYS",
        default_value = "1825",
        global = true
    )]
    limit_days: Days,

    /// Days that records of the audit trail are kept, or `forever`
    #[arg(
        long,
        env = "RETENTION_AUDIT_DAYS",
        value_name = "DAYS",
        default_value = "1825",
        global = true
    )]
    audit_days: Days,
}

impl RetentionArgs {
    pub(crate) fn retention(&self) -> Retention {
        let mut retention = Retention::default();
        retention.telemetry = kept(self.telemetry_days);
        retention.heartbeats = kept(self.heartbeat_days);
        retention.sessions = kept(self.session_days);
        retention.events = kept(self.event_days);
        retention.reports = kept(self.report_days);
        retention.dispatches = kept(self.dispatch_days);
        retention.limits = kept(self.limit_days);
        retention.audit = kept(self.audit_days);
        retention
    }
}

fn kept(days: Days) -> Option<Duration> {
    days.0
        .map(|days| Duration::from_secs(u64::from(days) * 24 * 3600))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        retention: RetentionArgs,
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let program = Program::try_parse_from(["x"]).unwrap();
        assert_eq!(program.retention.retention(), Retention::default());
    }

    #[test]
    fn days_are_counted_from_one_and_forever_is_a_word() {
        assert_eq!("7".parse(), Ok(Days(Some(7))));
        assert_eq!("forever".parse(), Ok(Days(None)));
        for text in ["0", "-1", "1.5", "", "never"] {
            assert!(text.parse::<Days>().is_err(), "{text}");
        }
    }
}
