//! Boxed and shared adapters are adapters.

use std::sync::Arc;

use derms_proto::Power;

use crate::{
    AdapterError, Applied, AssetEvents, DerAdapter, DeviceInfo, Reading, Setpoint, async_trait,
};

#[async_trait]
impl<A: DerAdapter + ?Sized> DerAdapter for Box<A> {
    fn describe(&self) -> DeviceInfo {
        (**self).describe()
    }

    fn take_events(&self, events: AssetEvents) {
        (**self).take_events(events);
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        (**self).read().await
    }

    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
        (**self).apply(setpoint).await
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        (**self).go_to_default(default).await
    }
}

#[async_trait]
impl<A: DerAdapter + ?Sized> DerAdapter for Arc<A> {
    fn describe(&self) -> DeviceInfo {
        (**self).describe()
    }

    fn take_events(&self, events: AssetEvents) {
        (**self).take_events(events);
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        (**self).read().await
    }

    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
        (**self).apply(setpoint).await
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        (**self).go_to_default(default).await
    }
}
