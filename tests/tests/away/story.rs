//! What is done while the database of a headend fails, and what must be told afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use derms_agent_sdk::testing::Call;
use derms_proto::{
    Dispatch, DispatchId, DispatchStatus, NewDispatch, NewStop, Power, ProblemCode, ReasonCode,
    StopId, Timestamp,
};
use derms_tests::{numbered_asset, until};
use http::StatusCode;

use crate::PATIENCE;
use crate::plant::check;
use crate::steered::{CANCELLED, DEFAULT, IDLE, LEASED, STOPPED, Steered, site};

/// Long enough for a database to fail meanwhile.
const LEASE: Duration = Duration::from_secs(40);

/// Orders that a database may take which takes no more of other things.
const MOST_TAKEN: u32 = 1_000;

/// What a database takes that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    /// What finds room in pages that it has.
    Some,
}

/// What was under way when the database failed.
#[derive(Debug)]
pub(crate) struct Before {
    leased: DispatchId,
    cancelled: DispatchId,
    stopped: DispatchId,
    epochs: Vec<Option<u64>>,
}

/// What was done and refused meanwhile.
#[derive(Debug)]
pub(crate) struct Meanwhile {
    /// Orders that the database took all the same.
    taken: Vec<Dispatch>,
    refused: Power,
    stop: StopId,
    readings: Vec<u64>,
    end: Timestamp,
}

impl Steered {
    /// Gives the orders that are to be under way when the database fails.
    pub(crate) async fn order(&self) -> Before {
        let order = |number, mw| NewDispatch::asset(numbered_asset(number), Power::from_mw(mw));
        let cancelled = self.active(&order(CANCELLED, 3.0)).await.id;
        let stopped = self.active(&order(STOPPED[0], 4.0)).await.id;
        let leased = self.active(&order(LEASED, 5.0).lasting(LEASE)).await.id;
        let epochs = self.epochs().await;
        assert!(epochs.iter().all(Option::is_some), "{epochs:?}");
        Before {
            leased,
            cancelled,
            stopped,
            epochs,
        }
    }

    /// Steers while the database fails: what is safe and what is live goes on, and nothing is
    /// begun that is not recorded.
    pub(crate) async fn steer(&self, before: &Before, takes: Takes) -> Meanwhile {
        assert_eq!(self.calls(LEASED).len(), 2, "the lease is over too early");
        let (taken, refused) = self.order_until_refused().await;
        assert!(taken.is_empty() || takes == Takes::Some, "{taken:?}");

        let cancelled = self.client.cancel(before.cancelled).await.unwrap();
        assert!(cancelled.cancel_requested_at.is_some(), "{cancelled:?}");
        self.until_last(CANCELLED, Call::GoToDefault(DEFAULT)).await;
        let stop = self.client.stop(&NewStop::site(site(2))).await.unwrap();
        assert_eq!((stop.assets, stop.reached), (2, 2), "{stop:?}");
        for number in STOPPED {
            until("a stopped device", PATIENCE, async || {
                let last = applied(self.calls(number).last()?);
                (last == Some(Power::ZERO)).then_some(())
            })
            .await;
        }
        if takes == Takes::Nothing {
            let text = cancelled.text.unwrap_or_default();
            assert!(text.contains("not stored"), "{text}");
            assert!(!stop.stored, "{stop:?}");
        }

        // Nobody ends this one.
        self.until_last(LEASED, Call::GoToDefault(DEFAULT)).await;
        let ended = Timestamp::now();
        for number in 0..self.devices.len() {
            until("what is live", PATIENCE, async || {
                let asset = numbered_asset(number);
                let snapshot = self.client.telemetry(asset).await.unwrap();
                (!snapshot.stale && snapshot.telemetry.measured_at > ended).then_some(())
            })
            .await;
        }
        self.client.healthz().await.unwrap();
        assert_eq!(self.epochs().await, before.epochs, "sessions");
        Meanwhile {
            taken,
            refused,
            stop: stop.id,
            readings: self
                .devices
                .iter()
                .map(|device| device.readings())
                .collect(),
            end: Timestamp::now(),
        }
    }

    /// Orders for the idle asset, each of another power, until one can't be stored.
    async fn order_until_refused(&self) -> (Vec<Dispatch>, Power) {
        let mut taken = Vec::new();
        for number in 1..=MOST_TAKEN {
            let power = Power::from_mw(f64::from(number) / 64.0);
            let order = NewDispatch::asset(numbered_asset(IDLE), power);
            match self.client.dispatch(&order).await {
                Ok(dispatch) => taken.push(dispatch),
                Err(error) => {
                    let status = Some(StatusCode::SERVICE_UNAVAILABLE);
                    assert_eq!(error.status(), status, "{error:?}");
                    let code = Some(ProblemCode::StoreUnavailable);
                    assert_eq!(error.code(), code, "{error:?}");
                    return (taken, power);
                }
            }
        }
        panic!("the database takes everything: {} orders", taken.len());
    }

