//! One open live stream: what its reader is sent, and when it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use derms_proto::{AssetId, EndReason, LiveItem, LiveKind, SiteId};
use http::{HeaderMap, header};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::access::LONGEST_PROOF;
use super::caller::Caller;
use super::rates::InHand;
use crate::core::Core;
use crate::live::{About, Fallen, Item, Subscription};
use crate::peer::ConnectionHandle;

/// After so long without an event a comment tells that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream is opened anew after this: nothing that was decided at its beginning counts for longer.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// A reader is woken no oftener than this, whatever happens meanwhile.
const PAUSE: Duration = Duration::from_millis(20);
/// Items that are on their way to one reader; all else waits in the ring.
const AT_ONCE: usize = 32;
/// Nothing was asked for in this time, though there is something each [`KEEP_ALIVE`]: the reader does
/// not read.
const STUCK: Duration = Duration::from_secs(45);

/// What a reader wants.
#[derive(Debug)]
pub(super) struct Filter {
    /// It asks for what it may not see.
    pub(super) nothing: bool,
    pub(super) kinds: Vec<LiveKind>,
    pub(super) asset: Option<AssetId>,
    pub(super) site: Option<SiteId>,
}

pub(super) struct Reader {
    core: Arc<Core>,
    caller: Caller,
    filter: Filter,
    subscription: Subscription,
    /// On their way.
    frames: VecDeque<Bytes>,
    /// The last word is said, or on its way.
    ended: bool,
    /// What the caller showed; `None`: that can't be asked again.
    shown: Option<HeaderMap>,
    ask_at: Instant,
    look_at: Instant,
    keep_alive_at: Instant,
    ends_at: Instant,
    /// Frames that were asked for.
    asked: Arc<AtomicU64>,
    _in_hand: InHand,
    _watched: Option<DropGuard>,
}

impl Reader {
    pub(super) fn new(
        core: Arc<Core>,
        caller: Caller,
        filter: Filter,
        last: Option<&str>,
        in_hand: InHand,
    ) -> Self {
        let (subscription, reset) = core.live.subscribe(last, &filter.kinds);
        let now = Instant::now();
        let mut reader = Self {
            ask_at: now + core.config.reload_interval,
            core,
            caller,
            filter,
            subscription,
            frames: VecDeque::new(),
            ended: false,
            shown: None,
            look_at: now,
            keep_alive_at: now + KEEP_ALIVE,
            ends_at: now + LIFETIME,
            asked: Arc::default(),
            _in_hand: in_hand,
            _watched: None,
        };
        match reset {
            Some(reason) => reader.say(&LiveItem::Reset { reason }),
            None => reader.keep_alive(),
        }
        reader
    }

    /// Asks now and then whether what the caller showed still counts.
    pub(super) fn ask_again_by(&mut self, headers: &HeaderMap) {
        let shown = headers.get_all(header::AUTHORIZATION).iter();
        let shown = shown.map(|value| (header::AUTHORIZATION, value.clone()));
        self.shown = Some(shown.collect());
    }

    /// Cuts the connection when nothing is asked for any more: a stream that nobody reads can't even
    /// be ended.
    pub(super) fn cut_if_stuck(&mut self, connection: ConnectionHandle) {
        let (asked, drain) = (Arc::clone(&self.asked), self.core.drain.clone());
        let gone = CancellationToken::new();
        self._watched = Some(gone.clone().drop_guard());
        self.core.streams.spawn(async move {
            loop {
                let before = asked.load(Ordering::Relaxed);
                tokio::select! {
                    () = gone.cancelled() => return,
                    () = drain.cancelled() => return,
                    () = sleep(STUCK) => {}
                }
                if asked.load(Ordering::Relaxed) == before {
                    tracing::debug!("the reader of a live stream does not read; it is cut");
                    connection.cut();
                    return;
                }
            }
        });
    }

