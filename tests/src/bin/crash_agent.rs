//! An agent that writes down what its device is asked to do, for a test to compare with what the
//! headend tells.
//!
//! `crash_agent <headend> <assets.yaml> <asset id> <state folder> <journal>`
#![allow(
    clippy::disallowed_methods,
    reason = "a program of the tests, which has arguments"
)]

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use derms_agent_sdk::{
    AdapterError, AgentRuntime, Applied, DerAdapter, DeviceInfo, Reading, Setpoint, async_trait,
};
use derms_proto::{AssetKind, Detail, Fleet, Measurements, Power};

/// A device that counts its readings, from 1 at each start.
struct Device {
    journal: File,
    boot: u32,
    readings: AtomicU64,
}

impl Device {
    /// One write, so that a kill leaves whole lines.
    fn note(&self, line: &str) -> Result<(), AdapterError> {
        (&self.journal)
            .write_all(format!("{line}\n").as_bytes())
            .map_err(|error| AdapterError::device("the journal is gone").caused_by(error))
    }
}

#[async_trait]
impl DerAdapter for Device {
    fn describe(&self) -> DeviceInfo {
        DeviceInfo::new(AssetKind::Battery, "tests", "counter")
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        let count = self.readings.fetch_add(1, Ordering::Relaxed) + 1;
        let details = [
            ("boot".to_owned(), Detail::Number(self.boot.into())),
            ("count".to_owned(), Detail::Number(count as f64)),
        ];
        Ok(Reading::new(Measurements {
            mw: Some(Power::from_mw(1.0)),
            details: details.into(),
            ..Measurements::default()
        }))
    }

    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
        let dispatch = setpoint.dispatch_id.map(|id| id.to_string());
        self.note(&format!(
            "apply {} {}",
            self.boot,
            dispatch.unwrap_or_default()
        ))?;
        Ok(Applied::exactly(setpoint.power))
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        self.note(&format!("default {}", self.boot))?;
        Ok(Applied::exactly(default))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [headend, assets, asset, state, journal] = words.as_slice() else {
        return Err("give the headend, the assets, one of them, a state folder, a journal".into());
    };
    let fleet = Fleet::from_yaml(&std::fs::read_to_string(assets)?, assets)?;
    let asset = fleet.asset(asset.parse()?).ok_or("no such asset")?;
    let mut file = OpenOptions::new().create(true).append(true).open(journal)?;
    let boot = std::fs::read_to_string(journal)?
        .lines()
        .filter(|line| line.starts_with("boot "))
        .count() as u32
        + 1;
    writeln!(file, "boot {boot}")?;
    let device = Device {
        journal: file,
        boot,
        readings: AtomicU64::new(0),
    };
    AgentRuntime::builder(headend.parse()?)
        .adapter(asset.clone(), device)
        .state_dir(state)
        .build()?
        .run()
        .await?;
    Ok(())
}
