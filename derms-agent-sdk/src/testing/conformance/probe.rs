//! Calls of an adapter, as the agent makes them: each on a task, within the time limit.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use derms_proto::{AssetKind, Measurements, Power};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::events::Seen;
use super::report::Notes;
use super::{Kit, Rule};
use crate::{AdapterError, Applied, DerAdapter, DeviceInfo, Reading, Setpoint};

/// A poll of a call that takes this long has blocked the thread.
const BLOCKED: Duration = Duration::from_millis(20);

/// The methods of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Method {
    Describe,
    TakeEvents,
    Read,
    Apply,
    GoToDefault,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::TakeEvents => "take_events",
            Self::Read => "read",
            Self::Apply => "apply",
            Self::GoToDefault => "go_to_default",
        }
    }
}

/// How long the longest poll of a call took, over all calls of a method.
#[derive(Debug)]
pub(super) struct Polls {
    calls: u32,
    shortest: Duration,
}

/// An adapter and what was seen of it.
pub(super) struct Probe<'a> {
    pub(super) adapter: Arc<dyn DerAdapter>,
    pub(super) kit: &'a Kit,
    pub(super) notes: &'a mut Notes,
    pub(super) polls: &'a mut BTreeMap<Method, Polls>,
    /// The rule that a call without an answer breaks.
    pub(super) silence: Rule,
    pub(super) seen: Seen,
}

/// A call under way.
pub(super) struct Started<T> {
    method: Method,
    since: Instant,
    task: AbortOnDropHandle<(Duration, T)>,
}

type Answer<T> = Result<T, AdapterError>;

impl<'a> Probe<'a> {
    pub(super) async fn open(
        adapter: Arc<dyn DerAdapter>,
        kit: &'a Kit,
        notes: &'a mut Notes,
        polls: &'a mut BTreeMap<Method, Polls>,
    ) -> Self {
        let (events, seen) = Seen::new();
        let mut probe = Self {
            adapter,
            kit,
            notes,
            polls,
            silence: Rule::AnswersInTime,
            seen,
        };
        probe.hand_over(events).await;
        probe
    }

    pub(super) fn start_describe(&self) -> Started<DeviceInfo> {
        let adapter = Arc::clone(&self.adapter);
        start(Method::Describe, async move { adapter.describe() })
    }

    pub(super) fn start_read(&self) -> Started<Answer<Reading>> {
        let adapter = Arc::clone(&self.adapter);
        start(Method::Read, async move { adapter.read().await })
    }

    pub(super) fn start_apply(&self, setpoint: Setpoint) -> Started<Answer<Applied>> {
        let adapter = Arc::clone(&self.adapter);
        start(Method::Apply, async move { adapter.apply(&setpoint).await })
    }

    pub(super) fn start_default(&self) -> Started<Answer<Applied>> {
        let adapter = Arc::clone(&self.adapter);
        let default = self.kit.asset.default_mw;
        start(Method::GoToDefault, async move {
            adapter.go_to_default(default).await
        })
    }

    /// The answer to a call. `None`: there was none, and that is noted.
    pub(super) async fn answer<T>(&mut self, started: Started<Answer<T>>) -> Option<Answer<T>> {
        let answer = self.finish(started).await?;
        if let Err(error) = &answer {
            let said = !error.text.trim().is_empty();
            self.notes.check(Rule::ErrorsSayWhat, said, || {
                format!("a {:?} error has no text", error.kind)
            });
        }
        Some(answer)
    }

    pub(super) async fn finish<T>(&mut self, started: Started<T>) -> Option<T> {
        let Started {
            method,
            since,
            mut task,
        } = started;
        let limit = self.kit.call_limit;
        match timeout_at(since + limit, &mut task).await {
            Ok(Ok((longest, answer))) => {
                self.notes.kept(Rule::AnswersInTime);
                self.notes.kept(Rule::NothingPanics);
                let polls = self.polls.entry(method).or_insert(Polls {
                    calls: 0,
                    shortest: longest,
                });
                polls.calls += 1;
                polls.shortest = polls.shortest.min(longest);
                Some(answer)
            }
            Ok(Err(stopped)) => {
                let text = stopped.try_into_panic().map(|panic| {
                    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
                    text.or_else(|| panic.downcast_ref::<String>().cloned())
                });
                let text = text.ok().flatten().unwrap_or_default();
                let found = format!("{} panicked: {text}", method.name());
                self.notes.broken(Rule::NothingPanics, found);
                None
            }
            Err(_) => {
                task.abort();
                let _ = task.await;
                let found = format!("{} gave no answer within {limit:?}", method.name());
                self.notes.broken(self.silence, found);
                None
            }
        }
    }

    pub(super) async fn read(&mut self) -> Option<Reading> {
        let reading = match self.answer(self.start_read()).await? {
            Ok(reading) => reading,
            Err(error) => {
                let found = format!("read failed ({:?}): {error}", error.kind);
                self.notes.broken(Rule::ReadsFiniteValues, found);
                return None;
            }
        };
        let values = &reading.measurements;
        let odd = out_of_range(values);
        self.notes
            .check(Rule::ReadsFiniteValues, odd.is_none(), || {
                odd.unwrap_or_default()
            });
        let invented = invented(values, self.kit);
        self.notes
            .check(Rule::AbsentIsNotZero, invented.is_none(), || {
                invented.unwrap_or_default()
            });
        self.have(&reading.alarms);
        Some(reading)
    }

