//! A fleet whose measurements are stored to see how fast that is.

use std::collections::BTreeMap;
use std::time::Duration;

use derms_headend_sdk::store::TelemetryAppend;
use derms_proto::{
    AgentId, AssetId, Detail, LogId, Measurements, Power, SiteId, Telemetry, Timestamp,
};
use uuid::Uuid;

/// A fleet that measures; each agent has one asset and one log.
pub(crate) struct Fleet {
    pub(crate) agents: Vec<(AgentId, LogId, AssetId)>,
    site: SiteId,
    pub(crate) values: usize,
    next_seq: u64,
    now: Timestamp,
}

impl Fleet {
    pub(crate) fn new(agents: usize, values: usize) -> Self {
        let agent = |_| {
            let asset = AssetId::new(Uuid::new_v4());
            (AgentId::from(asset), LogId::generate(), asset)
        };
        Self {
            agents: (0..agents).map(agent).collect(),
            site: SiteId::new(Uuid::new_v4()),
            values,
            next_seq: 1,
            now: Timestamp::now().saturating_sub(Duration::from_secs(24 * 3600)),
        }
    }

    /// The next measurements of every agent, every 4 s.
    pub(crate) fn measure(&mut self, samples: u64) -> Vec<TelemetryAppend> {
        let (first, now) = (self.next_seq, self.now);
        self.next_seq += samples;
        self.now = now.saturating_add(Duration::from_secs(4 * samples));
        let (site, values) = (self.site, self.values);
        let appends = self
            .agents
            .iter()
            .map(|(agent, log, asset)| TelemetryAppend {
                agent: *agent,
                log: *log,
                samples: (0..samples)
                    .map(|n| {
                        let at = now.saturating_add(Duration::from_secs(4 * n));
                        (first + n, telemetry(*asset, site, at, values))
                    })
                    .collect(),
                gaps: Vec::new(),
                next_seq: first + samples,
            });
        appends.collect()
    }

    /// The same as they come over the link: one sample an append, time by time.
    pub(crate) fn measure_one_by_one(&mut self, times: u64) -> Vec<TelemetryAppend> {
        (0..times).flat_map(|_| self.measure(1)).collect()
    }

    /// The first asset.
    pub(crate) fn asset(&self) -> AssetId {
        self.agents[0].2
    }
}

/// A measurement with so many values; more than 12: the details of a simulated battery too.
fn telemetry(asset_id: AssetId, site_id: SiteId, at: Timestamp, values: usize) -> Telemetry {
    let x = (at.unix_micros() % 86_400_000_000) as f64 / 1e7;
    let nth = |n: usize| (n <= values).then_some(x + n as f64 + 0.123_456);
    let mut details = BTreeMap::new();
    if values > 12 {
        details.insert("cell_temperature_c".to_owned(), Detail::Number(27.3));
    }
    Telemetry {
        asset_id,
        site_id,
        measured_at: at,
        received_at: at.saturating_add(Duration::from_micros(12_345)),
        measurements: Measurements {
            mw: nth(1).map(Power::from_mw),
            mvar: nth(2),
            voltage_v: nth(3),
            frequency_hz: nth(4),
            current_a: nth(5),
            soc_pct: nth(6),
            soh_pct: nth(7),
            energy_in_mwh: nth(8),
            energy_out_mwh: nth(9),
            available_charge_mw: nth(10).map(Power::from_mw),
            available_discharge_mw: nth(11).map(Power::from_mw),
            setpoint_mw: nth(12).map(Power::from_mw),
            status: Some(derms_proto::DeviceStatus::Running),
            details,
            ..Measurements::default()
        },
    }
}
