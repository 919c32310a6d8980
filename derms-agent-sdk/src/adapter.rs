//! What a device vendor implements.

use std::time::Duration;

use derms_proto::{AssetKind, Availability, DispatchId, Measurements, Power, ReasonCode, Severity};

use crate::{Alarm, AssetEvents};

/// The bridge between the agent and one device.
///
/// # Flow
/// 1. [`describe`](Self::describe) is called once, at the start.
/// 2. [`read`](Self::read) is called at every telemetry interval (about 4 s), from the start on,
///    with or without a link.
/// 3. [`apply`](Self::apply) is called when an order starts, when a follow-up, a failsafe, a stop or a
///    limit asks for a power, for each second of a ramp, and when an agent that was restarted resumes
///    an order inside its lease.
/// 4. [`go_to_default`](Self::go_to_default) is called when an order ends and nothing else follows
///    it (with a ramp: as its last step), when the failsafe says so, when the agent stops or the asset
///    is removed, after a failed `apply`, and once at the start, before the first order. It is repeated
///    until it succeeds.
///
/// # Guarantees
/// - `apply` and `go_to_default` are never called at the same time, nor two at once: commands to
///   one device are in order. `read` may run beside them.
/// - Only power inside the asset's range and the limits in force, always finite, reaches `apply`, in
///   steps that keep to the ramp. A limit that has tightened is kept at once, and a stop is not ramped.
/// - An order whose start deadline has passed is never applied, and one order is started at most
///   once. The device write of an order in force may be repeated.
/// - A slow or failing adapter delays no other asset of the same agent.
///
/// # What you must ensure
/// - `apply` returns `Ok` only when the **device** has accepted the setpoint; that answer is what
///   the operator is told. "Queued" or "written to a socket" is not accepted.
/// - `apply` and `go_to_default` may be repeated with the same values and then change nothing.
/// - `read` returns what was measured and leaves out what was not; a cached value carries its
///   [`age`](Reading::age).
/// - Power is MW with the sign of [`Power`]: positive leaves the device towards the grid.
/// - Nothing blocks the thread: serial ports and other blocking I/O go through
///   `tokio::task::spawn_blocking`.
///
/// # Cancellation
/// A call that takes longer than the agent's adapter timeout (10 s by default) is dropped at an
/// await point and counts as [`AdapterError::timeout`]. The next command may follow at once, so a
/// half-written exchange must not confuse the one after it.
///
/// # Errors
/// See [`AdapterError`]. An error of `apply` ends the order as `failed` (or `rejected`) with its
/// text, and the device is sent to its default. An error of `read` is counted and makes the asset
/// unavailable; no value is invented.
///
/// # Example
/// ```
/// use derms_agent_sdk::proto::{AssetKind, Power};
/// use derms_agent_sdk::{
///     AdapterError, Applied, DerAdapter, DeviceInfo, Reading, Setpoint, async_trait,
/// };
/// use tokio::sync::Mutex;
///
/// struct LoadBank {
///     power: Mutex<Power>,
/// }
///
/// #[async_trait]
/// impl DerAdapter for LoadBank {
///     fn describe(&self) -> DeviceInfo {
///         DeviceInfo::new(AssetKind::Other, "Acme", "LB-100")
///     }
///
///     async fn read(&self) -> Result<Reading, AdapterError> {
///         Ok(Reading::of_power(*self.power.lock().await))
///     }
///
///     async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
///         *self.power.lock().await = setpoint.power;
///         Ok(Applied::exactly(setpoint.power))
///     }
///
///     async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
///         *self.power.lock().await = default;
///         Ok(Applied::exactly(default))
///     }
/// }
/// ```
#[async_trait::async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a device adapter",
    note = "implement `DerAdapter` with the attribute `#[async_trait]` of this crate"
)]
pub trait DerAdapter: Send + Sync + 'static {
    /// What the device is; for logs and for the kind that is registered. Must not block.
    fn describe(&self) -> DeviceInfo;

    /// Hands over where to raise events at once; called before the first read. Not needed for what
    /// [`read`](Self::read) sees: that is told with [`Reading::alarm`]. The default drops it. Must
    /// not block.
    fn take_events(&self, _events: AssetEvents) {}

    /// Reads the device now.
    ///
    /// # Errors
    /// The device does not answer or answers nonsense.
    async fn read(&self) -> Result<Reading, AdapterError>;

    /// Makes the device keep to this setpoint.
    ///
    /// # Errors
    /// The device refuses it, fails, or does not answer.
    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError>;

    /// Makes the device do what it does when no setpoint is in force: `default`, the asset's
    /// `default_mw`. A device with a mode of its own for this may use it if it ends at that power.
    ///
    /// # Errors
    /// As for [`apply`](Self::apply); the call is repeated until it succeeds.
    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError>;
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Its kind.
    pub kind: AssetKind,
    /// Its maker.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
}

impl DeviceInfo {
    /// A device of this kind, maker and model.
    #[must_use]
    pub fn new(kind: AssetKind, manufacturer: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            kind,
            manufacturer: manufacturer.into(),
            model: model.into(),
        }
    }
}

