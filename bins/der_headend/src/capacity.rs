//! How much the headend takes on, as flags.

use std::time::Duration;

use clap::Args;
use derms_headend_sdk::HeadendBuilder;

/// Bytes in a MiB.
const MIB: usize = 1 << 20;

/// Flags and environment.
#[derive(Debug, Args)]
#[command(next_help_heading = "Capacity")]
pub(crate) struct CapacityArgs {
    /// Seconds between two measurements that agents send, 1 to 86400; a value is stale after three
    #[arg(
        long,
        global = true,
        env = "HEADEND_TELEMETRY_S",
        value_name = "SECONDS",
        default_value = "4",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    telemetry_s: u64,

    /// Most agents at one time; those beyond are told to come back later
    #[arg(
        long,
        global = true,
        env = "HEADEND_MAX_AGENTS",
        value_name = "COUNT",
        default_value = "20000",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    max_agents: u32,

    /// Most connections of one address (of IPv6: one /64) at one time, for agents and REST together,
    /// trusted proxies aside; more are closed at once
    #[arg(
        long,
        global = true,
        env = "HEADEND_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "COUNT",
        default_value = "9500",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    max_connections_per_address: u32,

    /// Most calls of REST in hand at one time, of all callers; stops and cancels are always taken
    #[arg(
        long,
        global = true,
        env = "REST_MAX_REQUESTS",
        value_name = "COUNT",
        default_value = "1024",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    max_requests: u32,

    /// Most readers of the live stream at one time; no principal has more than an eighth of them
    #[arg(
        long,
        global = true,
        env = "REST_MAX_LIVE_STREAMS",
        value_name = "COUNT",
        default_value = "256",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    max_live_streams: u32,

    /// How many measurements are remembered for readers of the live stream, and as much of all else:
    /// who falls further behind begins anew
    #[arg(
        long,
        global = true,
        env = "REST_LIVE_RING",
        value_name = "COUNT",
        default_value = "16384",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    live_ring: u32,

    /// Most memory for that, MiB, 1 to 65536, twice
    #[arg(
        long,
        global = true,
        env = "REST_LIVE_RING_MIB",
        value_name = "MIB",
        default_value = "16",
        value_parser = clap::value_parser!(u32).range(1..=65_536)
    )]
    live_ring_mib: u32,

    /// Most memory for measurements that wait for the store, MiB, 1 to 65536, as much again for
    /// reports and for heartbeats; what is beyond it agents keep and send again
    #[arg(
        long,
        global = true,
        env = "HEADEND_STORE_BACKLOG_MIB",
        value_name = "MIB",
        default_value = "64",
        value_parser = clap::value_parser!(u32).range(1..=65_536)
    )]
    store_backlog_mib: u32,

    /// Seconds over which agents that come back begin to send what they measured meanwhile, each at
    /// random, 0 to 3600
    #[arg(
        long,
        global = true,
        env = "HEADEND_BACKFILL_SPREAD_S",
        value_name = "SECONDS",
        default_value = "30",
        value_parser = clap::value_parser!(u64).range(0..=3_600)
    )]
    backfill_spread_s: u64,

    /// Batches of up to 256 samples that each of them sends a second then; 0 is no limit
    #[arg(
        long,
        global = true,
        env = "HEADEND_BACKFILL_BATCHES_PER_S",
        value_name = "COUNT",
        default_value = "20"
    )]
    backfill_batches_per_s: u32,

    /// Seconds that a stop waits for open streams and calls before it cuts them, 0 to 3600
    #[arg(
        long,
        global = true,
        env = "HEADEND_DRAIN_S",
        value_name = "SECONDS",
        default_value = "10",
        value_parser = clap::value_parser!(u64).range(0..=3_600)
    )]
    drain_s: u64,
}

impl CapacityArgs {
    pub(crate) fn give_to(self, builder: HeadendBuilder) -> HeadendBuilder {
        let bytes = |mib: u32| size(mib).saturating_mul(MIB);
        builder
            .telemetry_interval(Duration::from_secs(self.telemetry_s))
            .max_sessions(size(self.max_agents))
            .max_connections_per_address(size(self.max_connections_per_address))
            .max_requests(size(self.max_requests))
            .max_live_streams(size(self.max_live_streams))
            .live_ring(size(self.live_ring), bytes(self.live_ring_mib))
            .store_backlog(bytes(self.store_backlog_mib))
            .backfill(
                Duration::from_secs(self.backfill_spread_s),
                self.backfill_batches_per_s,
            )
            .drain_limit(Duration::from_secs(self.drain_s))
    }
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use derms_headend_sdk::Headend;
    use derms_headend_sdk::proto::Fleet;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        capacity: CapacityArgs,
    }

    /// The settings of a headend, as text.
    fn settings(flags: Option<&[&str]>) -> String {
        let fleet = Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml").unwrap();
        let builder = Headend::builder(fleet);
        let builder = match flags {
            Some(flags) => {
                let all = std::iter::once(&"der_headend").chain(flags);
                Flags::parse_from(all).capacity.give_to(builder)
            }
            None => builder,
        };
        format!("{builder:?}")
    }

    #[test]
    fn without_flags_the_headend_takes_on_what_the_sdk_says() {
        assert_eq!(settings(Some(&[])), settings(None));
    }

    #[test]
    fn each_flag_sets_what_it_names() {
        for (flags, setting) in [
            (["--telemetry-s", "7"], "telemetry_interval: 7s"),
            (["--max-agents", "7"], "max_sessions: 7"),
            (
                ["--max-connections-per-address", "7"],
                "max_connections_per_address: 7",
            ),
            (["--max-requests", "7"], "in_hand: 7"),
            (["--max-live-streams", "7"], "streams: 7"),
            (["--live-ring", "7"], "Bounds { items: 7, bytes: 16777216 }"),
            (
                ["--live-ring-mib", "7"],
                "Bounds { items: 16384, bytes: 7340032 }",
            ),
            (
                ["--store-backlog-mib", "7"],
                "Bounds { batches: 262144, bytes: 7340032 }",
            ),
            (["--backfill-spread-s", "7"], "backfill_spread: 7s"),
            (
                ["--backfill-batches-per-s", "7"],
                "backfill_batches_per_s: 7",
            ),
            (["--drain-s", "7"], "drain_limit: 7s"),
        ] {
            let settings = settings(Some(&flags));
            assert!(settings.contains(setting), "{flags:?}: {settings}");
        }
    }
}
