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
            .drain_limit(Duration::from_secs(self.drain_s))
    }
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
