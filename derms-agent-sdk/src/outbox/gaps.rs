//! Numbers of the telemetry log that are lost for good and not acknowledged.

use derms_proto::link::{Gap, GapReason};

/// More are merged with a neighbour, whatever their reasons.
const MANY: usize = 32;
/// More swallow what lies between the two oldest.
const MOST: usize = 256;

/// Sorted, and never on top of each other.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Gaps(Vec<Gap>);

impl Gaps {
    pub(super) fn of(gaps: Vec<Gap>) -> Self {
        let mut all = Self::default();
        for gap in gaps {
            all.add(gap);
        }
        all
    }

    pub(super) fn as_slice(&self) -> &[Gap] {
        &self.0
    }

    /// How many numbers are lost.
    pub(super) fn count(&self) -> u64 {
        let lost = self.0.iter().map(|gap| gap.last_seq + 1 - gap.first_seq);
        lost.sum()
    }

    /// What of it was declared before keeps its reason.
    pub(super) fn add(&mut self, gap: Gap) {
        let mut first = gap.first_seq;
        let mut fresh = Vec::new();
        for known in &self.0 {
            if known.last_seq < first || known.first_seq > gap.last_seq {
                continue;
            }
            if known.first_seq > first {
                fresh.push((first, known.first_seq - 1));
            }
            first = known.last_seq + 1;
        }
        if first <= gap.last_seq {
            fresh.push((first, gap.last_seq));
        }
        self.0
            .extend(fresh.into_iter().map(|(first_seq, last_seq)| Gap {
                first_seq,
                last_seq,
                reason: gap.reason,
            }));
        self.0.sort_unstable_by_key(|gap| gap.first_seq);
        self.merge(|one, other| one.reason == other.reason);
        if self.0.len() > MANY {
            let mut merged = false;
            self.merge(|_, _| !std::mem::replace(&mut merged, true));
        }
        if self.0.len() > MOST {
            let first = self.0.remove(0);
            self.0[0].first_seq = first.first_seq;
            self.0[0].reason = GapReason::Unknown;
        }
    }

    /// Merges neighbours without a number between them.
    fn merge(&mut self, mut may: impl FnMut(&Gap, &Gap) -> bool) {
        self.0.dedup_by(|later, earlier| {
            let one = later.first_seq == earlier.last_seq + 1 && may(earlier, later);
            if one {
                earlier.last_seq = later.last_seq;
                earlier.reason = later.reason;
            }
            one
        });
    }

    /// Up to there all is acknowledged.
    pub(super) fn ack(&mut self, up_to: u64) {
        self.0.retain(|gap| gap.last_seq > up_to);
        if let Some(gap) = self.0.first_mut() {
            gap.first_seq = gap.first_seq.max(up_to + 1);
        }
    }

    /// All numbers are lower by this.
    pub(super) fn shift(&mut self, by: u64) {
        for gap in &mut self.0 {
            gap.first_seq -= by;
            gap.last_seq -= by;
        }
    }

    /// The gaps that follow each other from `from` on, and the number behind them.
    pub(super) fn from(&self, from: u64) -> (Vec<Gap>, u64) {
        let mut at = from;
        let mut gaps = Vec::new();
        for gap in self.0.iter().filter(|gap| gap.last_seq >= from) {
            if gap.first_seq > at {
                break;
            }
            gaps.push(Gap {
                first_seq: gap.first_seq.max(from),
                ..*gap
            });
            at = gap.last_seq + 1;
        }
        (gaps, at)
    }

    /// Where the first gap behind `at` begins.
    pub(super) fn next_after(&self, at: u64) -> Option<u64> {
        let mut later = self.0.iter().map(|gap| gap.first_seq);
        later.find(|first| *first > at)
    }

    #[cfg(test)]
    fn has(&self, seq: u64) -> bool {
        let mut gaps = self.0.iter();
        gaps.any(|gap| (gap.first_seq..=gap.last_seq).contains(&seq))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gap(first_seq: u64, last_seq: u64) -> Gap {
        Gap {
            first_seq,
            last_seq,
            reason: GapReason::OutboxFull,
        }
    }

    #[test]
    fn neighbours_of_one_reason_are_one_and_of_two_are_two() {
        let late = Gap {
            reason: GapReason::TooOld,
            ..gap(6, 7)
        };
        let gaps = Gaps::of(vec![gap(3, 3), gap(1, 2), gap(4, 5), late]);
        assert_eq!(gaps.as_slice(), [gap(1, 5), late]);
        assert_eq!(gaps.from(2), (vec![gap(2, 5), late], 8));
        assert_eq!(gaps.count(), 7);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_number_is_lost_if_and_only_if_it_was_declared(ranges in prop::collection::vec((1_u64..300, 0_u64..9, 0_u8..3), 0..25)) {
            let mut gaps = Gaps::default();
            let mut lost = std::collections::BTreeSet::new();
            for (first, more, reason) in ranges {
                let reason = [GapReason::TooOld, GapReason::Corrupt, GapReason::OutboxFull][usize::from(reason)];
                gaps.add(Gap { reason, ..gap(first, first + more) });
                lost.extend(first..=first + more);
            }
            for seq in 1..320 {
                prop_assert_eq!(gaps.has(seq), lost.contains(&seq));
            }
            prop_assert_eq!(gaps.count(), lost.len() as u64);
            prop_assert!(gaps.as_slice().windows(2).all(|pair| pair[0].last_seq < pair[1].first_seq));
        }
    }
}
