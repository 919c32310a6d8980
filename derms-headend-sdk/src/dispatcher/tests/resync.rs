//! Whether both sides agree after a reconnect.

use std::time::Duration;

use derms_proto::link::{AssetState, HeadendMessage};

use super::*;

impl Agent {
    fn states(&self, assets: &[AssetId]) -> Vec<AssetState> {
        let register = self.register(assets);
        register.assets.into_iter().flatten().collect()
    }

    /// What the agent says of itself now.
    async fn states_compared(&self, bench: &Bench, assets: &[AssetId]) {
        let states = self.states(assets);
        let compare = bench
            .dispatcher
            .compare(self.session(), &states, &[], bench.clock.now());
        compare.await.unwrap();
    }
}

fn asks(messages: &[HeadendMessage]) -> usize {
    let is_ask = |message: &&HeadendMessage| matches!(message, HeadendMessage::Resync { .. });
    messages.iter().filter(is_ask).count()
}

fn releases(messages: Vec<HeadendMessage>) -> Vec<(DispatchId, u64)> {
    let release = |message| match message {
        HeadendMessage::Release(release) => Some((release.dispatch_id, release.revision)),
        _ => None,
    };
    messages.into_iter().filter_map(release).collect()
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_agrees_is_not_asked() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    agent.says(&bench, &order, SetpointPhase::Started).await;
    let mut agent = agent.disconnect(&bench).await.connect(&bench, &[BIG]).await;
    bench.pass(Duration::from_secs(10)).await;
    assert_eq!(asks(&agent.messages()), 0);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_ended_here_and_is_in_force_at_its_agent_is_released_with_a_newer_revision() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    agent.says(&bench, &order, SetpointPhase::Started).await;
    agent.says(&bench, &order, SetpointPhase::Completed).await;
    agent.in_force = vec![(BIG, order.id)];
    let mut agent = agent.disconnect(&bench).await.connect(&bench, &[BIG]).await;
    bench.pass(Duration::from_secs(4)).await;
    assert_eq!(asks(&agent.messages()), 1, "asked once more");
    agent.states_compared(&bench, &[BIG]).await;
    assert_eq!(releases(agent.messages()), [(order.id, 2)]);
    let next = bench.order(BIG, 6.0).await;
    assert_eq!(next.revision, Some(3), "that revision is used");
    assert_eq!(bench.status(order.id).await, DispatchStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_nobody_knows_is_left_alone_by_a_headend_that_forgets_by_design() {
    let bench = Bench::new().await;
    let mut agent = Agent::new(BIG.into());
    let unknown = DispatchId::generate();
    agent.in_force = vec![(BIG, unknown)];
    let mut agent = agent.connect(&bench, &[BIG]).await;
    agent.states_compared(&bench, &[BIG]).await;
    let released = releases(agent.messages());
    // The store of this bench is memory, which forgets by design.
    assert_eq!(released, [], "{released:?}");
}

#[tokio::test(start_paused = true)]
async fn a_report_that_comes_late_is_no_mismatch() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    agent.says(&bench, &order, SetpointPhase::Started).await;
    bench.pass(Duration::from_secs(60)).await;
    // It has ended, and its report is behind.
    agent.in_force.clear();
    let states = agent.states(&[BIG]);
    let session = Arc::clone(agent.session());
    let read_at = bench.clock.now();
    let compare = bench.dispatcher.compare(&session, &states, &[], read_at);
    let report = agent.says(&bench, &order, SetpointPhase::Completed);
    let (compared, ()) = tokio::join!(compare, report);
    compared.unwrap();
    assert_eq!(bench.status(order.id).await, DispatchStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn what_is_active_here_and_not_at_its_agent_is_said_and_not_guessed() {
    let bench = Bench::new().await;
    let mut agent = bench.agent_of(BIG).await;
    let order = bench.order(BIG, 5.0).await;
    agent.says(&bench, &order, SetpointPhase::Started).await;
    agent.in_force.clear();
    let mut agent = agent.disconnect(&bench).await.connect(&bench, &[BIG]).await;
    bench.pass(Duration::from_secs(60)).await;
    assert_eq!(asks(&agent.messages()), 1);
    agent.states_compared(&bench, &[BIG]).await;
    assert_eq!(releases(agent.messages()), []);
    assert_eq!(bench.status(order.id).await, DispatchStatus::Active);
}
