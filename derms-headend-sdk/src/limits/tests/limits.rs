use super::*;

#[tokio::test(start_paused = true)]
async fn a_limit_is_told_whole_and_in_force_when_the_agent_says_so() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    let first = bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    let one = agent.only_told();
    assert_eq!(first.status, LimitStatus::Pending);
    assert_eq!(
        first.text.as_deref(),
        Some("its agent has not answered yet")
    );
    let second = bench
        .limit(NewLimit::at_least(BIG, mw(-2.0)).lasting(seconds(60)))
        .await;
    let both = agent.only_told();
    assert!(both.revision > one.revision && !both.stop);
    assert_eq!(both.epoch, agent.session().epoch);
    let told: Vec<_> = both
        .limits
        .iter()
        .map(|l| (l.id, l.min, l.max, l.expires_at))
        .collect();
    let end = START.saturating_add(seconds(60));
    assert_eq!(
        told,
        [
            (first.id, None, Some(mw(5.0)), None),
            (second.id, Some(mw(-2.0)), None, Some(end))
        ]
    );
    // A report on the older set does not speak for what came later.
    agent.reports(&bench, BIG, one.revision, LimitPhase::InForce);
    assert_eq!(bench.status(&first).await, LimitStatus::InForce);
    assert_eq!(bench.status(&second).await, LimitStatus::Pending);
    agent.reports(&bench, BIG, both.revision, LimitPhase::InForce);
    assert_eq!(bench.status(&second).await, LimitStatus::InForce);
    // It is stored without anybody waiting for that.
    bench.pass(seconds(2)).await;
    let stored = bench.store.inner.limit(second.id).await.unwrap().unwrap();
    assert_eq!(stored.status, LimitStatus::InForce);
    assert!(stored.confirmed_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_report_of_a_revision_that_was_never_given_confirms_nothing() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    let limit = bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    let told = agent.only_told();
    agent.reports(&bench, BIG, told.revision + 1, LimitPhase::InForce);
    agent.reports(&bench, LEFT, told.revision, LimitPhase::InForce);
    assert_eq!(bench.status(&limit).await, LimitStatus::Pending);
}

#[tokio::test(start_paused = true)]
async fn what_a_device_does_not_obey_shows_its_words_until_it_does() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    let limit = bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    let revision = agent.only_told().revision;
    agent.reports(&bench, BIG, revision, LimitPhase::NotObeyed);
    let shown = bench.limits.get(limit.id).await.unwrap().unwrap();
    assert_eq!(shown.status, LimitStatus::NotObeyed);
    assert_eq!(shown.text.as_deref(), Some("the relay sticks"));
    agent.reports(&bench, BIG, revision, LimitPhase::InForce);
    let shown = bench.limits.get(limit.id).await.unwrap().unwrap();
    assert_eq!((shown.status, shown.text), (LimitStatus::InForce, None));
    // What is in force stays so when the agent does not take the next one.
    let next = bench.limit(NewLimit::at_most(BIG, mw(4.0))).await;
    let revision = agent.only_told().revision;
    agent.reports(&bench, BIG, revision, LimitPhase::Refused);
    assert_eq!(bench.status(&next).await, LimitStatus::Refused);
    assert_eq!(bench.status(&limit).await, LimitStatus::InForce);
}

