//! How a headend is put together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::{Fleet, Power, Timestamp};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{Rates, Readiness};
use crate::audit::{self, Audit};
use crate::auth::Authenticate;
use crate::config::{Clock, Config};
use crate::core::Core;
use crate::dispatcher::{Dispatcher, Present};
use crate::error::BuildError;
use crate::events::{self, Events};
use crate::following::{self, Following};
use crate::headend::Headend;
use crate::ingest::Ingest;
use crate::latest::Latest;
use crate::limits::{self, Limits};
use crate::link_auth::{self, AgentTokens, LinkAuth, TrustedProxies};
use crate::live::{self, Hub};
use crate::metrics::{CountedStore, Metrics};
use crate::policy::{AgentPolicy, Policy};
use crate::prune;
use crate::refusals::Refusals;
use crate::registry::Registry;
use crate::store::{MemoryStore, Retention, Store};

/// Sets up a [`Headend`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct HeadendBuilder {
    fleet: Fleet,
    store: Arc<dyn Store>,
    config: Config,
    clock: Clock,
    policy: Option<Arc<dyn AgentPolicy>>,
    auth: LinkAuth,
}

impl fmt::Debug for HeadendBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadendBuilder")
            .field("store", &self.store)
            .field("config", &self.config)
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

impl HeadendBuilder {
    pub(crate) fn new(fleet: Fleet) -> Self {
        Self {
            fleet,
            store: Arc::new(MemoryStore::new()),
            config: Config::default(),
            clock: Clock::default(),
            policy: None,
            auth: LinkAuth::default(),
        }
    }

