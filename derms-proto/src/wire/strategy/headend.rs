//! What headends send.

use proptest::collection::vec;

use super::*;
use crate::link::*;
use crate::*;

pub(in crate::wire) fn headend_message() -> impl Strategy<Value = HeadendMessage> {
    prop_oneof![
        registered().prop_map(HeadendMessage::Registered),
        setpoint().prop_map(HeadendMessage::Setpoint),
        (id(), id(), 1_u64.., any::<u64>()).prop_map(|(asset_id, dispatch_id, revision, epoch)| {
            HeadendMessage::Release(ReleaseOrder {
                asset_id,
                dispatch_id,
                revision,
                epoch,
            })
        }),
        asset_limits().prop_map(HeadendMessage::AssetLimits),
        log_ack().prop_map(HeadendMessage::LogAck),
        (any::<u64>(), timestamp()).prop_map(|(ns, server_time)| HeadendMessage::HeartbeatAck {
            monotonic: Duration::from_nanos(ns),
            server_time,
        }),
        any::<u64>().prop_map(|nonce| HeadendMessage::Ping { nonce }),
        (any::<u32>(), duration()).prop_map(|(backfill_batches_per_s, hold)| {
            HeadendMessage::Throttle {
                backfill_batches_per_s,
                hold,
            }
        }),
        any::<u64>().prop_map(|epoch| HeadendMessage::Resync { epoch }),
        (any::<u64>(), vec(grant(), 0..4))
            .prop_map(|(epoch, grants)| HeadendMessage::Grants { epoch, grants }),
        close().prop_map(HeadendMessage::Close),
        Just(HeadendMessage::Unknown),
    ]
}

fn registered() -> impl Strategy<Value = Registered> {
    let cursor = (log_kind(), id(), 1..=MAX_SEQ).prop_map(|(kind, log_id, next_seq)| LogCursor {
        kind,
        log_id,
        next_seq,
    });
    let times = (timestamp(), interval(), interval(), interval());
    let lists = (vec(cursor, 0..3), vec(grant(), 0..4), vec(text(), 0..3));
    (1_u64.., times, limits(), lists, any::<bool>(), any::<u32>()).prop_map(
        |(epoch, times, limits, lists, durable_acks, protocol_minor)| {
            let (server_time, telemetry_interval, heartbeat_interval, liveness_timeout) = times;
            let (logs, grants, capabilities) = lists;
            Registered {
                epoch,
                server_time,
                telemetry_interval,
                heartbeat_interval,
                liveness_timeout,
                limits,
                logs,
                grants,
                durable_acks,
                capabilities,
                protocol_minor,
            }
        },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    (proptest::array::uniform4(1_u32..), duration(), any::<u32>()).prop_map(
        |(sizes, backfill_spread, backfill_batches_per_s)| Limits {
            max_message_bytes: sizes[0],
            max_assets: sizes[1],
            max_batch_samples: sizes[2],
            max_unacked_batches: sizes[3],
            backfill_spread,
            backfill_batches_per_s,
        },
    )
}

fn grant() -> impl Strategy<Value = Grant> {
    let status = select(vec![
        GrantStatus::Granted,
        GrantStatus::UnknownAsset,
        GrantStatus::Forbidden,
        GrantStatus::ServedElsewhere,
        GrantStatus::Invalid,
        GrantStatus::TooMany,
        GrantStatus::Unknown,
    ]);
    (id(), status, any::<u64>(), of(text())).prop_map(|(asset_id, status, last_revision, text)| {
        Grant {
            asset_id,
            status,
            last_revision,
            text,
        }
    })
}

fn setpoint() -> impl Strategy<Value = SetpointOrder> {
    let then = prop_oneof![
        Just(FollowUp::Default),
        Just(FollowUp::Hold),
        power().prop_map(FollowUp::Value),
    ];
    let which = (id(), id(), 1_u64.., any::<u64>());
    (
        which,
        power(),
        of(lease()),
        (timestamp(), of(timestamp())),
        of(positive()),
        then,
    )
        .prop_map(
            |(which, power, duration, (start_deadline, start_at), ramp_mw_per_min, then)| {
                let (asset_id, dispatch_id, revision, epoch) = which;
                SetpointOrder {
                    asset_id,
                    dispatch_id,
                    revision,
                    epoch,
                    power,
                    duration,
                    start_at,
                    start_deadline,
                    ramp_mw_per_min,
                    then,
                }
            },
        )
}

fn asset_limits() -> impl Strategy<Value = AssetLimits> {
    let bounds = (power(), power()).prop_map(|(a, b)| if a <= b { (a, b) } else { (b, a) });
    let limit =
        (id(), bounds, 0..3_u8, of(timestamp())).prop_map(|(id, (min, max), which, expires_at)| {
            Limit {
                id,
                min: (which != 1).then_some(min),
                max: (which != 2).then_some(max),
                expires_at,
            }
        });
    (
        id(),
        1_u64..,
        any::<u64>(),
        vec(limit, 0..4),
        any::<bool>(),
        duration(),
    )
        .prop_map(
            |(asset_id, revision, epoch, limits, stop, return_within)| AssetLimits {
                asset_id,
                revision,
                epoch,
                limits,
                stop,
                return_within,
            },
        )
}

fn lease() -> impl Strategy<Value = Duration> {
    (0..MAX_DURATION.as_secs(), 1..1_000_000_000_u32).prop_map(|(s, ns)| Duration::new(s, ns))
}

fn log_ack() -> impl Strategy<Value = LogAck> {
    let code = select(vec![
        RefusalCode::NotGranted,
        RefusalCode::Invalid,
        RefusalCode::Unknown,
    ]);
    let refused = (1..=MAX_SEQ, code, of(text())).prop_map(|(seq, code, text)| RefusedEntry {
        seq,
        code,
        text,
    });
    (
        log_kind(),
        id(),
        any::<u64>(),
        vec(refused, 0..4),
        any::<bool>(),
    )
        .prop_map(|(kind, log_id, up_to_seq, refused, rewind)| LogAck {
            kind,
            log_id,
            up_to_seq,
            refused,
            rewind,
        })
}

fn interval() -> impl Strategy<Value = Duration> {
    duration().prop_map(|duration| duration.max(Duration::from_nanos(1)))
}
