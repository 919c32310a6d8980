//! Faults of simulated devices, told to a running agent by files.

use std::path::{Path, PathBuf};

use derms_agent_sdk::proto::{AssetId, Power};
use derms_agent_sdk::sim::SimulatedDevice;
use derms_agent_sdk::{
    AdapterError, Applied, AssetEvents, DerAdapter, DeviceInfo, Reading, Setpoint, async_trait,
};

/// A simulated device that fails while there is a file with its asset's id.
pub(crate) struct Faulty {
    device: SimulatedDevice,
    /// `None`: it never fails.
    file: Option<PathBuf>,
}

impl Faulty {
    pub(crate) fn new(device: SimulatedDevice, dir: Option<&Path>, asset_id: AssetId) -> Self {
        Self {
            device,
            file: dir.map(|dir| dir.join(asset_id.to_string())),
        }
    }

    /// Does not return while it hangs.
    async fn check(&self) -> Result<(), AdapterError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let Ok(fault) = tokio::fs::read_to_string(file).await else {
            return Ok(());
        };
        match fault.trim() {
            "hang" => std::future::pending().await,
            "" => Err(AdapterError::device("a fault was told")),
            text => Err(AdapterError::device(text)),
        }
    }
}

#[async_trait]
impl DerAdapter for Faulty {
    fn describe(&self) -> DeviceInfo {
        self.device.describe()
    }

    fn take_events(&self, events: AssetEvents) {
        self.device.take_events(events);
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        self.check().await?;
        self.device.read().await
    }

    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
        self.check().await?;
        self.device.apply(setpoint).await
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        self.check().await?;
        self.device.go_to_default(default).await
    }
}
