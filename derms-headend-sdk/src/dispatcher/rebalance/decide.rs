//! What is to be done for a site order of which an asset has dropped out: a decision without I/O and
//! without a clock.
//!
//! **What may be in force is never counted as missing.** An asset has one order in force at a time, so
//! it counts with the largest of its shares that may be. The new shares are made from what the order
//! leaves above the sum of these; so that sum never exceeds the order in its direction.

use std::collections::BTreeMap;
use std::time::Duration;

use derms_proto::{
    Asset, AssetId, Dispatch, DispatchId, DispatchStatus, FailsafePolicy, Member, Power,
    ReasonCode, Resplit, SPLIT_VERSION, SplitSummary, Timestamp, split,
};

/// Who asks for the end of a share whose asset has dropped out: [`Dispatch::cancelled_by`].
pub(super) const REBALANCE: &str = "rebalance";

/// An order is shared anew this often at most, so that assets that come and go do not keep a site
/// moving.
pub(super) const MOST_RESPLITS: usize = 8;

/// Between two of them the new shares have time to start, and to be refused.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

/// An asset that can't be controlled for a shorter time has not dropped out.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// What the agent may have heard after its session was given up here, and what the device takes to
/// answer.
const FAILSAFE_MARGIN: Duration = Duration::from_secs(30);

/// What is left of the order is not worth a change of setpoints.
const SHORTEST: Duration = Duration::from_secs(10);

/// Less is rounding, MW.
const LEAST_MW: f64 = 1e-6;

/// Why an asset can't be given anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Out {
    /// No session serves it.
    Lost,
    /// Its agent says that it can't be controlled.
    Unavailable,
}

/// What is known of an asset that has a share.
#[derive(Debug, Clone)]
pub(super) struct Seat<'a> {
    pub(super) asset: &'a Asset,
    /// With the range that limits leave.
    pub(super) member: Member,
    /// It is served, takes orders, is not stopped, and nobody ordered anything else of it.
    pub(super) free: bool,
    /// Since when it is out of reach, as far as that was seen.
    pub(super) out: Option<(Out, Duration)>,
    /// What the session that serves it said last that its device has accepted: when, and which order.
    pub(super) control: Option<(Timestamp, Option<DispatchId>)>,
    /// Its newest good measurement.
    pub(super) measured: Option<(Timestamp, Power)>,
    /// Its shares whose release was written to the session that serves it.
    pub(super) released: Vec<DispatchId>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    /// Nothing will ever be done for it again.
    Over,
    Wait,
    /// Their assets are out of reach: they must not come back.
    Withdraw(Vec<DispatchId>),
    Share(Plan),
}

/// How to share anew.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// What is to be recorded, without the ids of the new shares.
    pub(super) split: SplitSummary,
    /// All that an asset is to do from now on. None: nobody has room, and only that is recorded.
    pub(super) shares: Vec<(AssetId, Power)>,
    pub(super) stands_in_for: Vec<DispatchId>,
    /// All shares whose place is taken in full from now on.
    pub(super) replaced: Vec<DispatchId>,
    pub(super) missing: Power,
    pub(super) residual: Power,
    /// What is left of the order; `None`: it has no end.
    pub(super) remaining: Option<Duration>,
}

/// What an asset does for the order.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    /// This much may be in force, MW in the direction of the order.
    Held(f64),
    /// It has dropped out, and nothing is in force any more.
    Lost,
    /// An operator took it out, or its time is over: what it did is not missing.
    Given(f64),
}

struct Case<'a> {
    order: &'a Dispatch,
    seats: &'a BTreeMap<AssetId, Seat<'a>>,
    /// 1 or -1.
    sign: f64,
    /// Nobody takes over any more; what is missing is recorded.
    closed: bool,
}

