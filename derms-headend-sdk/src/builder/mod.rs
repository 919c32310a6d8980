//! How a headend is put together.

mod build;
mod check;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::{Fleet, Power, Timestamp};

use crate::auth::Authenticate;
use crate::config::{Clock, Config};
use crate::error::BuildError;
use crate::headend::Headend;
use crate::link_auth::{AgentTokens, LinkAuth, TrustedProxies};
use crate::live;
use crate::policy::AgentPolicy;
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

    /// The same with a store that the host keeps a handle to, or hands from a headend that has
    /// [ended](Headend::shutdown) to the next one, as for a fleet that has changed. Two headends must
    /// not use one store at the same time.
    pub fn shared_store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = store;
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

    /// How agents send what they measured without a link: each begins after a random part of `spread`,
    /// at most 1 h, and then sends that many batches of up to 256 samples a second; 0 is as many as it
    /// can. Live values go before them in any case. Default 30 s and 20.
    pub fn backfill(mut self, spread: Duration, batches_per_s: u32) -> Self {
        self.config.limits.backfill_spread = spread;
        self.config.limits.backfill_batches_per_s = batches_per_s;
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
        build::build(self).await
    }
}