#[tokio::test(start_paused = true)]
async fn a_limit_for_an_agent_that_is_away_is_told_before_any_order() {
    let bench = Bench::new().await;
    let limit = bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    assert!(
        limit
            .text
            .unwrap()
            .starts_with("its agent is not connected")
    );
    bench
        .order(&NewDispatch::asset(BIG, mw(9.0)))
        .await
        .unwrap();
    let mut agent = Agent::of(BIG).connect(&bench).await;
    let (limits, orders) = agent.read();
    assert_eq!((limits.len(), orders.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_shows_that_it_keeps_to_is_not_told_again() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    let told = agent.only_told();
    agent.reports(&bench, BIG, told.revision, LimitPhase::InForce);
    agent.disconnect(&bench);
    agent.begin(&bench).await;
    assert_eq!(agent.told(), []);
    // One that has lost its memory is told.
    agent.disconnect(&bench);
    agent.shown.clear();
    agent.begin(&bench).await;
    assert_eq!(agent.only_told().limits.len(), 1);
    // One that knows later limits than this headend is told anew, above those.
    agent.disconnect(&bench);
    agent.shown.insert(BIG, told.revision + 1_000_000);
    agent.begin(&bench).await;
    let anew = agent.only_told();
    assert_eq!(anew.revision, told.revision + 1_000_001);
    assert_eq!(anew.limits.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_restarted_before_it_said_that_a_limit_is_in_force_is_asked_again() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    let limit = bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    let told = agent.only_told();
    agent.disconnect(&bench);
    agent.begin(&bench).await;
    let again = agent.only_told();
    assert!(again.revision > told.revision);
    agent.reports(&bench, BIG, again.revision, LimitPhase::InForce);
    assert_eq!(bench.status(&limit).await, LimitStatus::InForce);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_shows_older_limits_for_too_long_brings_them_again() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    let told = agent.only_told();
    agent.shown.insert(BIG, 0);
    bench.pass(seconds(4)).await;
    agent.beats(&bench, BIG, Control::default());
    assert_eq!(agent.told(), [], "it may be on its way");
    bench.pass(seconds(2)).await;
    agent.beats(&bench, BIG, Control::default());
    assert_eq!(agent.only_told(), told);
    agent.beats(&bench, BIG, Control::default());
    assert_eq!(agent.told(), []);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_never_had_limits_and_has_none_is_told_nothing() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    let limit = bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    bench.limits.remove(limit.id, None).await.unwrap();
    agent.read();
    agent.disconnect(&bench);
    agent.shown.clear();
    agent.begin(&bench).await;
    assert_eq!(agent.told(), []);
    bench.pass(seconds(10)).await;
    agent.beats(&bench, BIG, Control::default());
    assert_eq!(agent.told(), []);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_can_not_keep_limits_is_told_none_and_the_limit_says_so() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG);
    agent.capabilities = Capabilities::default();
    let mut agent = agent.connect(&bench).await;
    let limit = bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    assert_eq!(agent.told(), []);
    assert_eq!(limit.status, LimitStatus::Pending);
    assert_eq!(limit.text.as_deref(), Some("its agent can't keep limits"));
    bench.pass(seconds(10)).await;
    agent.beats(&bench, BIG, Control::default());
    assert_eq!(agent.told(), []);
}

#[tokio::test(start_paused = true)]
async fn a_limit_ends_at_its_time_without_a_word() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    let limit = bench
        .limit(NewLimit::at_most(BIG, mw(5.0)).lasting(seconds(10)))
        .await;
    agent.only_told();
    bench.pass(seconds(12)).await;
    assert_eq!(agent.told(), []);
    assert_eq!(bench.status(&limit).await, LimitStatus::Expired);
    assert_eq!(bench.limits.in_force(None, None), []);
    let stored = bench.store.inner.limit(limit.id).await.unwrap().unwrap();
    assert_eq!(stored.status, LimitStatus::Expired);
    // Its removal comes too late and changes nothing.
    let left = bench.limits.remove(limit.id, None).await.unwrap();
    assert_eq!((left.status, left.removed_at), (LimitStatus::Expired, None));
}

#[tokio::test(start_paused = true)]
async fn a_removed_limit_is_told_as_gone_and_removed_once() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    let limit = bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    let told = agent.only_told();
    let operator = Principal::new("ada");
    let removed = bench
        .limits
        .remove(limit.id, Some(&operator))
        .await
        .unwrap();
    assert_eq!(removed.status, LimitStatus::Removed);
    assert_eq!(removed.removed_by.as_deref(), Some("ada"));
    let gone = agent.only_told();
    assert!(gone.limits.is_empty() && gone.revision > told.revision);
    bench.pass(seconds(5)).await;
    let again = bench.limits.remove(limit.id, None).await.unwrap();
    assert_eq!(again, removed);
    assert_eq!(agent.told(), []);
    let unknown = bench.limits.remove(LimitId::generate(), None).await;
    assert!(matches!(unknown, Err(LimitError::Unknown(_))));
}

