//! The parts of the kit that make trouble: refusals, dropped calls, calls at once, dead devices.

use derms_proto::Availability;

use super::Rule;
use super::probe::{Method, Probe};
use crate::{AdapterError, AdapterErrorKind, Applied, Setpoint};

/// The most await points of a call at which it is dropped.
const MOST_WAITS: u32 = 8;
/// How often a command and a read are started at once.
const ROUNDS: u32 = 4;

impl Probe<'_> {
    /// For what is measured and not controlled.
    pub(super) async fn refuse_orders(&mut self) {
        let rule = Rule::ReadOnlyRefuses;
        if let Some(reading) = self.read().await {
            let read_only = reading.availability == Availability::ReadOnly;
            self.notes.check(rule, read_only, || {
                format!("a reading says {:?}", reading.availability)
            });
        }
        let order = self.kit.asset.default_mw;
        match self.answer(self.start_apply(Setpoint::new(order))).await {
            Some(Ok(_)) => {
                let found = format!("it accepted a setpoint of {order}");
                self.notes.broken(rule, found);
            }
            Some(Err(error)) => {
                let unsupported = error.kind == AdapterErrorKind::Unsupported;
                self.notes.check(rule, unsupported, || {
                    format!("it refused with {:?}: {error}", error.kind)
                });
            }
            None => {}
        }
        for _ in 0..2 {
            self.go_to_default(Rule::DefaultRepeats).await;
        }
        self.energy().await;
    }

    /// Drops calls at each of their await points, and sends a command right after.
    pub(super) async fn drop_calls(&mut self, follows: bool) {
        let rule = Rule::DroppedCallDisturbsNothing;
        let (near, nearer) = (self.between(0.5), self.between(0.25));
        // Never the same twice: what repeats change is a rule of its own.
        let mut wanted = [nearer, near].into_iter().cycle();
        if self.apply(near, Rule::TakesTheWholeRange).await.is_none() {
            self.notes.skip(rule, "a command fails even undisturbed");
            return;
        }
        for method in [Method::Apply, Method::GoToDefault, Method::Read] {
            for waits in 1..=MOST_WAITS {
                if !self.drop_call(method, waits).await {
                    break;
                }
                let wanted = wanted.next().unwrap_or(near);
                self.silence = rule;
                let applied = self.apply(wanted, rule).await;
                self.silence = Rule::AnswersInTime;
                let Some(applied) = applied else {
                    return;
                };
                let ordered = applied.power.unwrap_or(wanted);
                if follows && let Err(where_it_is) = self.stays(ordered).await {
                    let found = format!(
                        "{} was dropped at await {waits}, then {ordered} applied, but {where_it_is}",
                        method.name()
                    );
                    self.notes.broken(rule, found);
                    return;
                }
            }
        }
        self.notes
            .skip(rule, "no call waits for anything: none can be dropped");
    }

    /// Reads and commands at the same time, each begun first in turn.
    pub(super) async fn read_beside(&mut self, follows: bool) {
        let rule = Rule::ReadsBesideCommands;
        let (one, other) = (self.far(), self.between(0.5));
        if self.apply(other, Rule::TakesTheWholeRange).await.is_none()
            || self.read().await.is_none()
        {
            self.notes.skip(rule, "a call fails even alone");
            return;
        }
        self.silence = rule;
        for round in 0..ROUNDS {
            let setpoint = Setpoint::new(if round % 2 == 0 { one } else { other });
            let (command, read) = if round < ROUNDS / 2 {
                let command = self.start_apply(setpoint);
                (command, self.start_read())
            } else {
                let read = self.start_read();
                (self.start_apply(setpoint), read)
            };
            let read = self.taken(read, rule, "a read beside apply").await;
            let command = self.taken(command, rule, "apply beside a read").await;
            let (Some(_), Some(applied)) = (read, command) else {
                return;
            };
            if round + 1 == ROUNDS && follows {
                let ordered = applied.power.unwrap_or(other);
                let stays = self.stays(ordered).await;
                let where_it_is = stays.err().unwrap_or_default();
                self.notes.check(rule, where_it_is.is_empty(), || {
                    format!("{ordered} applied beside a read, but {where_it_is}")
                });
            }
        }
        let command = self.start_default();
        let read = self.start_read();
        self.taken(read, rule, "a read beside go_to_default").await;
        self.taken(command, rule, "go_to_default beside a read")
            .await;
    }

    /// Calls an adapter whose device does not work.
    pub(super) async fn fail(&mut self, what: &str) {
        let rule = Rule::FailureIsTold;
        if let Some(answer) = self.answer(self.start_read()).await {
            let told = match &answer {
                Err(error) => error.kind != AdapterErrorKind::Unsupported,
                Ok(reading) => {
                    reading.availability == Availability::Unavailable
                        && reading.measurements.mw.is_none()
                }
            };
            self.notes.check(rule, told, || match answer {
                Ok(reading) => format!(
                    "{what}: read gave a value all the same, {:?}",
                    reading.measurements.mw
                ),
                Err(error) => format!("{what}: read said unsupported: {error}"),
            });
        }
        let setpoint = Setpoint::new(self.between(0.5));
        let applied = self.answer(self.start_apply(setpoint)).await;
        self.told(what, "apply", applied);
        let gone = self.answer(self.start_default()).await;
        self.told(what, "go_to_default", gone);
    }

    fn told(&mut self, what: &str, name: &str, answer: Option<Result<Applied, AdapterError>>) {
        let Some(answer) = answer else {
            return;
        };
        let told = matches!(&answer, Err(error) if error.kind != AdapterErrorKind::Unsupported);
        self.notes.check(Rule::FailureIsTold, told, || {
            format!("{what}: {name} gave {answer:?}")
        });
    }
}