/// What one read of a device gave.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Reading {
    /// How old the values are: zero when they were measured just now, more for cached ones.
    pub age: Duration,
    /// Whether the device takes orders now.
    pub availability: Availability,
    /// The values; what was not measured is absent.
    pub measurements: Measurements,
    /// The alarms that the device has now, each with a code of its own; 64 at most.
    pub alarms: Vec<Alarm>,
}

impl Reading {
    /// Values that were measured just now.
    #[must_use]
    pub fn new(measurements: Measurements) -> Self {
        Self {
            measurements,
            ..Self::default()
        }
    }

    /// A power that was measured just now, and nothing else.
    #[must_use]
    pub fn of_power(power: Power) -> Self {
        Self::new(Measurements {
            mw: Some(power),
            ..Measurements::default()
        })
    }

    /// Says how old the values are. Default zero.
    #[must_use]
    pub fn aged(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Says that the device has this alarm now. The agent tells when it begins, and when it is over
    /// (severity `info`, `_cleared` behind its code): name it in each reading for as long as it lasts.
    /// After a restart of the agent it is told again.
    #[must_use]
    pub fn alarm(mut self, severity: Severity, code: &str, text: impl Into<String>) -> Self {
        self.alarms.push(Alarm::new(severity, code, text));
        self
    }

    /// Says whether the device takes orders. Default [`Availability::Available`].
    #[must_use]
    pub fn available(mut self, availability: Availability) -> Self {
        self.availability = availability;
        self
    }
}

/// What an adapter is asked to keep to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Setpoint {
    /// The wanted power; finite and inside the asset's limits.
    pub power: Power,
    /// The dispatch behind it; `None` for a follow-up, a failsafe, a limit or a stop.
    pub dispatch_id: Option<DispatchId>,
    /// What is left of the lease; the agent ends it in any case. `None`: no end is set.
    ///
    /// A device with a reversion timer of its own (`WSetRvrtTms` of SunSpec model 704) may be given
    /// this: then it reverts even if the agent has died. Each `apply` sets it anew.
    pub remaining: Option<Duration>,
    /// Largest change, MW per minute; `None`: as fast as the device likes. The agent drives ramps
    /// itself, a step a second, and asks no device for one: in its calls this is always `None`. Who
    /// else drives an adapter may set it, and the conformance kit does: hand it to the device, or
    /// refuse the setpoint with [`AdapterError::unsupported`].
    pub ramp_mw_per_min: Option<f64>,
}

impl Setpoint {
    /// A setpoint without lease, ramp and dispatch.
    #[must_use]
    pub fn new(power: Power) -> Self {
        Self {
            power,
            dispatch_id: None,
            remaining: None,
            ramp_mw_per_min: None,
        }
    }
}

/// What a device said to a command that it accepted.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Applied {
    /// The power it will keep to, if it said so; may differ from what was asked.
    pub power: Option<Power>,
    /// Its own words, for people.
    pub text: Option<String>,
}

impl Applied {
    /// The device accepted and said nothing about the power.
    #[must_use]
    pub fn accepted() -> Self {
        Self::default()
    }

    /// The device said that it will keep to this power.
    #[must_use]
    pub fn exactly(power: Power) -> Self {
        Self {
            power: Some(power),
            text: None,
        }
    }

    /// Adds the device's own words.
    #[must_use]
    pub fn saying(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }
}

/// Why a device did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
#[non_exhaustive]
pub struct AdapterError {
    /// Who must act.
    pub kind: AdapterErrorKind,
    /// What failed, in the device's words; shown to the operator.
    pub text: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Kinds of adapter errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AdapterErrorKind {
    /// The device answered with an error. The order ends as `failed`.
    Device,
    /// The device did not answer in time; whether it acted is unknown. The order ends as `failed`.
    Timeout,
    /// The device is in local or maintenance mode. The order ends as `rejected`.
    Unavailable,
    /// The device can't do this at all. The order ends as `rejected`.
    Unsupported,
}

impl AdapterError {
    /// The device answered with an error.
    #[must_use]
    pub fn device(text: impl Into<String>) -> Self {
        Self::new(AdapterErrorKind::Device, text)
    }

    /// The device did not answer in time.
    #[must_use]
    pub fn timeout(text: impl Into<String>) -> Self {
        Self::new(AdapterErrorKind::Timeout, text)
    }

    /// The device is in local or maintenance mode, and has done nothing.
    #[must_use]
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::new(AdapterErrorKind::Unavailable, text)
    }

    /// The device can't do this, and has done nothing.
    #[must_use]
    pub fn unsupported(text: impl Into<String>) -> Self {
        Self::new(AdapterErrorKind::Unsupported, text)
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    fn new(kind: AdapterErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: None,
        }
    }

    /// The reason that is reported to the operator.
    #[must_use]
    pub fn reason(&self) -> ReasonCode {
        match self.kind {
            AdapterErrorKind::Device => ReasonCode::DeviceError,
            AdapterErrorKind::Timeout => ReasonCode::DeviceTimeout,
            AdapterErrorKind::Unavailable => ReasonCode::DeviceUnavailable,
            AdapterErrorKind::Unsupported => ReasonCode::Unsupported,
        }
    }
}