#[tokio::test(start_paused = true)]
async fn limits_that_leave_nothing_are_refused() {
    let bench = Bench::new().await;
    let refused = async |new: NewLimit| bench.limits.set(&new, None, None, None).await.unwrap_err();
    let nothing = NewLimit {
        max_mw: None,
        ..NewLimit::at_most(BIG, mw(0.0))
    };
    assert!(matches!(refused(nothing).await, LimitError::Invalid(_)));
    for wrong in [
        NewLimit::at_most(BIG, mw(f64::NAN)),
        NewLimit::at_least(BIG, mw(f64::INFINITY)),
        NewLimit::between(BIG, mw(2.0), mw(1.0)),
        NewLimit {
            duration_s: Some(0.0),
            ..NewLimit::at_most(BIG, mw(1.0))
        },
        NewLimit {
            duration_s: Some(f64::NAN),
            ..NewLimit::at_most(BIG, mw(1.0))
        },
        NewLimit {
            duration_s: Some(1e12),
            ..NewLimit::at_most(BIG, mw(1.0))
        },
    ] {
        assert!(matches!(refused(wrong).await, LimitError::Invalid(_)));
    }
    let error = refused(NewLimit::at_least(LEFT, mw(20.5))).await;
    let LimitError::OutOfRange { limits } = error else {
        panic!("{error}");
    };
    assert_eq!((limits.min_mw, limits.max_mw), (mw(-20.0), mw(20.0)));
    bench.limit(NewLimit::at_most(LEFT, mw(5.0))).await;
    let error = refused(NewLimit::at_least(LEFT, mw(6.0))).await;
    let LimitError::Conflict { range } = error else {
        panic!("{error}");
    };
    assert_eq!((range.min_mw, range.max_mw), (mw(-20.0), mw(5.0)));
    // A single power is something.
    bench.limit(NewLimit::at_least(LEFT, mw(5.0))).await;
    for _ in 0..MAX_LIMITS {
        bench.limit(NewLimit::at_most(RIGHT, mw(5.0))).await;
    }
    let error = refused(NewLimit::at_most(RIGHT, mw(5.0))).await;
    assert!(matches!(error, LimitError::TooMany { most: 16, .. }));
}

#[tokio::test(start_paused = true)]
async fn an_order_outside_the_limits_is_taken_and_says_what_they_leave() {
    let bench = Bench::new().await;
    bench
        .limit(NewLimit::between(BIG, mw(-3.0), mw(5.0)).lasting(seconds(60)))
        .await;
    let mut inside = bench
        .order(&NewDispatch::asset(BIG, mw(5.0)))
        .await
        .unwrap();
    bench.limits.annotate(&mut inside);
    assert_eq!(inside.limited_to, None);
    let mut outside = bench
        .order(&NewDispatch::asset(BIG, mw(6.0)))
        .await
        .unwrap();
    bench.limits.annotate(&mut outside);
    let range = outside.limited_to.unwrap();
    assert_eq!((range.min_mw, range.max_mw), (mw(-3.0), mw(5.0)));
    bench.pass(seconds(61)).await;
    bench.limits.annotate(&mut outside);
    assert_eq!(outside.limited_to, None, "the limit is over");
}

#[tokio::test(start_paused = true)]
async fn a_restart_forgets_no_limit() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    let kept = bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    let gone = bench.limit(NewLimit::at_most(BIG, mw(3.0))).await;
    bench.limits.remove(gone.id, None).await.unwrap();
    let told = agent.told().pop().unwrap();
    agent.reports(&bench, BIG, told.revision, LimitPhase::InForce);
    let bench = bench.restarted().await;
    assert_eq!(bench.status(&kept).await, LimitStatus::InForce);
    assert_eq!(bench.status(&gone).await, LimitStatus::Removed);
    agent.begin(&bench).await;
    assert_eq!(agent.told(), [], "the revision is known, too");
    agent.disconnect(&bench);
    agent.shown.clear();
    agent.begin(&bench).await;
    let again = agent.only_told();
    assert_eq!(
        again.limits.iter().map(|l| l.id).collect::<Vec<_>>(),
        [kept.id]
    );
}