    /// Where history, orders and epochs are kept. Default: [`MemoryStore`], which forgets them
    /// when the process ends.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Arc::new(store);
        self
    }

    /// How often agents send telemetry; a value is stale after three intervals. 1 ms to 1 day,
    /// default 4 s.
    pub fn telemetry_interval(mut self, interval: Duration) -> Self {
        self.config.telemetry_interval = interval;
        self.config.stale_after = interval.saturating_mul(3);
        self
    }

    /// How often agents send heartbeats; a silent agent is given up after 1.5 intervals. 1 ms to
    /// 1 day, default 30 s.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.config.heartbeat_interval = interval;
        self.config.liveness_timeout = interval.saturating_add(interval / 2);
        self
    }

    /// Most agents at one time, at least 1; those beyond are told to come back later. Default
    /// 20,000.
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.config.max_sessions = sessions;
        self
    }

    /// Most connections that one address (of IPv6: one /64) may have open at one time with
    /// [`Headend::serve`]; more are closed at once. [Trusted proxies](Self::trusted_proxies) may have
    /// any number. Many agents may share an address behind a NAT. At least 1, default 9,500.
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.config.max_connections_per_address = connections;
        self
    }

    /// Most assets of one agent, at most 1,024. Default 256.
    pub fn max_assets_per_agent(mut self, assets: u32) -> Self {
        self.config.limits.max_assets = assets;
        self
    }

    /// Most memory, in bytes, for telemetry that waits for the store, and as much again for reports
    /// and for heartbeats. What agents send beyond it they are told to keep and to send again;
    /// nothing of that is acknowledged. At least 1 MiB, default 64 MiB.
    pub fn store_backlog(mut self, bytes: usize) -> Self {
        self.config.ingest.bytes = bytes;
        self
    }

    /// How long the store keeps what is over; the headend lets it forget the rest every hour.
    /// Default: [`Retention::default`].
    pub fn retention(mut self, retention: Retention) -> Self {
        self.config.retention = retention;
        self
    }

    /// How closely an asset with an order in force must follow it: the deviation allowed as a share of
    /// its range, 0 to 1, and at least a power, not below 0. Default 0.02 and 0.05 MW. What strays is
    /// logged as `not_following`, and the dispatch says `following: false` until it follows again.
    pub fn following_tolerance(mut self, share: f64, least: Power) -> Self {
        self.config.following.tolerance_share = share;
        self.config.following.tolerance_least = least;
        self
    }

    /// How long an asset may stray from its order when its ramp is over, and at any later time. At most
    /// 1 day, default 10 s.
    pub fn following_settling(mut self, settling: Duration) -> Self {
        self.config.following.settling = settling;
        self
    }

    /// Asks who calls REST: every path but `/healthz` and `/readyz` needs a principal then, and its
    /// role decides. Given more than once, they are asked in that order. Default: nobody is asked.
    /// See [`auth`](crate::auth).
    pub fn authentication(mut self, authenticator: impl Authenticate) -> Self {
        self.config.authentication.add(Arc::new(authenticator));
        self
    }

    /// Refuses a request of REST without a [`Principal`](crate::Principal), probes aside. For a host
    /// with an authentication of its own: what comes past it is refused. Default: only with an
    /// [`authentication`](Self::authentication).
    pub fn require_principal(mut self) -> Self {
        self.config.authentication.require();
        self
    }

    /// Lets everyone read `/openapi.json` and the page at `/docs`, which a browser can't open with a
    /// token. They tell nothing of the fleet. Default: they need a principal when others do.
    pub fn public_docs(mut self, public: bool) -> Self {
        self.config.public_docs = public;
        self
    }

    /// Most power of one order, for an asset or a site, in either direction, what it says of the time
    /// after it included; the same for a limit that forces power (`min_mw` above 0, `max_mw` below
    /// 0). Above 0. Default: none.
    pub fn max_mw_per_dispatch(mut self, most: Power) -> Self {
        self.config.power.per_dispatch = Some(most);
        self
    }

    /// Most power that one principal may order in a minute: the powers of its orders added up without
    /// their sign, and those that its limits force. Callers without a principal count as one. Cancels,
    /// stops and limits that only narrow are not bounded. Above 0. Default: none.
    pub fn max_mw_per_minute(mut self, most: Power) -> Self {
        self.config.power.per_minute = Some(most);
        self
    }

    /// Most calls of REST by one principal: in a second for a while, and at once after a pause; both at
    /// least 1. More are answered 429. `POST /stop` and `DELETE /dispatch/{id}` are always taken.
    /// Without a principal nobody is counted. Default 100 and 200.
    pub fn rate_limit(mut self, per_second: u32, burst: u32) -> Self {
        self.config.rates.per_second = per_second;
        self.config.rates.burst = burst;
        self
    }

    /// Most calls of REST that are in hand at one time, of all callers; more are answered 429. One
    /// principal may have an eighth of them, and another eighth is kept for calls that change
    /// something. A call that only waits (`wait_s`) counts no more. Stops, cancels and probes are
    /// always taken. At least 1, default 1,024.
    pub fn max_requests(mut self, requests: usize) -> Self {
        self.config.rates.in_hand = requests;
        self
    }

    /// How much of what has just happened is remembered for readers of `GET /stream`, while there are
    /// any and 5 minutes after: so many measurements in so many bytes of memory, and as much again of
    /// all else. A reader that falls behind it is cut, and one that comes back later begins anew. At
    /// least 1 and 64 KiB, default 16,384 and 16 MiB: with 1,000 assets that report every 4 s these
    /// are the measurements of a minute.
    pub fn live_ring(mut self, items: usize, bytes: usize) -> Self {
        self.config.live = live::Bounds { items, bytes };
        self
    }

    /// Most readers of `GET /stream` at one time; no principal has more than an eighth of them,
    /// rounded up. Those beyond are answered 429. At least 1, default 256.
    pub fn max_live_streams(mut self, streams: usize) -> Self {
        self.config.rates.streams = streams;
        self
    }

    /// Lets pages from these origins (`https://control.example`) call REST from a browser. Default:
    /// none, and no header of CORS is sent.
    pub fn cors_origins<O: Into<String>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        self.config.cors_origins = origins.into_iter().map(Into::into).collect();
        self
    }

    /// How long [`Headend::serve`] waits for open streams and requests before it cuts them. At
    /// most 1 day, default 10 s.
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.config.drain_limit = limit;
        self
    }

    /// Which agent may serve which asset: your registry instead of the fleet file. Default: the rule
    /// of the fleet file, see [`AgentPolicy`].
    pub fn agent_policy(mut self, policy: impl AgentPolicy) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// [`Headend::serve`] speaks TLS, and only that, on all of its listeners; with a client CA, agents
    /// must show a certificate. Default: no TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::ServerTls) -> Self {
        self.auth.tls = Some(tls);
        self
    }

    /// Agents may prove who they are by a token (`authorization: Bearer …` on their stream), and must
    /// if they have nothing else. Default: none.
    pub fn agent_tokens(mut self, tokens: AgentTokens) -> Self {
        self.auth.tokens = Some(tokens);
        self
    }

    /// Proxies in front of this headend whose word on who is calling counts. Default: none; such a
    /// header says nothing.
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.auth.proxies = Some(proxies);
        self
    }

    /// Turns away agents for which the host has inserted no
    /// [`AgentIdentity`](crate::AgentIdentity). Default: an identity is asked for if there is a client
    /// CA, a file of tokens or a trusted proxy.
    pub fn require_agent_identity(mut self) -> Self {
        self.auth.demanded = true;
        self
    }

    /// How often certificates, CA, CRLs and tokens are looked at, and read again if they have
    /// changed; a session whose agent is no longer trusted ends within this time. 1 ms to 1 day,
    /// default 10 s.
    pub fn reload_interval(mut self, interval: Duration) -> Self {
        self.config.reload_interval = interval;
        self
    }

    /// Where the time comes from. Default: the wall clock of the machine. For tests.
    pub fn clock(mut self, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    /// Starts the headend's background work and takes up the orders that its store holds.
    ///
    /// # Errors
    /// A number is out of range, or the store can't be read.
    pub async fn build(self) -> Result<Headend, BuildError> {
        check(&self.config)?;
        let metrics = Arc::new(Metrics::new()?);
        let store: Arc<dyn Store> = Arc::new(CountedStore::new(self.store, Arc::clone(&metrics)));
        let fleet = Arc::new(self.fleet);
        let config = Arc::new(self.config);
        let policy = self.policy.map_or_else(|| Policy::of(&fleet), Policy::Own);
        let auth = Arc::new(self.auth);
        let audit = Arc::new(Audit::new(self.clock.clone()));
        let refusals = Arc::new(Refusals::new(Arc::clone(&audit)));
        let events = Arc::new(Events::new(Arc::clone(&fleet), self.clock.clone()));
        let registry = Registry::new(
            Arc::clone(&fleet),
            config.liveness_timeout,
            config.limits.max_assets as usize,
        );
        let registry = Arc::new(registry.ruled_by(policy.clone()));
        let latest = Arc::new(Latest::new(&fleet));
        let heartbeats = Arc::new(RwLock::default());
        let streams = TaskTracker::new();
        let limits = Arc::new(Limits::new(
            Arc::clone(&fleet),
            Arc::clone(&store),
            Arc::clone(&registry),
            self.clock.clone(),
            streams.clone(),
        ));
        limits.recover().await?;
        let (dispatcher, timers) = Dispatcher::new(
            Arc::clone(&fleet),
            Arc::clone(&store),
            Arc::clone(&registry),
            Present {
                latest: Arc::clone(&latest),
                heartbeats: Arc::clone(&heartbeats),
            },
            Arc::clone(&events),
            Arc::clone(&config),
            Arc::clone(&limits),
        );
        let following = Arc::new(Following::new(
            Arc::clone(&fleet),
            Arc::clone(&limits),
            Arc::clone(&events),
            config.following,
        ));
        let changes = dispatcher.changes();
        let live = Arc::new(Hub::new(config.live));
        let told = dispatcher.changes();
        for telemetry in store.latest_telemetry().await? {
            latest.offer(&telemetry);
        }

        let background = TaskTracker::new();
        let stop = CancellationToken::new();
        background.spawn(timers.run(Arc::clone(&dispatcher), stop.clone()));
        if let Err(error) = dispatcher.recover().await {
            stop.cancel();
            return Err(error.into());
        }
        background.spawn(following::run(
            Arc::clone(&following),
            changes,
            Arc::clone(&store),
            stop.clone(),
        ));
        let annotating = Arc::clone(&limits);
        background.spawn(live::run(
            Arc::clone(&live),
            told,
            move |dispatch| annotating.annotate(dispatch),
            stop.clone(),
        ));
        let ingest = Ingest::start(
            &store,
            &dispatcher,
            config.ingest,
            &background,
            &stop,
            &metrics,
        );
        background.spawn(prune::run(
            Arc::clone(&store),
            config.retention.clone(),
            self.clock.clone(),
            stop.clone(),
        ));
        background.spawn(limits::keep(
            Arc::clone(&limits),
            Arc::clone(&dispatcher),
            stop.clone(),
        ));
        background.spawn(audit::run(
            Arc::clone(&audit),
            Arc::clone(&store),
            stop.clone(),
        ));
        background.spawn(events::run(
            Arc::clone(&events),
            Arc::clone(&store),
            stop.clone(),
        ));
        let drain = CancellationToken::new();
        background.spawn(events::watch(
            Arc::clone(&events),
            Arc::clone(&registry),
            drain.clone(),
            stop.clone(),
        ));
        if auth.has_files() {
            background.spawn(link_auth::keep(
                Arc::clone(&auth),
                Arc::clone(&registry),
                Arc::clone(&refusals),
                self.clock.clone(),
                config.reload_interval,
                stop.clone(),
            ));
        }
        let rates = config.rates;
        Ok(Headend::new(Core {
            fleet,
            config,
            clock: self.clock,
            store,
            latest,
            registry,
            policy,
            auth,
            refusals,
            limits,
            dispatcher,
            ingest,
            following,
            live,
            audit,
            events,
            rates: Rates::new(rates),
            readiness: Readiness::default(),
            metrics,
            heartbeats,
            streams,
            background,
            drain,
            stop,
        }))
    }
}

