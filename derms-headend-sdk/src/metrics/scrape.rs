//! What is read when somebody asks.

use derms_proto::DispatchStatus;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, TextEncoder};

use super::{Make, Metrics, word};
use crate::api::NotReady;
use crate::core::Core;

#[derive(Debug)]
pub(super) struct State {
    sessions: IntGauge,
    sessions_limit: IntGauge,
    assets: IntGauge,
    assets_connected: IntGauge,
    queue_batches: IntGaugeVec,
    queue_batches_limit: IntGaugeVec,
    queue_bytes: IntGaugeVec,
    queue_bytes_limit: IntGaugeVec,
    orders_open: IntGaugeVec,
    limits: IntGauge,
    stops: IntGauge,
    audit_waiting: IntGauge,
    audit_lost: IntCounter,
    refusals: IntCounterVec,
    ready: IntGauge,
    not_ready: IntGaugeVec,
    certificate_end: IntGaugeVec,
    /// Counters that are kept elsewhere are brought up to date by one at a time.
    reading: Mutex<()>,
}

impl State {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        let queue = ["queue"];
        let build = make.gauges(
            "derms_build_info",
            "Always 1; the version of the headend is its label.",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            sessions: make.gauge("derms_sessions", "Sessions now.")?,
            sessions_limit: make.gauge("derms_sessions_limit", "Most sessions at one time.")?,
            assets: make.gauge("derms_assets", "Assets of the fleet.")?,
            assets_connected: make.gauge(
                "derms_assets_connected",
                "Assets that an agent serves which was heard within the liveness limit.",
            )?,
            queue_batches: make.gauges(
                "derms_ingest_queue_batches",
                "Batches that wait for the store.",
                &queue,
            )?,
            queue_batches_limit: make.gauges(
                "derms_ingest_queue_batches_limit",
                "Most batches that may wait.",
                &queue,
            )?,
            queue_bytes: make.gauges(
                "derms_ingest_queue_bytes",
                "Memory of what waits for the store or is being stored.",
                &queue,
            )?,
            queue_bytes_limit: make.gauges(
                "derms_ingest_queue_bytes_limit",
                "Most memory of what waits.",
                &queue,
            )?,
            orders_open: make.gauges(
                "derms_dispatches_open",
                "Orders for one asset that have not ended, by status.",
                &["status"],
            )?,
            limits: make.gauge("derms_limits_in_force", "Limits that hold now.")?,
            stops: make.gauge("derms_stops_in_force", "Stops that hold now.")?,
            audit_waiting: make.gauge(
                "derms_audit_records_waiting",
                "Records of the audit trail that wait for the store.",
            )?,
            audit_lost: make.counter(
                "derms_audit_records_lost_total",
                "Records of the audit trail that are in the log alone: no more could wait.",
            )?,
            refusals: make.counters(
                "derms_link_refusals_total",
                "Callers of the agent link that were turned away, by what was wrong.",
                &["what"],
            )?,
            ready: make.gauge("derms_ready", "1 if GET /readyz answers 200, else 0.")?,
            not_ready: make.gauges(
                "derms_not_ready",
                "1 for the reason why the headend is not ready, else 0.",
                &["reason"],
            )?,
            certificate_end: make.gauges(
                "derms_certificate_expiry_timestamp_seconds",
                "When the certificate of this role ends, seconds since 1970.",
                &["role"],
            )?,
            reading: Mutex::default(),
        })
    }

    fn read(&self, core: &Core, not_ready: Option<NotReady>) {
        let _reading = self.reading.lock();
        self.sessions.set(whole(core.registry.len()));
        self.sessions_limit.set(whole(core.config.max_sessions));
        self.assets.set(whole(core.fleet.assets().len()));
        self.assets_connected.set(whole(core.registry.connected()));
        for (queue, level) in core.ingest.levels() {
            let set = |gauges: &IntGaugeVec, value| {
                gauges.with_label_values(&[queue]).set(whole(value));
            };
            set(&self.queue_batches, level.batches);
            set(&self.queue_batches_limit, level.batches_limit);
            set(&self.queue_bytes, level.bytes);
            set(&self.queue_bytes_limit, level.bytes_limit);
        }
        let open = core.dispatcher.open();
        for status in DispatchStatus::ALL.into_iter().filter(|s| !s.is_terminal()) {
            let orders = open.iter().filter(|open| **open == status).count();
            let gauge = self.orders_open.with_label_values(&[&word(status)]);
            gauge.set(whole(orders));
        }
        let (limits, stops) = core.limits.holding();
        self.limits.set(whole(limits));
        self.stops.set(whole(stops));
        let (waiting, lost) = core.audit.levels();
        self.audit_waiting.set(whole(waiting));
        catch_up(&self.audit_lost, lost);
        let refused = core.refusals.snapshot();
        for (what, times) in [
            ("handshake", refused.handshakes),
            ("identity", refused.identities),
            ("claim", refused.claims),
            ("revoked", refused.revoked),
        ] {
            catch_up(&self.refusals.with_label_values(&[what]), times);
        }
        self.ready.set(i64::from(not_ready.is_none()));
        for reason in NotReady::ALL {
            let is = not_ready == Some(reason);
            let gauge = self.not_ready.with_label_values(&[reason.word()]);
            gauge.set(i64::from(is));
        }
        if let Some(end) = core.auth.tls.as_ref().and_then(|tls| tls.expires()) {
            let gauge = self.certificate_end.with_label_values(&["headend"]);
            gauge.set(end.unix_micros() / 1_000_000);
        }
    }
}

impl Metrics {
    /// All of it as text.
    pub(crate) async fn text(&self, core: &Core) -> String {
        self.state.read(core, core.not_ready_now().await);
        let families = self.registry.gather();
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_else(|error| {
                tracing::error!(%error, "can't write the metrics");
                String::new()
            })
    }
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn catch_up(counter: &IntCounter, value: u64) {
    counter.inc_by(value.saturating_sub(counter.get()));
}
