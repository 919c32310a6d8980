//! The tasks of one device: one for commands, one for reads, so that neither waits for the other, and
//! one for what the device raises by itself.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::{AssetId, Traceparent};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument as _;

use super::traces;
use crate::alarm::Raised;
use crate::clock::Clock;
use crate::session::{Command, DeviceFault, Input};
use crate::{AdapterError, Applied, AssetEvents, DerAdapter};

/// The session has at most one command under way per device.
const COMMANDS: usize = 4;

/// What all devices of an agent share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) every: watch::Receiver<Duration>,
    pub(super) limit: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: TaskTracker,
    pub(super) life: CancellationToken,
}

/// A device whose tasks run; they end with it, a call that is under way included.
#[derive(Debug)]
pub(super) struct Device {
    /// Full only if it is not asked in turn, which the session never does.
    pub(super) commands: mpsc::Sender<Order>,
    _ends: DropGuard,
}

/// A command on its way to a device.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) token: u64,
    pub(super) command: Command,
    /// The trace of the dispatch that it is of.
    pub(super) trace: Option<Traceparent>,
    /// The trace of the limits or the stop that ask for it; counts before that of the dispatch.
    pub(super) limits: Option<Traceparent>,
}

/// Starts the tasks of a device.
pub(super) fn start(asset_id: AssetId, adapter: Arc<dyn DerAdapter>, shared: &Shared) -> Device {
    let (commands, queue) = mpsc::channel(COMMANDS);
    let tasks = shared.tasks.clone();
    let life = shared.life.child_token();
    let obeying = obey(asset_id, Arc::clone(&adapter), queue, shared.clone());
    tasks.spawn(life.clone().run_until_cancelled_owned(obeying));
    let (events, raised) = AssetEvents::new();
    adapter.take_events(events);
    let telling = tell(asset_id, raised, shared.inputs.clone());
    tasks.spawn(life.clone().run_until_cancelled_owned(telling));
    let reading = read(asset_id, adapter, shared.clone());
    tasks.spawn(life.clone().run_until_cancelled_owned(reading));
    Device {
        commands,
        _ends: life.drop_guard(),
    }
}

/// Ends at once for an adapter that raises nothing by itself.
async fn tell(asset_id: AssetId, mut raised: Raised, inputs: mpsc::Sender<Input>) {
    while let Some((alarm, left_out)) = raised.next().await {
        let input = Input::Raised {
            asset_id,
            alarm,
            left_out,
        };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

async fn obey(
    asset_id: AssetId,
    adapter: Arc<dyn DerAdapter>,
    mut queue: mpsc::Receiver<Order>,
    shared: Shared,
) {
    // What the device was told last: its way back to the default belongs to the same trace.
    let mut last = None;
    while let Some(order) = queue.recv().await {
        let Order {
            token,
            command,
            trace,
            limits,
        } = order;
        let adapter = Arc::clone(&adapter);
        let span = match &command {
            Command::Apply(setpoint) => {
                last = Some((setpoint.dispatch_id, trace));
                traces::span("apply", asset_id, setpoint.dispatch_id, limits.or(trace))
            }
            Command::Default(_) => {
                let (dispatch_id, trace) = last.unwrap_or_default();
                traces::span("go_to_default", asset_id, dispatch_id, limits.or(trace))
            }
        };
        let is_default = matches!(command, Command::Default(_));
        let call = async move {
            match command {
                Command::Apply(setpoint) => adapter.apply(&setpoint).await,
                Command::Default(power) => adapter.go_to_default(power).await,
            }
        };
        let result: Result<Applied, _> = limited(call.instrument(span), &shared).await;
        if is_default && result.is_ok() {
            last = None;
        }
        let result = result.map_err(|error| fault(&error));
        let done = Input::Done {
            asset_id,
            token,
            result,
        };
        if shared.inputs.send(done).await.is_err() {
            return;
        }
    }
}

async fn read(asset_id: AssetId, adapter: Arc<dyn DerAdapter>, mut shared: Shared) {
    // A random phase spreads the devices of a gateway, and the agents of a fleet.
    let mut next = Instant::now() + shared.every.borrow().mul_f64(fastrand::f64());
    loop {
        let changed = tokio::select! {
            () = sleep_until(next) => false,
            changed = shared.every.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
        };
        let every = *shared.every.borrow_and_update();
        if changed {
            next = next.min(Instant::now() + every.mul_f64(fastrand::f64()));
            continue;
        }
        let call = {
            let adapter = Arc::clone(&adapter);
            async move { adapter.read().await }
        };
        let result = limited(call, &shared).await;
        let input = Input::Read {
            asset_id,
            at: shared.clock.now(),
            result: result.map(Box::new).map_err(|error| fault(&error)),
        };
        if shared.inputs.send(input).await.is_err() {
            return;
        }
        next = (next + every).max(Instant::now());
    }
}

/// Calls an adapter within the time limit. A call that is over the limit is dropped and has ended
/// when this returns, so that the next one never runs beside it.
async fn limited<T: Send + 'static>(
    call: impl Future<Output = Result<T, AdapterError>> + Send + 'static,
    shared: &Shared,
) -> Result<T, AdapterError> {
    // On a task of its own: an adapter that panics takes nothing with it.
    let mut call = AbortOnDropHandle::new(shared.tasks.spawn(call));
    match timeout(shared.limit, &mut call).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(AdapterError::device("the adapter panicked")),
        Err(_) => {
            call.abort();
            let _ = call.await;
            let text = format!("no answer within {:?}", shared.limit);
            Err(AdapterError::timeout(text))
        }
    }
}

fn fault(error: &AdapterError) -> DeviceFault {
    let text = match &error.source {
        Some(source) => format!("{}: {source}", error.text),
        None => error.text.clone(),
    };
    DeviceFault {
        reason: error.reason(),
        text,
    }
}