/// Looks at a site order with its shares. `at_most`: how much may be left of it by a clock that nobody
/// sets; `None`: it has no end.
pub(super) fn decide(
    order: &Dispatch,
    seats: &BTreeMap<AssetId, Seat<'_>>,
    now: Timestamp,
    at_most: Option<Duration>,
) -> Decision {
    let Some(summary) = order.split.as_ref().filter(|split| split.rebalance) else {
        return Decision::Over;
    };
    if order.status.is_terminal() || order.cancel_requested_at.is_some() {
        return Decision::Over;
    }
    let remaining = remaining(order, now).into_iter().chain(at_most).min();
    let closed =
        summary.resplits.len() >= MOST_RESPLITS || remaining.is_some_and(|left| left < SHORTEST);
    let before = summary
        .resplits
        .last()
        .map_or(order.begins(), |last| last.at);
    if now < before.saturating_add(PAUSE) {
        return Decision::Wait;
    }
    let case = Case {
        order,
        seats,
        sign: if order.mw < Power::ZERO { -1.0 } else { 1.0 },
        closed,
    };
    let withdrawn = case.to_withdraw();
    if !closed && !withdrawn.is_empty() {
        return Decision::Withdraw(withdrawn);
    }
    case.share(summary, remaining, now)
        .map_or(Decision::Wait, Decision::Share)
}

fn positive(power: Power) -> Power {
    Power::from_mw(power.mw().max(0.0))
}

fn remaining(order: &Dispatch, now: Timestamp) -> Option<Duration> {
    let lease = Duration::try_from_secs_f64(order.duration_s?).ok()?;
    let left = order.begins().saturating_add(lease).saturating_since(now);
    // A clock that was set back makes no order longer.
    Some(left.min(lease))
}

/// Taken back before it was sent, since the store had failed: it never was.
fn never_was(share: &Dispatch) -> bool {
    share.status == DispatchStatus::Cancelled
        && share.cancel_requested_at.is_none()
        && share.reason != Some(ReasonCode::Stopped)
}

/// Whether a share that is not in force is not by the will of an operator. One that has not ended is
/// not in force though its agent can't say so.
fn has_dropped_out(share: &Dispatch) -> bool {
    let stopped = share.reason == Some(ReasonCode::Stopped);
    match share.status {
        DispatchStatus::Failed | DispatchStatus::Rejected | DispatchStatus::Expired => !stopped,
        DispatchStatus::Cancelled | DispatchStatus::Indeterminate => {
            share.cancelled_by.as_deref() == Some(REBALANCE)
        }
        status => !status.is_terminal(),
    }
}