/// The longest interval; far above what is useful, far below where adding to a time overflows.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Room for a few of the largest batches.
const LEAST_BACKLOG: usize = 1 << 20;

/// Room for one item of the largest size.
const LEAST_RING: usize = 64 << 10;

fn check(config: &Config) -> Result<(), BuildError> {
    let millisecond = Duration::from_millis(1);
    let durations = [
        (
            "telemetry_interval",
            config.telemetry_interval,
            millisecond,
            "give 1 ms to 1 day",
        ),
        (
            "heartbeat_interval",
            config.heartbeat_interval,
            millisecond,
            "give 1 ms to 1 day",
        ),
        (
            "reload_interval",
            config.reload_interval,
            millisecond,
            "give 1 ms to 1 day",
        ),
        (
            "drain_limit",
            config.drain_limit,
            Duration::ZERO,
            "give at most 1 day",
        ),
        (
            "following_settling",
            config.following.settling,
            Duration::ZERO,
            "give at most 1 day",
        ),
    ];
    for (setting, value, least, remedy) in durations {
        if !(least..=DAY).contains(&value) {
            return Err(BuildError::OutOfRange { setting, remedy });
        }
    }
    let rules = &config.following;
    if !(0.0..=1.0).contains(&rules.tolerance_share)
        || !(0.0..f64::INFINITY).contains(&rules.tolerance_least.mw())
    {
        return Err(BuildError::OutOfRange {
            setting: "following_tolerance",
            remedy: "give a share from 0 to 1 and a power not below 0",
        });
    }
    if !(1..=1_024).contains(&config.limits.max_assets) {
        return Err(BuildError::OutOfRange {
            setting: "max_assets_per_agent",
            remedy: "give 1 to 1,024",
        });
    }
    if config.ingest.bytes < LEAST_BACKLOG {
        return Err(BuildError::OutOfRange {
            setting: "store_backlog",
            remedy: "give at least 1 MiB",
        });
    }
    for (setting, most) in [
        ("max_mw_per_dispatch", config.power.per_dispatch),
        ("max_mw_per_minute", config.power.per_minute),
    ] {
        if most.is_some_and(|most| !(most.mw() > 0.0 && most.is_finite())) {
            return Err(BuildError::OutOfRange {
                setting,
                remedy: "give a power above 0",
            });
        }
    }
    if config.rates.per_second == 0 || config.rates.burst == 0 {
        return Err(BuildError::OutOfRange {
            setting: "rate_limit",
            remedy: "give at least 1 and 1",
        });
    }
    if !(1..=tokio::sync::Semaphore::MAX_PERMITS).contains(&config.rates.in_hand) {
        return Err(BuildError::OutOfRange {
            setting: "max_requests",
            remedy: "give at least 1",
        });
    }
    if !(1..=tokio::sync::Semaphore::MAX_PERMITS).contains(&config.rates.streams) {
        return Err(BuildError::OutOfRange {
            setting: "max_live_streams",
            remedy: "give at least 1",
        });
    }
    if config.live.items == 0 || config.live.bytes < LEAST_RING {
        return Err(BuildError::OutOfRange {
            setting: "live_ring",
            remedy: "give at least 1 item and 64 KiB",
        });
    }
    if !config.cors_origins.iter().all(|origin| is_origin(origin)) {
        return Err(BuildError::OutOfRange {
            setting: "cors_origins",
            remedy: "give each as a browser sends it, like https://control.example",
        });
    }
    if config.max_sessions == 0 {
        return Err(BuildError::OutOfRange {
            setting: "max_sessions",
            remedy: "give at least 1",
        });
    }
    if config.max_connections_per_address == 0 {
        return Err(BuildError::OutOfRange {
            setting: "max_connections_per_address",
            remedy: "give at least 1",
        });
    }
    Ok(())
}