    /// The next frame; `None` after the last word.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        loop {
            if let Some(frame) = self.frames.pop_front() {
                self.keep_alive_at = Instant::now() + KEEP_ALIVE;
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            self.turn().await;
        }
    }

    async fn turn(&mut self) {
        let drain = self.core.drain.clone();
        let (ask, ask_at) = (self.shown.is_some(), self.ask_at);
        let (keep_alive_at, ends_at) = (self.keep_alive_at, self.ends_at);
        tokio::select! {
            biased;
            () = drain.cancelled() => self.end(EndReason::Draining),
            () = sleep_until(ends_at) => self.end(EndReason::Lifetime),
            () = sleep_until(ask_at), if ask => {
                let good = tokio::select! {
                    good = self.still_counts() => good,
                    () = drain.cancelled() => true,
                };
                self.ask_at = Instant::now() + self.core.config.reload_interval;
                if !good {
                    self.end(EndReason::Credentials);
                }
            }
            () = sleep_until(keep_alive_at) => self.keep_alive(),
            more = self.more() => if let Err(Fallen) = more {
                self.end(EndReason::TooSlow);
            }
        }
    }

    /// Takes what has happened and is for this reader. May be dropped.
    async fn more(&mut self) -> Result<(), Fallen> {
        loop {
            sleep_until(self.look_at).await;
            let items = self.subscription.take(AT_ONCE)?;
            let all = items.len() < AT_ONCE;
            for item in items {
                if let Some(frame) = self.frame(&item) {
                    self.frames.push_back(frame);
                }
            }
            if all {
                self.look_at = Instant::now() + PAUSE;
            }
            if !self.frames.is_empty() {
                return Ok(());
            }
            if all {
                self.subscription.changed().await;
            }
            // Others want to run, too.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// The event for this reader, if it is for it.
    fn frame(&self, item: &Item) -> Option<Bytes> {
        let (core, filter) = (&*self.core, &self.filter);
        if filter.nothing || !filter.kinds.contains(&item.kind()) {
            return None;
        }
        let wanted = |asset: AssetId| {
            let site = || core.fleet.asset(asset).map(|asset| asset.site_id);
            filter.asset.is_none_or(|wanted| wanted == asset)
                && filter.site.is_none_or(|wanted| site() == Some(wanted))
        };
        match &item.about {
            About::Telemetry(asset) => {
                let seen = wanted(*asset) && self.caller.sees_asset(core, *asset);
                seen.then(|| item.frame.clone())
            }
            &About::Dispatch { asset, site, ended } => {
                let seen = filter.asset.is_none_or(|wanted| asset == Some(wanted))
                    && filter.site.is_none_or(|wanted| site == wanted)
                    && self.caller.sees_order(core, asset, site, ended);
                seen.then(|| item.frame.clone())
            }
            &About::Event { asset, site } => {
                let seen = filter.asset.is_none_or(|wanted| asset == Some(wanted))
                    && filter.site.is_none_or(|wanted| site == Some(wanted))
                    && self.caller.sees_event(core, asset, site);
                seen.then(|| item.frame.clone())
            }
            About::Session { record, left } => {
                let all = filter.asset.is_none() && filter.site.is_none();
                let mut assets = record.assets.iter().chain(left);
                if !all && !assets.any(|asset| wanted(*asset)) {
                    return None;
                }
                if self.caller.is_unlimited() {
                    return Some(item.frame.clone());
                }
                let part = self.caller.of_session(core, (**record).clone(), left)?;
                let told = LiveItem::Session(Box::new(part));
                self.subscription.rewritten(item, &told).ok()
            }
        }
    }

    /// Whether who called is still who they were. What can't be found out in time ends the stream,
    /// too: the next one is asked as every call is.
    async fn still_counts(&self) -> bool {
        let Some(shown) = &self.shown else {
            return true;
        };
        let identified = self.core.config.authentication.identify(None, shown);
        let identified = timeout(LONGEST_PROOF, identified).await;
        matches!(identified, Ok(Ok(principal)) if principal == self.caller.0)
    }

    /// A comment, and where the reader is: it may have been told nothing for long.
    fn keep_alive(&mut self) {
        let text = format!(": here\nid: {}\n\n", self.subscription.id());
        self.frames.push_back(text.into());
    }

    fn end(&mut self, reason: EndReason) {
        self.say(&LiveItem::End { reason });
        self.ended = true;
    }

    /// Of the stream itself.
    fn say(&mut self, item: &impl Serialize) {
        match serde_json::to_string(item) {
            Ok(json) => {
                let text = format!("id: {}\ndata: {json}\n\n", self.subscription.id());
                self.frames.push_back(text.into());
            }
            Err(error) => tracing::error!(%error, "can't say what becomes of a live stream"),
        }
    }
}

#[cfg(test)]
mod tests {
    use derms_proto::Fleet;

    use super::*;
    use crate::Headend;

    async fn reader() -> (Reader, ConnectionHandle) {
        let fleet = Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml").unwrap();
        let headend = Headend::builder(fleet).build().await.unwrap();
        let core = Arc::clone(headend.core());
        let in_hand = core.rates.take_stream(None).unwrap();
        let filter = Filter {
            nothing: false,
            kinds: LiveKind::ALL.to_vec(),
            asset: None,
            site: None,
        };
        let mut reader = Reader::new(core, Caller(None), filter, None, in_hand);
        let connection = ConnectionHandle::default();
        reader.cut_if_stuck(connection.clone());
        (reader, connection)
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_of_a_reader_that_asks_for_nothing_is_cut() {
        let (_reader, connection) = reader().await;
        let since = Instant::now();
        connection.is_cut().await;
        assert_eq!(since.elapsed(), STUCK);
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_of_a_quiet_reader_is_not_cut() {
        let (mut reader, connection) = reader().await;
        let since = Instant::now();
        while since.elapsed() < 4 * STUCK {
            reader.next().await.unwrap();
        }
        assert!(timeout(Duration::ZERO, connection.is_cut()).await.is_err());
        // Nor when it has gone, though others may use the connection still.
        let background = reader.core.streams.clone();
        drop(reader);
        background.close();
        background.wait().await;
        assert!(timeout(STUCK, connection.is_cut()).await.is_err());
    }
}