impl<'a> Case<'a> {
    /// The shares of each asset, oldest first.
    fn by_asset(&self) -> BTreeMap<AssetId, Vec<&'a Dispatch>> {
        let mut shares: BTreeMap<AssetId, Vec<&Dispatch>> = BTreeMap::new();
        for share in self.order.children.iter().filter(|share| !never_was(share)) {
            if let Some(asset) = share.asset_id {
                shares.entry(asset).or_default().push(share);
            }
        }
        for shares in shares.values_mut() {
            shares.sort_by_key(|share| share.revision);
        }
        shares
    }

    fn directed(&self, share: &Dispatch) -> f64 {
        share.mw.mw() * self.sign
    }

    /// Whether others took its place in full, and were not taken back.
    fn is_replaced(&self, share: &Dispatch) -> bool {
        let taken_back = |id: &DispatchId| {
            let mut shares = self.order.children.iter();
            shares.any(|share| share.id == *id && never_was(share))
        };
        let mut resplits = self.order.split.iter().flat_map(|split| &split.resplits);
        share.replaced
            && resplits.any(|resplit| {
                resplit.stands_in_for.contains(&share.id) && !resplit.shares.iter().any(taken_back)
            })
    }

    /// The shares that are marked so, and rightly.
    fn still_replaced(&self) -> impl Iterator<Item = DispatchId> {
        let shares = self.order.children.iter();
        let replaced =
            shares.filter(|share| share.replaced && (never_was(share) || self.is_replaced(share)));
        replaced.map(|share| share.id)
    }

    fn to_withdraw(&self) -> Vec<DispatchId> {
        let shares = self.order.children.iter().filter(|share| {
            let sent = !share.status.is_terminal() && share.status != DispatchStatus::Pending;
            let seat = share.asset_id.and_then(|asset| self.seats.get(&asset));
            let out = seat.is_some_and(|seat| match seat.out {
                Some((Out::Unavailable, time)) => time >= GRACE,
                Some((Out::Lost, _)) => seat.has_fallen_back(share),
                None => false,
            });
            sent && share.cancel_requested_at.is_none() && out
        });
        shares.map(|share| share.id).collect()
    }

    fn share(
        &self,
        summary: &SplitSummary,
        remaining: Option<Duration>,
        now: Timestamp,
    ) -> Option<Plan> {
        let added: Vec<DispatchId> = summary
            .resplits
            .iter()
            .flat_map(|resplit| resplit.shares.iter().copied())
            .collect();
        let first = self
            .order
            .children
            .iter()
            .filter(|share| !added.contains(&share.id));
        let placed: f64 = first.map(|share| self.directed(share)).sum();
        let wanted = self.order.mw.mw() * self.sign;

        let by_asset = self.by_asset();
        let (mut held, mut given, mut lost) = (0.0, 0.0, Vec::new());
        for (asset, shares) in &by_asset {
            let seat = self.seats.get(asset);
            match self.part(seat, shares) {
                Part::Held(mw) => held += mw,
                Part::Given(mw) => given += mw,
                Part::Lost => {}
            }
            let dropped = shares.iter().filter(|share| {
                !self.is_replaced(share)
                    && has_dropped_out(share)
                    && !self.may_be_in_force(seat, share)
            });
            lost.extend(dropped.map(|share| share.id));
        }
        let missing = if lost.is_empty() {
            0.0
        } else {
            (placed.min(wanted) - given - held).max(0.0)
        };
        let members = by_asset.iter().filter_map(|(asset, shares)| {
            let seat = self.seats.get(asset)?;
            let mw = self.taking_part(seat, shares)?;
            Some(self.above(seat, mw))
        });
        let nobody = self.closed || missing <= LEAST_MW;
        let members: Vec<(Member, f64)> = members.filter(|_| !nobody).collect();
        let policy = summary.policy;
        let only: Vec<Member> = members.iter().map(|(member, _)| *member).collect();
        let extra = split(Power::from_mw(missing * self.sign), policy, &only);
        let shares: Vec<(AssetId, Power)> = extra
            .shares
            .iter()
            .filter(|(_, mw)| mw.mw() * self.sign > LEAST_MW)
            .filter_map(|(asset, mw)| {
                let (_, base) = members
                    .iter()
                    .find(|(member, _)| member.asset_id == *asset)?;
                Some((*asset, Power::from_mw(base * self.sign + mw.mw())))
            })
            .collect();
        let residual = if only.is_empty() {
            Power::from_mw(missing * self.sign)
        } else {
            extra.residual
        };
        let mut split = summary.clone();
        split.residual_mw = Power::from_mw((wanted - placed) * self.sign) + residual;
        let mut replaced: Vec<DispatchId> = self.still_replaced().collect();
        if shares.is_empty() {
            let marked = self.order.children.iter().filter(|share| share.replaced);
            let differs = (split.residual_mw - summary.residual_mw).mw().abs() > LEAST_MW;
            if !differs && marked.count() == replaced.len() {
                return None;
            }
        } else {
            split.resplits.push(Resplit {
                at: now,
                policy,
                version: SPLIT_VERSION,
                missing_mw: Power::from_mw(missing * self.sign),
                residual_mw: residual,
                stands_in_for: lost.clone(),
                shares: Vec::new(),
            });
            if residual.mw().abs() < LEAST_MW {
                let never = self.order.children.iter().filter(|share| never_was(share));
                replaced.extend(lost.iter().copied().chain(never.map(|share| share.id)));
            }
        }
        Some(Plan {
            split,
            shares,
            stands_in_for: lost,
            replaced,
            missing: Power::from_mw(missing * self.sign),
            residual,
            remaining,
        })
    }

    /// What an asset does; of its shares at most one is in force.
    fn part(&self, seat: Option<&Seat<'_>>, shares: &[&Dispatch]) -> Part {
        let may_be = shares
            .iter()
            .filter(|share| self.may_be_in_force(seat, share));
        let most = may_be.map(|share| self.directed(share)).reduce(f64::max);
        if let Some(most) = most {
            return Part::Held(most);
        }
        match shares.last() {
            Some(newest) if !has_dropped_out(newest) => Part::Given(self.directed(newest)),
            _ => Part::Lost,
        }
    }

    fn may_be_in_force(&self, seat: Option<&Seat<'_>>, share: &Dispatch) -> bool {
        let Some(seat) = seat else {
            return !share.status.is_terminal();
        };
        match share.status {
            // The device failed; it is somewhere until it has accepted something else.
            DispatchStatus::Failed => !seat.left_since(share),
            status if status.is_terminal() && status != DispatchStatus::Indeterminate => false,
            _ => {
                // A release of it goes out before anything else, so it does not come back.
                let released = share.cancel_requested_at;
                let at_rest = |since: Timestamp| match seat.out {
                    Some((Out::Lost, _)) => seat.has_fallen_back(share),
                    Some((Out::Unavailable, _)) => seat.idles_since(since, share, self.sign),
                    None => false,
                };
                !released.is_some_and(at_rest)
            }
        }
    }

    /// What an asset does that may be given more: its newest share is in force without a doubt, and it
    /// has let nobody down before.
    fn taking_part(&self, seat: &Seat<'_>, shares: &[&Dispatch]) -> Option<f64> {
        let newest = shares.last()?;
        let steady = newest.status == DispatchStatus::Active
            && !newest.in_doubt
            && newest.cancel_requested_at.is_none();
        let earlier = shares.iter().take(shares.len() - 1);
        let failed = earlier
            .filter(|share| share.status != DispatchStatus::Superseded)
            .count()
            > 0;
        (seat.free && seat.out.is_none() && steady && !failed).then(|| self.directed(newest))
    }

    /// The room above what an asset does already.
    fn above(&self, seat: &Seat<'_>, mw: f64) -> (Member, f64) {
        let at = Power::from_mw(mw * self.sign);
        let mut member = seat.member;
        (member.min_mw, member.max_mw) = if self.sign > 0.0 {
            (Power::ZERO, positive(member.max_mw - at))
        } else {
            (-positive(at - member.min_mw), Power::ZERO)
        };
        member.present_mw = Power::ZERO;
        (member, mw)
    }
}

