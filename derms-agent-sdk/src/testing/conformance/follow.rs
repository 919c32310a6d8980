//! Whether the measured power goes where it was sent.

use std::time::Duration;

use derms_proto::Power;
use tokio::time::{Instant, sleep};

use super::Response;
use super::probe::Probe;
use crate::Reading;

/// How often a device is read while it is on its way.
const STEP: Duration = Duration::from_millis(200);

/// What became of a device on its way.
#[derive(Debug)]
pub(super) enum Followed {
    /// It is there: where, MW.
    Reached(f64),
    /// It was measured all the time, and is elsewhere.
    Elsewhere {
        /// Where, MW.
        mw: f64,
        /// Every reading was the same, and none said that it was old.
        frozen: bool,
    },
    /// No reading was younger than the command.
    TooOld,
    /// It measures no power.
    NoPower,
    /// It could not be read; that is noted.
    Unread,
}

impl Probe<'_> {
    /// How long a device may take to any power.
    pub(super) fn patience(&self) -> Duration {
        let asset = &self.kit.asset;
        let span = (asset.max_mw - asset.min_mw).mw();
        let way_s = asset.ramp_rate_mw_per_min.map_or(0.0, |r| span / r * 60.0);
        // Past a day of it the asset is not meant to be moved by a test.
        let way = Duration::try_from_secs_f64(way_s.min(86_400.0)).unwrap_or_default();
        self.kit.settling + way
    }

    /// Whether a measured power is what this order leads to, both MW.
    pub(super) fn keeps(&self, mw: f64, ordered: f64) -> bool {
        let tolerance = self.kit.tolerance.mw();
        match self.kit.response {
            Response::Follows => (mw - ordered).abs() <= tolerance,
            Response::Limits => {
                mw >= ordered.min(0.0) - tolerance && mw <= ordered.max(0.0) + tolerance
            }
        }
    }

    /// Reads until the power is what was ordered, or `patience` has passed.
    pub(super) async fn follow(&mut self, ordered: Power, patience: Duration) -> Followed {
        let commanded = Instant::now();
        let mut first: Option<Reading> = None;
        let mut frozen = true;
        let mut last = Followed::TooOld;
        loop {
            let Some(reading) = self.read().await else {
                return Followed::Unread;
            };
            let Some(mw) = power(&reading) else {
                return Followed::NoPower;
            };
            if reading.age <= commanded.elapsed() {
                if self.keeps(mw, ordered.mw()) {
                    return Followed::Reached(mw);
                }
                frozen &= reading.age.is_zero();
                frozen &= first
                    .as_ref()
                    .is_none_or(|first| first.measurements == reading.measurements);
                first.get_or_insert(reading);
                last = Followed::Elsewhere { mw, frozen };
            }
            if commanded.elapsed() >= patience {
                return last;
            }
            sleep(STEP).await;
        }
    }

    /// As [`follow`](Self::follow), and that it is still there a second later. Else where it is.
    pub(super) async fn stays(&mut self, ordered: Power) -> Result<(), String> {
        let patience = self.patience();
        match self.follow(ordered, patience).await {
            Followed::Reached(_) => {}
            Followed::Elsewhere { mw, .. } => return Err(format!("it is at {mw:.3} MW")),
            other => return Err(format!("it can't be followed ({other:?})")),
        }
        sleep(Duration::from_secs(1)).await;
        match self.measured().await {
            Some(mw) if self.keeps(mw, ordered.mw()) => Ok(()),
            Some(mw) => Err(format!("it went on to {mw:.3} MW")),
            None => Err("it shows no power any more".into()),
        }
    }

    /// The power that is measured now, MW.
    pub(super) async fn measured(&mut self) -> Option<f64> {
        power(&self.read().await?)
    }
}

/// MW; a value that is no number is noted elsewhere.
pub(super) fn power(reading: &Reading) -> Option<f64> {
    let mw = reading.measurements.mw?.mw();
    mw.is_finite().then_some(mw)
}
