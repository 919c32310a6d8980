//! Where what happens comes from: the live stream, or lists that are read again and again.

use std::time::Duration;

use derms_client::proto::{Event, LiveItem, LiveKind, ResetReason, TelemetrySnapshot};
use derms_client::{Client, Error, EventHistoryQuery, Live, LiveQuery};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::Wanted;
use crate::fault;
use crate::lists::at;
use crate::names::{Directory, Place};

/// How often a headend without a live stream is asked, and one whose lists could not be read.
pub(super) const EVERY: Duration = Duration::from_secs(2);

/// How often something is shown although nothing has happened: measurements grow old.
const TICK: Duration = Duration::from_secs(1);

/// How often the lists are read although the stream goes on. Only the headend knows which values are
/// stale, and the stream does not tell that nothing comes.
const LOOK: Duration = Duration::from_secs(15);

/// So many of the newest events are read with the lists.
const EVENTS: u32 = 20;

/// What there is to tell.
#[derive(Debug)]
pub(super) enum News {
    /// The lists as they are now; what was told before them may have been incomplete if there is a
    /// reason.
    Lists(Box<Lists>, Option<ResetReason>),
    /// What has happened since.
    Item(LiveItem),
    /// Time has passed; with why nothing is heard, if so.
    Tick(Option<String>),
}

/// What was watched, at one time; empty where it is not wanted.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) directory: Directory,
    pub(super) snapshots: Vec<TelemetrySnapshot>,
    /// The newest, newest first.
    pub(super) events: Vec<Event>,
}

pub(super) trait Feed {
    /// What is to be told next. Waits for it, and tries again by itself what may fare better later.
    ///
    /// # Errors
    /// Nothing will come any more.
    async fn next(&mut self) -> Result<News, Error>;
}

impl Lists {
    async fn read(client: &Client, wanted: &Wanted) -> Result<Self, Error> {
        let mut sites = client.sites().await?;
        for site in &mut sites {
            let id = site.site.id;
            site.assets.retain(|asset| match wanted.place {
                None => true,
                Some(Place::Asset(wanted)) => asset.asset.id == wanted,
                Some(Place::Site(wanted)) => id == wanted,
            });
        }
        let directory = Directory { sites };
        let mut snapshots = Vec::new();
        if wanted.tells(LiveKind::Telemetry) {
            snapshots = client.telemetry_all().await?;
            snapshots.retain(|it| directory.configured(it.telemetry.asset_id).is_some());
        }
        let mut events = Vec::new();
        if wanted.tells(LiveKind::Event) {
            let query = at!(EventHistoryQuery::new().limit(EVENTS), wanted.place);
            events = client.events(query).await?.items;
        }
        Ok(Self {
            directory,
            snapshots,
            events,
        })
    }
}

/// The live stream, and the lists at its beginning and wherever it can't go on.
pub(super) struct Streamed<'a> {
    client: &'a Client,
    wanted: &'a Wanted,
    live: Live,
    /// The headend has such a stream.
    begun: bool,
    /// The lists are to be read before anything else is told.
    due: Option<Due>,
    not_before: Instant,
    ticks: Interval,
    /// `None`: they are read for no other reason.
    look_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Due {
    Reset(ResetReason),
    Look,
}

impl<'a> Streamed<'a> {
    /// With `look_again` the lists are read now and then although nothing is missing.
    pub(super) fn new(client: &'a Client, wanted: &'a Wanted, look_again: bool) -> Self {
        let query = at!(LiveQuery::new(), wanted.place);
        let query = wanted
            .kinds
            .iter()
            .fold(query, |query, kind| query.kind(*kind));
        let now = Instant::now();
        Self {
            client,
            wanted,
            live: client.live(query),
            begun: false,
            due: None,
            not_before: now,
            ticks: ticks(now + TICK, TICK),
            look_at: look_again.then_some(now + LOOK),
        }
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.begun
    }

    async fn lists(&mut self, due: Due) -> Result<News, Error> {
        sleep_until(self.not_before).await;
        match Lists::read(self.client, self.wanted).await {
            Ok(lists) => {
                self.due = None;
                self.look_at = self.look_at.map(|_| Instant::now() + LOOK);
                let reason = match due {
                    Due::Reset(reason) => Some(reason),
                    Due::Look => None,
                };
                Ok(News::Lists(Box::new(lists), reason))
            }
            Err(error) => {
                self.not_before = Instant::now() + EVERY;
                trouble(error)
            }
        }
    }
}

impl Feed for Streamed<'_> {
    async fn next(&mut self) -> Result<News, Error> {
        loop {
            if let Some(due) = self.due {
                return self.lists(due).await;
            }
            tokio::select! {
                item = self.live.next() => match item {
                    Some(Ok(LiveItem::Reset { reason })) => {
                        self.begun = true;
                        self.due = Some(Due::Reset(reason));
                    }
                    Some(item) => return item.map(News::Item),
                    // Its error was told, and with it this has ended.
                    None => std::future::pending().await,
                },
                now = self.ticks.tick() => {
                    let trouble = self.live.trouble();
                    if trouble.is_none() && self.look_at.is_some_and(|at| at <= now) {
                        self.due = Some(Due::Look);
                        continue;
                    }
                    let text = trouble.map(|error| fault::of(&error).line().to_owned());
                    return Ok(News::Tick(text));
                }
            }
        }
    }
}

/// The lists alone.
pub(super) struct Polled<'a> {
    client: &'a Client,
    wanted: &'a Wanted,
    ticks: Interval,
}

impl<'a> Polled<'a> {
    pub(super) fn new(client: &'a Client, wanted: &'a Wanted) -> Self {
        Self {
            client,
            wanted,
            ticks: ticks(Instant::now(), EVERY),
        }
    }
}

impl Feed for Polled<'_> {
    async fn next(&mut self) -> Result<News, Error> {
        self.ticks.tick().await;
        match Lists::read(self.client, self.wanted).await {
            Ok(lists) => Ok(News::Lists(Box::new(lists), None)),
            Err(error) => trouble(error),
        }
    }
}

/// A headend that restarts is back in a moment; one that refuses goes on refusing.
fn trouble(error: Error) -> Result<News, Error> {
    if error.is_retryable() {
        return Ok(News::Tick(Some(fault::of(&error).line().to_owned())));
    }
    Err(error)
}

fn ticks(first: Instant, period: Duration) -> Interval {
    let mut ticks = interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
