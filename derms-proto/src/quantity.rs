//! Physical quantities and the one sign convention.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Neg, Sub};

use serde::{Deserialize, Serialize};

/// Active power, in megawatts.
///
/// **Sign: positive = discharge, generation, export; negative = charge, consumption, import.**
/// The same as SunSpec model 701 and OpenEMS.
///
/// A `Power` may hold any `f64`; what comes from outside is checked with
/// [`is_finite`](Self::is_finite) where it enters (the wire, REST, the fleet file).
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "schema",
    schema(description = "Power in MW; positive = discharge, generation, export.")
)]
#[serde(transparent)]
pub struct Power(f64);

impl Power {
    /// No power flows.
    pub const ZERO: Self = Self(0.0);

    /// From megawatts.
    #[must_use]
    pub const fn from_mw(mw: f64) -> Self {
        Self(mw)
    }

    /// From kilowatts, the unit of most device registers.
    #[must_use]
    pub fn from_kw(kw: f64) -> Self {
        Self(kw / 1e3)
    }

    /// From watts.
    #[must_use]
    pub fn from_w(w: f64) -> Self {
        Self(w / 1e6)
    }

    /// In megawatts.
    #[must_use]
    pub const fn mw(self) -> f64 {
        self.0
    }

    /// In kilowatts.
    #[must_use]
    pub fn kw(self) -> f64 {
        self.0 * 1e3
    }

    /// In watts.
    #[must_use]
    pub fn w(self) -> f64 {
        self.0 * 1e6
    }

    /// Neither NaN nor infinite.
    #[must_use]
    pub const fn is_finite(self) -> bool {
        self.0.is_finite()
    }

    /// The magnitude.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.abs())
    }

    /// Kept inside `[min, max]`; where `min > max`, `min` wins (no panic).
    #[must_use]
    pub const fn clamp(self, min: Self, max: Self) -> Self {
        Self(self.0.min(max.0).max(min.0))
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MW", self.0)
    }
}

impl Add for Power {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Power {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Neg for Power {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Sum for Power {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        Self(iter.map(|p| p.0).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_differ_by_a_thousand_each() {
        let power = Power::from_kw(-1500.0);
        assert_eq!(power.mw(), -1.5);
        assert_eq!(power.w(), -1_500_000.0);
        assert_eq!(Power::from_w(2e6), Power::from_mw(2.0));
    }

    #[test]
    fn clamping_to_an_empty_range_does_not_panic() {
        let clamped = Power::from_mw(5.0).clamp(Power::from_mw(3.0), Power::from_mw(1.0));
        assert_eq!(clamped, Power::from_mw(3.0));
    }
}
