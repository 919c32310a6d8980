//! What agents are told of what holds, and what they say of it.

use std::time::Duration;

use derms_proto::link::{AssetLimits, Control, Limit, LimitPhase, LimitReport};
use derms_proto::{AgentId, AssetId, ControlSource, LimitStatus, PowerLimit, Timestamp};

use super::book::{Book, Entry};
use super::stops;
use crate::store::MAX_COUNTER;

/// A heartbeat that shows older limits than were told this long ago: they were lost on the way.
const TOLD_IN_VAIN: Duration = Duration::from_secs(5);

/// A session: epochs are counted per agent, and an asset may come to another one.
pub(super) type Speaker = (AgentId, u64);

/// What the agent that serves an asset said last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Word {
    pub(super) by: Speaker,
    /// The limits that it keeps to.
    revision: u64,
    pub(super) control: Control,
    pub(super) at: Timestamp,
    /// What it was told in this session, and when.
    told: Option<(u64, Timestamp)>,
}

/// What an agent says about one of its assets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) by: Speaker,
    /// The revision of the limits that it keeps to.
    pub(super) revision: u64,
    pub(super) control: Control,
}

impl Entry {
    /// Whether an agent that keeps to limits of this revision must be told.
    fn differs(&self, shown: u64) -> bool {
        let nothing = self.limits.is_empty() && self.stops.is_empty();
        shown != self.revision && !(nothing && shown == 0)
    }
}

impl Book {
    /// All that holds for an asset, as its agent is told it in this session.
    pub(super) fn message(&mut self, asset: AssetId, to: Speaker, now: Timestamp) -> AssetLimits {
        let entry = self.assets.entry(asset).or_default();
        let revision = entry.revision;
        if let Some(word) = entry.word.as_mut().filter(|word| word.by == to) {
            word.told = Some((revision, now));
        }
        for stop in &entry.stops {
            if let Some(holding) = self.stops.get_mut(stop)
                && holding.reached(asset)
            {
                self.unsaved_stops.insert(*stop);
            }
        }
        let limits = entry.holding(now).map(|limit| Limit {
            id: limit.id,
            min: limit.min_mw,
            max: limit.max_mw,
            expires_at: limit.expires_at,
        });
        AssetLimits {
            asset_id: asset,
            revision,
            epoch: to.1,
            limits: limits.collect(),
            stop: !entry.stops.is_empty(),
            return_within: entry.return_within,
        }
    }

    /// Whether the agent of this session must be told what holds for an asset: it was not since
    /// that changed.
    pub(super) fn is_untold(&self, asset: AssetId, to: Speaker) -> bool {
        let Some(entry) = self.assets.get(&asset) else {
            return false;
        };
        match entry.word.filter(|word| word.by == to) {
            Some(Word {
                told: Some((told, _)),
                ..
            }) => told != entry.revision,
            Some(word) => entry.differs(word.revision),
            None => entry.differs(0),
        }
    }

    /// Takes an agent's word. `true`: it must be told what holds.
    pub(super) fn said(&mut self, asset: AssetId, said: &Said, now: Timestamp) -> bool {
        let entry = self.assets.entry(asset).or_default();
        let before = entry.word.filter(|word| word.by == said.by);
        if entry
            .word
            .is_some_and(|word| word.by.0 == said.by.0 && word.by.1 > said.by.1)
        {
            // Of a session that is over.
            return false;
        }
        let told = before.and_then(|word| word.told);
        entry.word = Some(Word {
            by: said.by,
            revision: said.revision,
            control: said.control,
            at: now,
            told,
        });
        let must = self.heard(asset, before.is_none(), said, now);
        let entry = self.assets.entry(asset).or_default();
        if let Some(word) = entry.word.as_mut().filter(|_| must) {
            // What it was told did not come to it.
            word.told = None;
        }
        must
    }

    fn heard(&mut self, asset: AssetId, first: bool, said: &Said, now: Timestamp) -> bool {
        let entry = self.assets.entry(asset).or_default();
        let shown = said.revision.min(MAX_COUNTER);
        let stopped = said.control.source == ControlSource::Stop;
        if stopped && entry.stops.is_empty() && entry.is_forgotten(shown) {
            entry.revision = entry.revision.max(shown);
            self.keep_stopped(asset, now);
            return true;
        }
        if shown > entry.revision {
            tracing::warn!(asset_id = %asset, known = entry.revision, shown,
                "the agent keeps to later limits than this headend remembers; telling it anew");
            entry.revision = shown;
            entry.turn(now);
            return true;
        }
        for stop in &entry.stops {
            if let Some(holding) = self.stops.get_mut(stop)
                && holding.said(asset, shown, &said.control)
            {
                self.unsaved_stops.insert(*stop);
            }
        }
        if first && shown == entry.revision {
            // It may have stopped between writing them down and saying so.
            let open = |limit: &PowerLimit| limit.status != LimitStatus::InForce;
            let unsaid = entry.holding(now).any(open);
            if unsaid {
                entry.turn(now);
            }
            return unsaid;
        }
        let told = entry.word.and_then(|word| word.told);
        let waited = told.is_none_or(|(_, at)| now.saturating_since(at) > TOLD_IN_VAIN);
        entry.differs(shown) && waited
    }

    /// An asset is stopped, and nobody here knows by whom: this headend has lost its memory, or got an
    /// older one back. It would return if its agent were told what is known here, and a stop is ended
    /// by nobody but an operator. It is stored when its agent has been told.
    fn keep_stopped(&mut self, asset: AssetId, now: Timestamp) {
        let stop = self.add_stop(stops::found(asset, now), now);
        tracing::error!(stop_id = %stop.id, asset_id = %asset,
            "the asset is stopped and this headend remembers no stop of it; it stays stopped until this stop is ended");
    }

    /// Takes an agent's report on the limits of a revision: it speaks for all that were among them.
    /// Answers those that have moved on by it.
    pub(super) fn reported(
        &mut self,
        asset: AssetId,
        report: &LimitReport,
        now: Timestamp,
    ) -> Vec<PowerLimit> {
        let mut moved = Vec::new();
        let Some(entry) = self.assets.get_mut(&asset) else {
            return moved;
        };
        if report.revision > entry.revision {
            return moved;
        }
        for limit in &mut entry.limits {
            if limit.revision > report.revision {
                continue;
            }
            let before = limit.clone();
            match report.phase {
                LimitPhase::InForce => {
                    limit.status = LimitStatus::InForce;
                    limit.confirmed_at.get_or_insert(now);
                }
                // What was in force before still is.
                _ if limit.status == LimitStatus::InForce => continue,
                LimitPhase::NotObeyed => limit.status = LimitStatus::NotObeyed,
                LimitPhase::Refused => limit.status = LimitStatus::Refused,
                _ => continue,
            }
            limit.reason = report.reason;
            limit.text.clone_from(&report.text);
            if before != *limit {
                moved.push(limit.clone());
                self.unsaved_limits.insert(limit.id, limit.clone());
            }
        }
        for stop in &entry.stops {
            if let Some(holding) = self.stops.get_mut(stop)
                && holding.reported(asset, report)
            {
                self.unsaved_stops.insert(*stop);
            }
        }
        moved
    }
}