#[tokio::test(start_paused = true)]
async fn a_headend_without_its_memory_gives_no_revision_again() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    agent.only_told();
    bench.pass(seconds(1)).await;
    // Another store, the same count: what holds is not taken for what the agent has.
    let clock = bench.clock.clone();
    let bench = Bench::on(FaultyStore::new(Fault::None), clock).await;
    let stop = bench.halt(NewStop::asset(BIG)).await;
    agent.begin(&bench).await;
    assert!(agent.only_told().stop);
    let shown = bench.limits.get_stop(stop.id).await.unwrap().unwrap();
    assert_eq!(shown.reached, 1);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_could_not_be_stored_is_not_in_force_now_or_later() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    bench.store.set(Fault::LimitsFail);
    let error = bench
        .limits
        .set(&NewLimit::at_most(BIG, mw(5.0)), None, None, None)
        .await;
    assert!(matches!(error, Err(LimitError::Store(_))));
    assert_eq!(agent.told(), []);
    bench.store.set(Fault::None);
    bench.pass(seconds(3)).await;
    let all = bench
        .limits
        .history(&LimitQuery::default())
        .await
        .unwrap()
        .items;
    assert_eq!(
        all.iter().map(|l| l.status).collect::<Vec<_>>(),
        [LimitStatus::Removed]
    );
    // A removal that could not be stored leaves it in force.
    let limit = bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    bench.store.set(Fault::LimitsFail);
    assert!(bench.limits.remove(limit.id, None).await.is_err());
    assert_eq!(bench.status(&limit).await, LimitStatus::Pending);
}

#[tokio::test(start_paused = true)]
async fn what_an_asset_is_doing_is_the_last_word_of_the_session_that_serves_it() {
    let bench = Bench::new().await;
    let mut agent = Agent::of(BIG).connect(&bench).await;
    let control = Control {
        power: Some(mw(3.0)),
        remaining: Some(seconds(60)),
        limited: true,
        ..Control::default()
    };
    agent.beats(&bench, BIG, control);
    bench.pass(seconds(10)).await;
    let shown = bench.limits.control(BIG).unwrap();
    assert_eq!((shown.mw, shown.limited), (Some(mw(3.0)), true));
    assert_eq!(shown.remaining_s, Some(50.0));
    agent.disconnect(&bench);
    assert_eq!(bench.limits.control(BIG), None);
}

#[tokio::test(start_paused = true)]
async fn an_asset_that_comes_to_another_agent_is_told_by_what_that_one_says() {
    let bench = Bench::new().await;
    // Epochs are counted per agent: the first one is far ahead.
    let mut first = Agent::of(BIG).connect(&bench).await;
    for _ in 0..5 {
        first.disconnect(&bench);
        first.begin(&bench).await;
    }
    bench.limit(NewLimit::at_most(BIG, mw(5.0))).await;
    let told = first.only_told();
    first.reports(&bench, BIG, told.revision, LimitPhase::InForce);
    first.disconnect(&bench);
    let mut second = Agent::new(SITE.into(), &[BIG]).connect(&bench).await;
    assert!(second.session().epoch < told.epoch);
    assert_eq!(second.only_told().limits, told.limits);
    let control = Control {
        power: Some(mw(5.0)),
        ..Control::default()
    };
    second.beats(&bench, BIG, control);
    assert_eq!(bench.limits.control(BIG).unwrap().mw, Some(mw(5.0)));
    assert_eq!(second.told(), []);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_could_not_be_stored_comes_into_force_once_when_it_is_asked_for_again() {
    for fault in [Fault::LimitsFail, Fault::LimitsFailAfter] {
        let bench = Bench::new().await;
        let mut agent = Agent::of(BIG).connect(&bench).await;
        let new = NewLimit::at_most(BIG, mw(5.0));
        let ask = async |new: &NewLimit| bench.limits.set(new, None, Some("k"), None).await;
        bench.store.set(fault);
        assert!(matches!(ask(&new).await, Err(LimitError::Store(_))));
        assert_eq!(agent.told(), []);
        bench.store.set(Fault::None);
        // Long enough that what its caller was told is stored.
        bench.pass(seconds(3)).await;
        if fault == Fault::LimitsFailAfter {
            let other = ask(&NewLimit::at_most(BIG, mw(6.0))).await;
            assert!(matches!(other, Err(LimitError::IdempotencyConflict)));
        }
        let limit = ask(&new).await.unwrap();
        assert_eq!(limit.status, LimitStatus::Pending);
        assert_eq!(ask(&new).await.unwrap().id, limit.id);
        assert_eq!(agent.told().len(), 1);
        bench.pass(seconds(3)).await;
        let all = bench
            .limits
            .history(&LimitQuery::default())
            .await
            .unwrap()
            .items;
        assert_eq!(all.len(), 1, "{all:?}");
        let bench = bench.restarted().await;
        assert_eq!(bench.limits.in_force(Some(BIG), None).len(), 1);
        let again = bench.limits.set(&new, None, Some("k"), None).await.unwrap();
        assert_eq!(again.id, limit.id);
    }
}
