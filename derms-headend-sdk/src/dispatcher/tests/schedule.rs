use derms_proto::FollowUp;

use super::*;

fn later(after: u64) -> NewDispatch {
    NewDispatch::asset(BIG, Power::from_mw(5.0)).starting_at(START.saturating_add(seconds(after)))
}

#[tokio::test(start_paused = true)]
async fn an_order_for_later_is_sent_ahead_with_a_deadline_after_its_start() {
    let bench = Bench::new().await;
    let mut agent = bench.gateway().await;
    let wish = later(3_600)
        .ramping(12.0)
        .followed_by(FollowUp::Value(Power::from_mw(1.0)));
    let dispatch = bench.submit(&wish).await.unwrap();
    assert_eq!(dispatch.status, DispatchStatus::Sent);
    assert_eq!(dispatch.expires_at, START.saturating_add(seconds(3_900)));
    let order = agent.only_order();
    assert_eq!(order.start_at, wish.start_at);
    assert_eq!(order.start_deadline, START.saturating_add(seconds(3_630)));
    assert_eq!(order.ramp_mw_per_min, Some(12.0));
    assert_eq!(order.then, FollowUp::Value(Power::from_mw(1.0)));
    // One that may wait less than that must start sooner.
    let wish = later(7_200).waiting_at_most(seconds(10));
    bench.submit(&wish).await.unwrap();
    let deadline = agent.only_order().start_deadline;
    assert_eq!(deadline, START.saturating_add(seconds(7_210)));
}

#[tokio::test(start_paused = true)]
async fn an_order_for_later_waits_here_for_an_agent_that_can_not_keep_it() {
    let bench = Bench::new().await;
    let mut agent = Agent::new(AgentId::from(SITE));
    agent.capabilities = Capabilities::default();
    let mut agent = agent.connect(&bench, &[BIG]).await;
    let dispatch = bench.submit(&later(100)).await.unwrap();
    assert_eq!(dispatch.status, DispatchStatus::Pending);
    let now = NewDispatch::asset(BIG, Power::from_mw(1.0)).lasting(seconds(50));
    let now = bench.submit(&now).await.unwrap();
    assert_eq!(agent.only_order().dispatch_id, now.id);
    for second in [99, 2] {
        assert_eq!(agent.orders(), []);
        agent
            .session()
            .seen(bench.clock.now().saturating_add(seconds(second)));
        bench.pass(seconds(second)).await;
    }
    let order = agent.only_order();
    assert_eq!((order.dispatch_id, order.start_at), (dispatch.id, None));
    assert!(
        order.revision > now.revision.unwrap(),
        "an agent takes no revision below one that it has"
    );
}

#[tokio::test(start_paused = true)]
async fn orders_for_different_times_wait_together_and_go_out_oldest_first() {
    let bench = Bench::new().await;
    let last = bench.submit(&later(300)).await.unwrap();
    let first = bench
        .submit(&later(100).lasting(seconds(50)))
        .await
        .unwrap();
    let now = NewDispatch::asset(BIG, Power::from_mw(1.0)).lasting(seconds(60));
    let now = bench.submit(&now).await.unwrap();
    let bench = bench.restarted().await;
    let mut agent = bench.gateway().await;
    let sent: Vec<_> = agent
        .orders()
        .iter()
        .map(|order| order.dispatch_id)
        .collect();
    assert_eq!(sent, [last.id, first.id, now.id]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_has_passed_or_is_too_far_ahead_is_refused() {
    let bench = Bench::new().await;
    bench.pass(seconds(60)).await;
    let refused = async |new: NewDispatch| {
        let error = bench.submit(&new).await.unwrap_err();
        assert!(matches!(error, DispatchError::Invalid(_)), "{error}");
    };
    refused(later(54)).await;
    refused(later(60 + 31 * 24 * 3_600 + 1)).await;
    refused(later(70).ramping(0.0)).await;
    refused(later(70).ramping(f64::NAN)).await;
    refused(later(70).followed_by(FollowUp::Value(Power::from_mw(f64::NAN)))).await;
    let for_all = NewDispatch::site(SITE, Power::from_mw(1.0))
        .followed_by(FollowUp::Value(Power::from_mw(1.0)));
    refused(for_all).await;
    let outside = later(70).followed_by(FollowUp::Value(Power::from_mw(61.0)));
    let error = bench.submit(&outside).await.unwrap_err();
    assert!(matches!(error, DispatchError::OutOfRange { .. }));
    bench.submit(&later(56)).await.unwrap();
    bench.submit(&later(60 + 31 * 24 * 3_600)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_order_that_an_agent_keeps_for_a_month_is_not_given_up() {
    let bench = Bench::new().await;
    let mut agent = bench.gateway().await;
    let dispatch = bench.submit(&later(30 * 24 * 3_600)).await.unwrap();
    agent.only_order();
    agent.says(&bench, &dispatch, SetpointPhase::Received).await;
    bench.pass(seconds(20 * 24 * 3_600)).await;
    assert_eq!(bench.status(dispatch.id).await, DispatchStatus::Received);
    // Seven days after its time somebody must have said something.
    bench.pass(seconds(18 * 24 * 3_600)).await;
    assert_eq!(
        bench.status(dispatch.id).await,
        DispatchStatus::Indeterminate
    );
}
