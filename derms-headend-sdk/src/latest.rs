//! The newest measurement of every asset, for fast reads.

use std::collections::HashMap;

use derms_proto::{AssetId, Fleet, Telemetry, Timestamp};
use parking_lot::RwLock;

/// One slot per configured asset; a write touches no other asset.
#[derive(Debug)]
pub(crate) struct Latest {
    index: HashMap<AssetId, Slot>,
    slots: Vec<RwLock<Option<Telemetry>>>,
}

/// Where the newest measurement of an asset is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot(usize);

impl Latest {
    pub(crate) fn new(fleet: &Fleet) -> Self {
        let assets = fleet.assets().iter().enumerate();
        Self {
            index: assets
                .map(|(place, asset)| (asset.id, Slot(place)))
                .collect(),
            slots: fleet.assets().iter().map(|_| RwLock::default()).collect(),
        }
    }

    /// The slot of an asset of the fleet.
    pub(crate) fn slot(&self, asset: AssetId) -> Option<Slot> {
        self.index.get(&asset).copied()
    }

    /// Takes a measurement if it is newer **by time of measurement** than the one held.
    ///
    /// A time in the future (a wrong clock at the edge) counts as the time of receipt: else one
    /// such value would hide all that follow until its time has come.
    pub(crate) fn offer(&self, telemetry: &Telemetry) {
        if let Some(slot) = self.slot(telemetry.asset_id) {
            self.offer_at(slot, telemetry);
        }
    }

    /// [`offer`](Self::offer) with the slot of the measurement's asset, looked up before.
    /// Whether it was taken.
    pub(crate) fn offer_at(&self, slot: Slot, telemetry: &Telemetry) -> bool {
        let Some(slot) = self.slots.get(slot.0) else {
            return false;
        };
        let mut held = slot.write();
        let newer = held
            .as_ref()
            .is_none_or(|held| time_of(held) < time_of(telemetry));
        if newer {
            *held = Some(telemetry.clone());
        }
        newer
    }

    pub(crate) fn get(&self, asset: AssetId) -> Option<Telemetry> {
        self.slots.get(self.slot(asset)?.0)?.read().clone()
    }
}

fn time_of(telemetry: &Telemetry) -> Timestamp {
    telemetry.measured_at.min(telemetry.received_at)
}

#[cfg(test)]
mod tests {
    use derms_proto::{Asset, AssetKind, Measurements, Power, Site, SiteId};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn latest() -> (Latest, Asset) {
        let site = Site {
            id: SiteId::new(Uuid::from_u128(1)),
            name: "S".into(),
            location: String::new(),
        };
        let asset = Asset::new(
            AssetId::new(Uuid::from_u128(2)),
            "A",
            site.id,
            AssetKind::Battery,
            Power::from_mw(-1.0),
            Power::from_mw(1.0),
        );
        let fleet = Fleet::new(vec![site], vec![asset.clone()]).unwrap();
        (Latest::new(&fleet), asset)
    }

    fn telemetry(asset: &Asset, measured: i64, received: i64) -> Telemetry {
        Telemetry {
            asset_id: asset.id,
            site_id: asset.site_id,
            measured_at: Timestamp::from_unix_micros(measured),
            received_at: Timestamp::from_unix_micros(received),
            measurements: Measurements::default(),
        }
    }

    proptest! {
        #[test]
        fn the_latest_is_the_last_measured_in_whatever_order_samples_come(
            times in prop::collection::vec(0_i64..1000, 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 1..80),
        ) {
            let (latest, asset) = latest();
            let mut newest = None;
            // Shuffled and duplicated.
            for (received, index) in order.iter().enumerate() {
                let measured = times[index.index(times.len())];
                latest.offer(&telemetry(&asset, measured, 1000 + received as i64));
                newest = newest.max(Some(measured));
            }
            let held = latest.get(asset.id).unwrap().measured_at.unix_micros();
            prop_assert_eq!(Some(held), newest);
        }
    }

    #[test]
    fn a_value_from_the_future_does_not_hide_those_that_follow() {
        let (latest, asset) = latest();
        latest.offer(&telemetry(&asset, 3_600_000_000, 10));
        latest.offer(&telemetry(&asset, 20, 21));
        assert_eq!(latest.get(asset.id).unwrap().measured_at.unix_micros(), 20);
    }

    #[test]
    fn an_unknown_asset_is_left_out() {
        let (latest, asset) = latest();
        let stranger = Asset {
            id: AssetId::new(Uuid::from_u128(9)),
            ..asset
        };
        latest.offer(&telemetry(&stranger, 1, 2));
        assert_eq!(latest.get(stranger.id), None);
    }
}
