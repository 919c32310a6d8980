//! The numbers that a headend can run by.

use std::time::Duration;

use crate::config::Config;
use crate::error::BuildError;

/// The longest interval; far above what is useful, far below where adding to a time overflows.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// An agent spreads over no more than this, whatever it is told.
const HOUR: Duration = Duration::from_secs(3600);

/// Room for a few of the largest batches.
const LEAST_BACKLOG: usize = 1 << 20;

/// Room for one item of the largest size.
const LEAST_RING: usize = 64 << 10;

pub(super) fn check(config: &Config) -> Result<(), BuildError> {
    let millisecond = Duration::from_millis(1);
    let durations = [
        (
            "telemetry_interval",
            config.telemetry_interval,
            millisecond,
            "give 1 ms to 1 day",
        ),
        (
            "heartbeat_interval",
            config.heartbeat_interval,
            millisecond,
            "give 1 ms to 1 day",
        ),
        (
            "reload_interval",
            config.reload_interval,
            millisecond,
            "give 1 ms to 1 day",
        ),
        (
            "drain_limit",
            config.drain_limit,
            Duration::ZERO,
            "give at most 1 day",
        ),
        (
            "following_settling",
            config.following.settling,
            Duration::ZERO,
            "give at most 1 day",
        ),
    ];
    for (setting, value, least, remedy) in durations {
        if !(least..=DAY).contains(&value) {
            return Err(BuildError::OutOfRange { setting, remedy });
        }
    }
    if config.limits.backfill_spread > HOUR {
        return Err(BuildError::OutOfRange {
            setting: "backfill",
            remedy: "spread it over at most 1 hour",
        });
    }
    let rules = &config.following;
    if !(0.0..=1.0).contains(&rules.tolerance_share)
        || !(0.0..f64::INFINITY).contains(&rules.tolerance_least.mw())
    {
        return Err(BuildError::OutOfRange {
            setting: "following_tolerance",
            remedy: "give a share from 0 to 1 and a power not below 0",
        });
    }
    if !(1..=1_024).contains(&config.limits.max_assets) {
        return Err(BuildError::OutOfRange {
            setting: "max_assets_per_agent",
            remedy: "give 1 to 1,024",
        });
    }
    if config.ingest.bytes < LEAST_BACKLOG {
        return Err(BuildError::OutOfRange {
            setting: "store_backlog",
            remedy: "give at least 1 MiB",
        });
    }
    for (setting, most) in [
        ("max_mw_per_dispatch", config.power.per_dispatch),
        ("max_mw_per_minute", config.power.per_minute),
    ] {
        if most.is_some_and(|most| !(most.mw() > 0.0 && most.is_finite())) {
            return Err(BuildError::OutOfRange {
                setting,
                remedy: "give a power above 0",
            });
        }
    }
    if config.rates.per_second == 0 || config.rates.burst == 0 {
        return Err(BuildError::OutOfRange {
            setting: "rate_limit",
            remedy: "give at least 1 and 1",
        });
    }
    if !(1..=tokio::sync::Semaphore::MAX_PERMITS).contains(&config.rates.in_hand) {
        return Err(BuildError::OutOfRange {
            setting: "max_requests",
            remedy: "give at least 1",
        });
    }
    if !(1..=tokio::sync::Semaphore::MAX_PERMITS).contains(&config.rates.streams) {
        return Err(BuildError::OutOfRange {
            setting: "max_live_streams",
            remedy: "give at least 1",
        });
    }
    if config.live.items == 0 || config.live.bytes < LEAST_RING {
        return Err(BuildError::OutOfRange {
            setting: "live_ring",
            remedy: "give at least 1 item and 64 KiB",
        });
    }
    if !config.cors_origins.iter().all(|origin| is_origin(origin)) {
        return Err(BuildError::OutOfRange {
            setting: "cors_origins",
            remedy: "give each as a browser sends it, like https://control.example",
        });
    }
    if config.max_sessions == 0 {
        return Err(BuildError::OutOfRange {
            setting: "max_sessions",
            remedy: "give at least 1",
        });
    }
    if config.max_connections_per_address == 0 {
        return Err(BuildError::OutOfRange {
            setting: "max_connections_per_address",
            remedy: "give at least 1",
        });
    }
    Ok(())
}

/// Scheme and authority and nothing else, as in the header `Origin`: no path, and no `*`.
fn is_origin(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(good))
}

#[cfg(test)]
mod tests {
    use derms_proto::{Fleet, Power};

    use super::*;
    use crate::{Headend, HeadendBuilder};

    fn builder() -> HeadendBuilder {
        Headend::builder(Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml").unwrap())
    }

    #[tokio::test]
    async fn a_setting_out_of_its_range_is_an_error_that_names_it() {
        for (builder, name) in [
            (
                builder().telemetry_interval(Duration::ZERO),
                "telemetry_interval",
            ),
            (
                builder().telemetry_interval(Duration::MAX),
                "telemetry_interval",
            ),
            (
                builder().heartbeat_interval(Duration::ZERO),
                "heartbeat_interval",
            ),
            (
                builder().heartbeat_interval(Duration::MAX),
                "heartbeat_interval",
            ),
            (builder().drain_limit(Duration::MAX), "drain_limit"),
            (builder().backfill(Duration::MAX, 1), "backfill"),
            (
                builder().following_settling(Duration::MAX),
                "following_settling",
            ),
            (
                builder().following_tolerance(1.5, Power::ZERO),
                "following_tolerance",
            ),
            (
                builder().following_tolerance(0.1, Power::from_mw(f64::NAN)),
                "following_tolerance",
            ),
            (builder().max_sessions(0), "max_sessions"),
            (
                builder().max_connections_per_address(0),
                "max_connections_per_address",
            ),
            (
                builder().max_mw_per_dispatch(Power::ZERO),
                "max_mw_per_dispatch",
            ),
            (
                builder().max_mw_per_minute(Power::from_mw(f64::NAN)),
                "max_mw_per_minute",
            ),
            (builder().rate_limit(0, 1), "rate_limit"),
            (builder().rate_limit(1, 0), "rate_limit"),
            (builder().max_requests(0), "max_requests"),
            (builder().max_live_streams(0), "max_live_streams"),
            (builder().live_ring(0, 1 << 20), "live_ring"),
            (builder().live_ring(1, 0), "live_ring"),
            (builder().cors_origins(["*"]), "cors_origins"),
            (
                builder().cors_origins(["https://a.example/"]),
                "cors_origins",
            ),
            (builder().cors_origins(["null"]), "cors_origins"),
            (builder().store_backlog(0), "store_backlog"),
            (builder().max_assets_per_agent(0), "max_assets_per_agent"),
            (
                builder().max_assets_per_agent(1_025),
                "max_assets_per_agent",
            ),
        ] {
            let error = builder.build().await.unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
        builder().drain_limit(Duration::ZERO).build().await.unwrap();
    }
}
