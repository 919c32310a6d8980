//! A stop of agents that can't be stopped.

use derms_proto::NewStop;

use super::*;

impl Bench {
    async fn old_gateway(&self) -> Agent {
        let mut agent = Agent::new(AgentId::from(SITE));
        agent.capabilities = Capabilities::default();
        agent.connect(self, &[BIG, LEFT, RIGHT, METER]).await
    }

    async fn stop_all(&self) -> derms_proto::Stop {
        let limits = &self.dispatcher.limits;
        let stop = limits
            .stop(&NewStop::all(), None, None, None)
            .await
            .unwrap();
        let _ = self.dispatcher.cancel_stopped().await;
        stop
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_can_not_be_stopped_is_asked_to_end_its_order_and_is_named() {
    for away in [false, true] {
        let bench = Bench::new().await;
        let mut agent = bench.old_gateway().await;
        let order = bench.order(BIG, 5.0).await;
        agent.messages();
        agent.says(&bench, &order, SetpointPhase::Started).await;
        if away {
            bench.store.set(Fault::Away);
        }
        let stop = bench.stop_all().await;
        assert_eq!(agent.commands(), [Command::Release(order.id, 2)]);
        assert_eq!(stop.cannot_be_held, [BIG, LEFT, RIGHT, METER]);
        assert_eq!(stop.unsupported, 4);
        bench.store.set(Fault::None);
        bench.pass(seconds(3)).await;
        let asked = bench.stored(order.id).await;
        assert_eq!(asked.cancelled_by.as_deref(), Some("stop"));
        agent.says(&bench, &order, SetpointPhase::Released).await;
        assert_eq!(bench.status(order.id).await, DispatchStatus::Cancelled);
        let again = bench.submit(&NewDispatch::asset(BIG, Power::ZERO)).await;
        assert!(matches!(again, Err(DispatchError::Stopped(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_can_be_stopped_gets_no_release_beside_the_stop() {
    let bench = Bench::new().await;
    let mut agent = bench.gateway().await;
    let order = bench.order(BIG, 5.0).await;
    agent.messages();
    let stop = bench.stop_all().await;
    assert_eq!(stop.cannot_be_held, []);
    let releases = agent.messages().into_iter();
    let releases = releases.filter(|message| matches!(message, HeadendMessage::Release(_)));
    assert_eq!(releases.count(), 0);
    assert_eq!(bench.stored(order.id).await.cancel_requested_at, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_nearer_to_nothing_than_the_default_is_left() {
    let bench = Bench::new().await;
    let mut agent = Agent::new(FAR.into());
    agent.capabilities = Capabilities::default();
    let mut agent = agent.connect(&bench, &[FAR]).await;
    bench.order(FAR, 0.5).await;
    agent.messages();
    bench.stop_all().await;
    assert_eq!(agent.commands(), [], "its default is 1 MW");
    let bench = Bench::new().await;
    let mut agent = Agent::new(FAR.into());
    agent.capabilities = Capabilities::default();
    let mut agent = agent.connect(&bench, &[FAR]).await;
    bench.order(FAR, -2.0).await;
    agent.messages();
    bench.stop_all().await;
    assert_eq!(agent.commands().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_agent_that_comes_back_during_a_stop_is_asked_then() {
    let bench = Bench::new().await;
    let mut agent = bench.old_gateway().await;
    let order = bench.order(BIG, 5.0).await;
    agent.messages();
    agent.says(&bench, &order, SetpointPhase::Started).await;
    let agent = agent.disconnect(&bench).await;
    let stop = bench.stop_all().await;
    assert_eq!((stop.offline, stop.cannot_be_held), (5, vec![]));
    let mut agent = agent.connect(&bench, &[BIG, LEFT, RIGHT, METER]).await;
    // As the keeper of limits does when it is told that orders must end.
    bench.dispatcher.cancel_stopped().await.unwrap();
    assert_eq!(agent.commands(), [Command::Release(order.id, 2)]);
}
