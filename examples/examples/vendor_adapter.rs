//! A vendor's device behind an agent: one trait, and the stream, reconnects and leases are there.
//!
//! Run with `cargo run -p der_headend` in one terminal and
//! `cargo run -p derms-examples --example vendor_adapter` in another, then order some power:
//! `curl -XPOST 'http://127.0.0.1:3001/dispatch?wait_s=5' -H 'content-type: application/json' \
//!    -d '{"asset_id":"7ba7b810-9dad-11d1-80b4-00c04fd430c8","mw":5,"duration_s":20}'`

use derms_agent_sdk::proto::{AssetKind, Fleet, Power};
use derms_agent_sdk::{
    AdapterError, AgentRuntime, Applied, DerAdapter, DeviceInfo, Reading, Setpoint, async_trait,
};
use tokio::sync::Mutex;

/// The vendor's driver; here a register in memory, in kW with charging positive.
#[derive(Default)]
pub(crate) struct Inverter {
    charge_kw: Mutex<f64>,
}

impl Inverter {
    async fn write(&self, power: Power) -> Result<Applied, AdapterError> {
        *self.charge_kw.lock().await = -power.kw();
        Ok(Applied::exactly(power))
    }
}

#[async_trait]
impl DerAdapter for Inverter {
    fn describe(&self) -> DeviceInfo {
        DeviceInfo::new(AssetKind::Battery, "Acme", "PowerBlock 60")
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        let charge_kw = *self.charge_kw.lock().await;
        Ok(Reading::of_power(Power::from_kw(-charge_kw)))
    }

    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
        match setpoint.ramp_mw_per_min {
            None => self.write(setpoint.power).await,
            Some(_) => Err(AdapterError::unsupported("the inverter has no ramp")),
        }
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        self.write(default).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let asset = Fleet::load("assets.yaml")?.assets()[0].clone();
    let agent = AgentRuntime::builder("http://127.0.0.1:50051".parse()?)
        .adapter(asset, Inverter::default())
        .shutdown_on_signal()
        .build()?;
    Ok(agent.run().await?)
}