/// Scheme and authority and nothing else, as in the header `Origin`: no path, and no `*`.
fn is_origin(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
    rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> HeadendBuilder {
        Headend::builder(Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml").unwrap())
    }

    #[tokio::test]
    async fn a_setting_out_of_its_range_is_an_error_that_names_it() {
        for (builder, name) in [
            (
                builder().telemetry_interval(Duration::ZERO),
                "telemetry_interval",
            ),
            (
                builder().telemetry_interval(Duration::MAX),
                "telemetry_interval",
            ),
            (
                builder().heartbeat_interval(Duration::ZERO),
                "heartbeat_interval",
            ),
            (
                builder().heartbeat_interval(Duration::MAX),
                "heartbeat_interval",
            ),
            (builder().drain_limit(Duration::MAX), "drain_limit"),
            (
                builder().following_settling(Duration::MAX),
                "following_settling",
            ),
            (
                builder().following_tolerance(1.5, Power::ZERO),
                "following_tolerance",
            ),
            (
                builder().following_tolerance(0.1, Power::from_mw(f64::NAN)),
                "following_tolerance",
            ),
            (builder().max_sessions(0), "max_sessions"),
            (
                builder().max_connections_per_address(0),
                "max_connections_per_address",
            ),
            (
                builder().max_mw_per_dispatch(Power::ZERO),
                "max_mw_per_dispatch",
            ),
            (
                builder().max_mw_per_minute(Power::from_mw(f64::NAN)),
                "max_mw_per_minute",
            ),
            (builder().rate_limit(0, 1), "rate_limit"),
            (builder().rate_limit(1, 0), "rate_limit"),
            (builder().max_requests(0), "max_requests"),
            (builder().max_live_streams(0), "max_live_streams"),
            (builder().live_ring(0, 1 << 20), "live_ring"),
            (builder().live_ring(1, 0), "live_ring"),
            (builder().cors_origins(["*"]), "cors_origins"),
            (
                builder().cors_origins(["https://a.example/"]),
                "cors_origins",
            ),
            (builder().cors_origins(["null"]), "cors_origins"),
            (builder().store_backlog(0), "store_backlog"),
            (builder().max_assets_per_agent(0), "max_assets_per_agent"),
            (
                builder().max_assets_per_agent(1_025),
                "max_assets_per_agent",
            ),
        ] {
            let error = builder.build().await.unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
        builder().drain_limit(Duration::ZERO).build().await.unwrap();
    }

    #[tokio::test]
    async fn the_background_work_ends_with_the_last_handle() {
        let headend = builder().build().await.unwrap();
        let (background, service) = (headend.background(), headend.service());
        drop(headend);
        assert!(!background.is_empty(), "the service still needs it");
        drop(service);
        background.close();
        background.wait().await;
    }
}
