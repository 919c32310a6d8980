//! A device that does what the test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use derms_proto::{AssetKind, Power};
use tokio::sync::{Notify, watch};

use super::patiently;
use crate::{AdapterError, Applied, DerAdapter, DeviceInfo, Reading, Setpoint, async_trait};

/// What an adapter was told.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Call {
    /// `apply` with this setpoint.
    Apply(Setpoint),
    /// `go_to_default` with this power.
    GoToDefault(Power),
}

/// An adapter that records what it is told and answers as it is told; clones are the same device.
///
/// Unless told otherwise it accepts everything and reads the power that it was told last.
#[derive(Debug, Clone)]
pub struct ScriptedAdapter {
    device: Arc<Device>,
}

#[derive(Debug)]
struct Device {
    script: Mutex<Script>,
    called: Notify,
    commands_hang: watch::Sender<bool>,
    reads_hang: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Script {
    calls: Vec<Call>,
    /// How many of them `next_call` has given out.
    seen: usize,
    answers: VecDeque<Result<Applied, AdapterError>>,
    power: Power,
    reading: Option<Result<Reading, String>>,
    reads: u64,
}

impl ScriptedAdapter {
    /// A device at 0 MW.
    #[must_use]
    pub fn new() -> Self {
        Self {
            device: Arc::new(Device {
                script: Mutex::default(),
                called: Notify::new(),
                commands_hang: watch::Sender::new(false),
                reads_hang: watch::Sender::new(false),
            }),
        }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.device
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to the next command that has none yet.
    pub fn answer(&self, answer: Result<Applied, AdapterError>) {
        self.script().answers.push_back(answer);
    }

    /// Whether commands are recorded but not answered from now on. What hangs when it is set to
    /// false is answered then.
    pub fn hang(&self, hang: bool) {
        self.device.commands_hang.send_replace(hang);
    }

    /// Whether reads are not answered from now on.
    pub fn hang_reads(&self, hang: bool) {
        self.device.reads_hang.send_replace(hang);
    }

    /// What every read gives from now on; an error is a device error with this text.
    pub fn reads_as(&self, reading: Result<Reading, &str>) {
        self.script().reading = Some(reading.map_err(str::to_owned));
    }

    /// Every command so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.script().calls.clone()
    }

    /// The power of every `apply` so far.
    #[must_use]
    pub fn setpoints(&self) -> Vec<Power> {
        let calls = self.calls().into_iter();
        let powers = calls.filter_map(|call| match call {
            Call::Apply(setpoint) => Some(setpoint.power),
            Call::GoToDefault(_) => None,
        });
        powers.collect()
    }

    /// How often it was read.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.script().reads
    }

    /// The next command that this method has not given out yet.
    ///
    /// # Panics
    /// If none comes within 60 s.
    pub async fn next_call(&self) -> Call {
        let next = async {
            loop {
                let called = self.device.called.notified();
                {
                    let mut script = self.script();
                    if let Some(call) = script.calls.get(script.seen).cloned() {
                        script.seen += 1;
                        return Some(call);
                    }
                }
                called.await;
            }
        };
        patiently("a command to the device", next).await
    }

    async fn command(&self, call: Call, power: Power) -> Result<Applied, AdapterError> {
        self.script().calls.push(call);
        self.device.called.notify_one();
        released(&self.device.commands_hang).await;
        let mut script = self.script();
        let answer = script.answers.pop_front();
        let answer = answer.unwrap_or_else(|| Ok(Applied::exactly(power)));
        if answer.is_ok() {
            script.power = power;
        }
        answer
    }
}

impl Default for ScriptedAdapter {
    fn default() -> Self {
        Self::new()
    }
}

async fn released(hang: &watch::Sender<bool>) {
    // The sender lives as long as the device that is called.
    let _ = hang.subscribe().wait_for(|hang| !hang).await;
}

#[async_trait]
impl DerAdapter for ScriptedAdapter {
    fn describe(&self) -> DeviceInfo {
        DeviceInfo::new(AssetKind::Battery, "Test", "Scripted")
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        released(&self.device.reads_hang).await;
        let mut script = self.script();
        script.reads += 1;
        match &script.reading {
            Some(Ok(reading)) => Ok(reading.clone()),
            Some(Err(text)) => Err(AdapterError::device(text.clone())),
            None => Ok(Reading::of_power(script.power)),
        }
    }

    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
        self.command(Call::Apply(setpoint.clone()), setpoint.power)
            .await
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        self.command(Call::GoToDefault(default), default).await
    }
}