impl Seat<'_> {
    /// Its agent is out of reach, and has given the share up by itself: without a lease the failsafe
    /// takes its place. A lease runs on at the edge.
    fn has_fallen_back(&self, share: &Dispatch) -> bool {
        let failsafe = &self.asset.failsafe;
        let Some((Out::Lost, time)) = self.out else {
            return false;
        };
        let range = (self.asset.max_mw - self.asset.min_mw).mw();
        let slowest = [self.asset.ramp_rate_mw_per_min, share.ramp_mw_per_min]
            .into_iter()
            .flatten()
            .reduce(f64::min);
        let ramp = slowest.map_or(0.0, |rate| range / rate * 60.0);
        let ramp = Duration::try_from_secs_f64(ramp).unwrap_or(Duration::MAX);
        let after = failsafe.after().saturating_add(FAILSAFE_MARGIN);
        share.duration_s.is_none()
            && failsafe.policy != FailsafePolicy::Hold
            && time >= after.saturating_add(ramp)
    }

    /// Its device has accepted something else since this share ended.
    fn left_since(&self, share: &Dispatch) -> bool {
        let ended = share.transitions.last().map(|step| step.at);
        self.control.is_some_and(|(at, dispatch)| {
            ended.is_none_or(|ended| at > ended) && dispatch != Some(share.id)
        })
    }

    /// Its release has gone out, and it was measured since then to do nothing in the direction of the
    /// order: no more than a tenth of the share, however imprecise the meter of a large asset is.
    fn idles_since(&self, since: Timestamp, share: &Dispatch, sign: f64) -> bool {
        let range = (self.asset.max_mw - self.asset.min_mw).mw();
        let tolerance = (range * 0.02).max(0.05).min(share.mw.mw().abs() * 0.1);
        self.released.contains(&share.id)
            && self
                .measured
                .is_some_and(|(at, mw)| at > since && mw.mw() * sign <= tolerance)
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
