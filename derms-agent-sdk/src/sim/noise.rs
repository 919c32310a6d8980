//! Repeatable noise: a function of seed and time, so values don't depend on how often they are read.

use derms_proto::AssetId;

/// A source of numbers that look random and are the same for the same seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise(u64);

impl Noise {
    /// The noise that all assets share.
    pub(super) fn shared(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The noise of one asset.
    pub(super) fn of_asset(seed: u64, asset: AssetId) -> Self {
        let (high, low) = asset.uuid().as_u64_pair();
        Self(mix(mix(mix(seed) ^ high) ^ low))
    }

    /// An independent source for one purpose.
    pub(super) fn channel(self, name: &str) -> Self {
        Self(
            name.bytes()
                .fold(self.0, |state, byte| mix(state ^ u64::from(byte))),
        )
    }

    /// The `n`th number, in `[low, high)`.
    pub(super) fn pick(self, n: i64, low: f64, high: f64) -> f64 {
        // The upper 53 bits fill the mantissa of an f64.
        let unit = (mix(self.0 ^ mix(n.cast_unsigned())) >> 11) as f64 / (1_u64 << 53) as f64;
        low + unit * (high - low)
    }

    /// A smooth curve in `[-1, 1]` that takes a new direction every `period_s` seconds.
    pub(super) fn wave(self, now_s: f64, period_s: f64) -> f64 {
        let position = now_s / period_s;
        let cell = position.floor();
        let within = position - cell;
        let smooth = within * within * (3.0 - 2.0 * within);
        let from = self.pick(cell as i64, -1.0, 1.0);
        let to = self.pick(cell as i64 + 1, -1.0, 1.0);
        from + (to - from) * smooth
    }
}

/// The finaliser of SplitMix64: every bit of the input changes half of the output.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_smooth_bounded_and_moves() {
        let noise = Noise::shared(7);
        let values: Vec<f64> = (0..10_000)
            .map(|i| noise.wave(f64::from(i), 100.0))
            .collect();
        assert!(values.iter().all(|v| (-1.0..=1.0).contains(v)));
        // The steepest point of the smoothing is 1.5 times the mean slope.
        assert!(
            values
                .windows(2)
                .all(|w| (w[1] - w[0]).abs() <= 2.0 * 1.5 / 100.0)
        );
        assert!(values.iter().any(|v| *v > 0.5) && values.iter().any(|v| *v < -0.5));
    }

    #[test]
    fn seeds_assets_and_channels_are_independent() {
        let one: AssetId = "7ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().unwrap();
        let two: AssetId = "7ba7b810-9dad-11d1-80b4-00c04fd430c9".parse().unwrap();
        let first = |noise: Noise| noise.pick(0, 0.0, 1.0);
        let base = first(Noise::of_asset(1, one));
        assert_eq!(base, first(Noise::of_asset(1, one)));
        assert_ne!(base, first(Noise::of_asset(2, one)));
        assert_ne!(base, first(Noise::of_asset(1, two)));
        assert_ne!(base, first(Noise::of_asset(1, one).channel("wind")));
    }
}