    /// Brings the device to its default as well as it can, whatever its part of the kit has found.
    pub(super) async fn leave(mut self) {
        self.judge_events();
        let Started { since, task, .. } = self.start_default();
        let _ = timeout_at(since + self.kit.call_limit, task).await;
    }

    /// `Some` only if the device took it; a refusal breaks `rule`.
    pub(super) async fn apply(&mut self, power: Power, rule: Rule) -> Option<Applied> {
        let started = self.start_apply(Setpoint::new(power));
        self.taken(started, rule, &format!("apply of {power}"))
            .await
    }

    pub(super) async fn go_to_default(&mut self, rule: Rule) -> Option<Applied> {
        let started = self.start_default();
        self.taken(started, rule, "go_to_default").await
    }

    pub(super) async fn taken<T>(
        &mut self,
        started: Started<Answer<T>>,
        rule: Rule,
        what: &str,
    ) -> Option<T> {
        match self.answer(started).await? {
            Ok(answer) => {
                self.notes.kept(rule);
                Some(answer)
            }
            Err(error) => {
                let found = format!("{what} was refused ({:?}): {error}", error.kind);
                self.notes.broken(rule, found);
                None
            }
        }
    }

    /// Drops a call where it waits for the `waits`th time, as the agent does with a slow one.
    /// Whether it waited that often.
    pub(super) async fn drop_call(&mut self, method: Method, waits: u32) -> bool {
        let adapter = Arc::clone(&self.adapter);
        let (far, default) = (Setpoint::new(self.far()), self.kit.asset.default_mw);
        let call = Box::pin(async move {
            // Whatever it answers, it was not dropped.
            match method {
                Method::Describe | Method::TakeEvents => {}
                Method::Read => drop(adapter.read().await),
                Method::Apply => drop(adapter.apply(&far).await),
                Method::GoToDefault => drop(adapter.go_to_default(default).await),
            }
        });
        let call = DropAt {
            call: Some(call),
            waits,
        };
        self.finish(start(method, call)).await.unwrap_or(false)
    }
}

/// Notes the methods that blocked in each of at least two calls; once may be the machine's fault.
pub(super) fn judge_polls(polls: &BTreeMap<Method, Polls>, notes: &mut Notes) {
    for (method, polls) in polls {
        let blocks = polls.calls >= 2 && polls.shortest >= BLOCKED;
        notes.check(Rule::NothingBlocks, !blocks, || {
            format!(
                "each of {} calls of {} held the thread for {:?} or more",
                polls.calls,
                method.name(),
                polls.shortest
            )
        });
    }
}

pub(super) fn start<T: Send + 'static>(
    method: Method,
    call: impl Future<Output = T> + Send + 'static,
) -> Started<T> {
    let call = Timed {
        call: Box::pin(call),
        longest: Duration::ZERO,
    };
    Started {
        method,
        since: Instant::now(),
        task: AbortOnDropHandle::new(TaskTracker::new().spawn(call)),
    }
}

/// Measures the longest poll of a call.
struct Timed<T> {
    call: Pin<Box<dyn Future<Output = T> + Send>>,
    longest: Duration,
}

impl<T> Future for Timed<T> {
    type Output = (Duration, T);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The machine's clock: Tokio's may be paused.
        let start = std::time::Instant::now();
        let polled = self.call.as_mut().poll(cx);
        self.longest = self.longest.max(start.elapsed());
        polled.map(|answer| (self.longest, answer))
    }
}

/// Drops a call at one of its await points; true if it got there.
struct DropAt {
    call: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    waits: u32,
}

impl Future for DropAt {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(call) = &mut self.call else {
            return Poll::Ready(true);
        };
        if call.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        self.waits = self.waits.saturating_sub(1);
        if self.waits > 0 {
            return Poll::Pending;
        }
        self.call = None;
        Poll::Ready(true)
    }
}

fn out_of_range(values: &Measurements) -> Option<String> {
    if let Some(name) = values.non_finite() {
        return Some(format!("{name} is NaN or infinite"));
    }
    for (name, percent) in [("soc_pct", values.soc_pct), ("soh_pct", values.soh_pct)] {
        if let Some(percent) = percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
            return Some(format!("{name} is {percent}"));
        }
    }
    let magnitudes = [
        ("available_charge_mw", values.available_charge_mw),
        ("available_discharge_mw", values.available_discharge_mw),
    ];
    magnitudes.into_iter().find_map(|(name, power)| {
        let power = power.filter(|power| *power < Power::ZERO)?;
        Some(format!("{name} is {power}"))
    })
}

/// What can't have been measured.
fn invented(values: &Measurements, kit: &Kit) -> Option<String> {
    if let Some(power) = values.mw.filter(|power| power.abs() > kit.tolerance) {
        let electrical = [
            ("voltage_v", values.voltage_v),
            ("frequency_hz", values.frequency_hz),
            ("current_a", values.current_a),
        ];
        for (name, value) in electrical {
            if value == Some(0.0) {
                return Some(format!("{name} is 0 while {power} flow"));
            }
        }
    }
    let stores = !matches!(
        kit.asset.kind,
        AssetKind::Pv | AssetKind::Wind | AssetKind::Meter | AssetKind::Genset
    );
    match values.soc_pct {
        Some(soc) if !stores && kit.asset.capacity_mwhr == 0.0 => {
            Some(format!("soc_pct is {soc} on an asset that stores nothing"))
        }
        _ => None,
    }
}