    /// The database is there again: what it tells is what has happened.
    pub(crate) async fn check(&self, before: &Before, meanwhile: &Meanwhile) {
        until("readiness", PATIENCE, async || {
            self.client.readyz().await.ok()
        })
        .await;
        let mut ends = Vec::new();
        for id in [before.leased, before.cancelled, before.stopped] {
            let end = until("the end of an order", PATIENCE, async || {
                let dispatch = self.client.get_dispatch(id).await.ok()?;
                // A cancel may be stored after the report that it has led to.
                let asked = id != before.cancelled || dispatch.cancel_requested_at.is_some();
                (dispatch.status.is_terminal() && asked).then_some(dispatch)
            })
            .await;
            ends.push((end.status, end.reason));
            let last = end.transitions.last().and_then(|last| last.reported_at);
            assert!(last.is_some_and(|at| at < meanwhile.end), "{end:?}");
            if id == before.leased {
                assert_lasted(&end);
            }
        }
        let wanted = [
            (DispatchStatus::Completed, None),
            (
                DispatchStatus::Cancelled,
                Some(ReasonCode::CancelledByOperator),
            ),
            (DispatchStatus::Cancelled, Some(ReasonCode::Stopped)),
        ];
        assert_eq!(ends, wanted);
        until("the stop is stored and confirmed", PATIENCE, async || {
            let stops = self.client.stops().await.ok()?;
            assert_eq!(stops.len(), 1, "{stops:?}");
            let stop = stops.into_iter().find(|stop| stop.id == meanwhile.stop)?;
            (stop.stored && stop.confirmed == 2).then_some(())
        })
        .await;

        // The revision of the release was not the store's, and is to be passed.
        let powers = [(IDLE, 49.0), (CANCELLED, 6.0)];
        let mut next = BTreeSet::new();
        for (number, mw) in powers {
            let order = NewDispatch::asset(numbered_asset(number), Power::from_mw(mw));
            next.insert(self.active(&order).await.id);
        }
        let taken = meanwhile.taken.iter().map(|dispatch| dispatch.id);
        let ended: BTreeSet<DispatchId> = [before.leased, before.cancelled, before.stopped]
            .into_iter()
            .chain(taken)
            .collect();
        until("what else was ordered has ended", PATIENCE, async || {
            let orders = self.orders().await;
            let (over, open): (Vec<&Dispatch>, Vec<&Dispatch>) =
                orders.iter().partition(|order| order.status.is_terminal());
            let ids = |orders: &[&Dispatch]| orders.iter().map(|order| order.id).collect();
            let (over, open): (BTreeSet<_>, BTreeSet<_>) = (ids(&over), ids(&open));
            assert!(over.is_subset(&ended), "{orders:?}");
            (over == ended && open == next).then_some(())
        })
        .await;

        self.check_devices(meanwhile);
        self.until_all_stored(&meanwhile.readings).await;
        for number in 0..self.devices.len() {
            check(&self.client, number).await;
        }
        assert_eq!(self.epochs().await, before.epochs, "sessions");
    }

    /// Each command came once, in its order, and nothing that was refused did.
    fn check_devices(&self, meanwhile: &Meanwhile) {
        let default = None;
        let mw = |mw| Some(Power::from_mw(mw));
        for (number, wanted) in [
            (LEASED, vec![default, mw(5.0), default]),
            (CANCELLED, vec![default, mw(3.0), default, mw(6.0)]),
            (STOPPED[0], vec![default, mw(4.0), mw(0.0)]),
            (STOPPED[1], vec![default, mw(0.0)]),
        ] {
            let calls = self.calls(number);
            let powers: Vec<_> = calls.iter().map(applied).collect();
            assert_eq!(powers, wanted, "{number}: {calls:?}");
        }
        let powers: Vec<Power> = self.calls(IDLE).iter().filter_map(applied).collect();
        let mut taken = meanwhile.taken.iter().map(|dispatch| dispatch.mw);
        let (last, earlier) = powers.split_last().unwrap();
        assert_eq!(Some(*last), mw(49.0), "{powers:?}");
        // Each once and in their order; what was refused is none of them.
        for power in earlier {
            assert!(taken.any(|taken| taken == *power), "{powers:?}");
            assert_ne!(*power, meanwhile.refused);
        }
    }

    /// A headend that starts on the same database knows it all from there.
    pub(crate) async fn check_restarted(self, before: &Before, meanwhile: &Meanwhile) {
        let headend = self.restarted().await;
        let stops = headend.client.stops().await.unwrap();
        assert_eq!(stops.len(), 1, "{stops:?}");
        assert_eq!(stops[0].id, meanwhile.stop);
        for (id, status) in [
            (before.leased, DispatchStatus::Completed),
            (before.cancelled, DispatchStatus::Cancelled),
            (before.stopped, DispatchStatus::Cancelled),
        ] {
            let dispatch = headend.client.get_dispatch(id).await.unwrap();
            assert_eq!(dispatch.status, status, "{dispatch:?}");
        }
    }
}

/// What a setpoint asked for; `None`: the default.
fn applied(call: &Call) -> Option<Power> {
    match call {
        Call::Apply(setpoint) => Some(setpoint.power),
        _ => None,
    }
}

/// By the agent's own clock, in which the database has no part.
fn assert_lasted(leased: &Dispatch) {
    let told = |status| {
        let mut steps = leased.transitions.iter();
        let step = steps.find(|step| step.status == status);
        step.and_then(|step| step.reported_at).unwrap()
    };
    let ended = told(DispatchStatus::Completed);
    let lasted = ended.saturating_since(told(DispatchStatus::Active));
    let late = lasted.saturating_sub(LEASE);
    assert!(lasted + Duration::from_millis(100) > LEASE, "{lasted:?}");
    assert!(late < Duration::from_secs(15), "{lasted:?}");
}
