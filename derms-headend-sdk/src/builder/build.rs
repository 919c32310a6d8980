//! From the settings to a headend that runs.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::HeadendBuilder;
use super::check::check;
use crate::api::{Rates, Readiness};
use crate::audit::{self, Audit};
use crate::core::Core;
use crate::dispatcher::{Dispatcher, Present};
use crate::error::BuildError;
use crate::events::{self, Events};
use crate::following::{self, Following};
use crate::gateway::AT_THE_STORE;
use crate::headend::Headend;
use crate::ingest::Ingest;
use crate::latest::Latest;
use crate::limits::{self, Limits};
use crate::link_auth;
use crate::live::{self, Hub};
use crate::metrics::{CountedStore, Metrics};
use crate::policy::Policy;
use crate::prune;
use crate::refusals::Refusals;
use crate::registry::Registry;
use crate::store::Store;

pub(super) async fn build(builder: HeadendBuilder) -> Result<Headend, BuildError> {
    check(&builder.config)?;
    let metrics = Arc::new(Metrics::new()?);
    let taken_over = CancellationToken::new();
    let store: Arc<dyn Store> = Arc::new(CountedStore::new(
        builder.store,
        Arc::clone(&metrics),
        taken_over.clone(),
    ));
    let fleet = Arc::new(builder.fleet);
    let config = Arc::new(builder.config);
    let policy = builder
        .policy
        .map_or_else(|| Policy::of(&fleet), Policy::Own);
    let auth = Arc::new(builder.auth);
    let audit = Arc::new(Audit::new(builder.clock.clone()));
    let refusals = Arc::new(Refusals::new(Arc::clone(&audit)));
    let live = Arc::new(Hub::new(config.live));
    let events = Arc::new(Events::new(
        Arc::clone(&fleet),
        builder.clock.clone(),
        Arc::clone(&live),
    ));
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
        builder.clock.clone(),
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
        &events,
        config.ingest,
        &background,
        &stop,
        &metrics,
    );
    background.spawn(prune::run(
        Arc::clone(&store),
        config.retention.clone(),
        builder.clock.clone(),
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
        events.end(),
    ));
    let drain = taken_over.child_token();
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
            builder.clock.clone(),
            config.reload_interval,
            stop.clone(),
        ));
    }
    let rates = config.rates;
    Ok(Headend::new(Core {
        fleet,
        config,
        clock: builder.clock,
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
        registering: Semaphore::new(AT_THE_STORE),
        streams,
        background,
        taken_over,
        drain,
        stop,
    }))
}

#[cfg(test)]
mod tests {
    use derms_proto::Fleet;

    use super::*;

    #[tokio::test]
    async fn the_background_work_ends_with_the_last_handle() {
        let fleet = Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml").unwrap();
        let headend = Headend::builder(fleet).build().await.unwrap();
        let (background, service) = (headend.background(), headend.service());
        drop(headend);
        assert!(!background.is_empty(), "the service still needs it");
        drop(service);
        background.close();
        background.wait().await;
    }
}
