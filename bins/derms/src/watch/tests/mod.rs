//! A watch over a headend that follows a script, on a clock that runs ahead.

mod rig;

use derms_program::Stop;
use serde_json::{Value, json};

use rig::{Answer, Script, Watched, event, line, measured, order, reset, row, session};

#[tokio::test(start_paused = true)]
async fn the_lists_come_first_and_what_they_had_is_not_told_again_by_the_stream() {
    let script = Script {
        telemetry: [measured(4, 1.0)].into(),
        events: vec![event(2, "newer"), event(1, "older")],
        streams: [Answer::Open(vec![
            reset("began"),
            measured(4, 1.0),
            event(2, "newer"),
            measured(8, 2.0),
            // From the time of an outage.
            measured(6, 9.0),
            event(3, "newest"),
            order("active"),
            session(1, Some("taken_over")),
        ])]
        .into(),
        ..Script::default()
    };
    let watched = Watched::lines(script, 30).await;
    let expected = [
        line("1 MW discharge"),
        "B-1 alarm older: 62 C".to_owned(),
        "B-1 alarm newer: 62 C".to_owned(),
        line("2 MW discharge"),
        "B-1 alarm newest: 62 C".to_owned(),
        "B-1 order 5 MW discharge active (by its device) 01990000-0000-7000-8000-00000000000a"
            .to_owned(),
        "B-1 disconnected: taken_over".to_owned(),
    ];
    assert_eq!(watched.written(), expected);
    // No table is there to be kept right.
    assert_eq!(watched.asked("/telemetry"), 1);
    assert!(watched.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_begins_anew_is_followed_by_the_lists_and_said_to_have_a_gap() {
    let script = Script {
        telemetry: [measured(4, 1.0), measured(8, 2.0)].into(),
        streams: [
            Answer::Ends(vec![reset("began")]),
            Answer::Status(503),
            Answer::Open(vec![reset("restarted"), measured(9, 3.0)]),
        ]
        .into(),
        ..Script::default()
    };
    let watched = Watched::lines(script, 30).await;
    let expected = ["1 MW discharge", "2 MW discharge", "3 MW discharge"].map(line);
    assert_eq!(watched.written(), expected);
    let told = watched.told();
    let [away, gap] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert!(away.ends_with("[draining]; trying again"), "{away}");
    assert_eq!(
        gap,
        "something may be missing here: the headend was restarted"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_opened_again_behind_its_last_item_is_no_event() {
    let script = Script {
        telemetry: [measured(4, 1.0)].into(),
        streams: [
            Answer::Ends(vec![reset("began"), measured(5, 2.0)]),
            Answer::Open(vec![measured(6, 3.0)]),
        ]
        .into(),
        ..Script::default()
    };
    let watched = Watched::lines(script, 30).await;
    let expected = ["1 MW discharge", "2 MW discharge", "3 MW discharge"].map(line);
    assert_eq!(watched.written(), expected);
    assert!(watched.told().is_empty(), "{:?}", watched.told());
    assert_eq!(watched.asked("/sites"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_headend_without_a_stream_is_asked_again_and_again_and_that_is_said() {
    let script = Script {
        telemetry: [measured(4, 1.0), measured(4, 1.0), measured(8, 2.0)].into(),
        streams: [Answer::Status(404)].into(),
        events: vec![event(1, "hot")],
        ..Script::default()
    };
    let watched = Watched::lines(script, 5).await;
    let hot = "B-1 alarm hot: 62 C".to_owned();
    assert_eq!(
        watched.written(),
        [line("1 MW discharge"), hot, line("2 MW discharge")]
    );
    // At once, and after 2 and 4 s.
    assert_eq!(watched.asked("/telemetry"), 3);
    assert_eq!(watched.asked("/stream"), 1);
    let told = watched.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("no live stream (404)") && told[0].contains("every 2 s"),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn lists_that_can_not_be_read_now_are_read_later_and_a_refusal_ends_it() {
    let script = |last| Script {
        telemetry: [json!(503), json!(503), last].into(),
        streams: [Answer::Open(vec![reset("began")])].into(),
        ..Script::default()
    };
    let watched = Watched::lines(script(measured(4, 1.0)), 30).await;
    assert_eq!(watched.written(), [line("1 MW discharge")]);
    let told = watched.told();
    assert_eq!(told.len(), 1, "the same trouble twice: {told:?}");
    assert!(
        told[0].contains("[store_unavailable]; trying again"),
        "{told:?}"
    );

    let away = Script {
        telemetry: vec![json!(503); 100].into(),
        streams: [Answer::Open(vec![reset("began")])].into(),
        ..Script::default()
    };
    // At once, and after 2, 4, 6 and 8 s.
    assert_eq!(Watched::lines(away, 9).await.asked("/telemetry"), 5);

    for refusal in [403, 404] {
        let (watched, ended) = Watched::run(script(json!(refusal)), false, None, 30).await;
        let Some(Stop::Failed(failure)) = ended else {
            panic!("{refusal}: {ended:?}");
        };
        assert_eq!(failure.code(), crate::fault::REFUSED);
        assert!(watched.written().is_empty());
        assert_eq!(watched.told().len(), 1, "there is a stream");
    }
}

#[tokio::test(start_paused = true)]
async fn for_programs_each_item_is_a_line_and_a_reset_says_that_lists_follow() {
    let script = Script {
        telemetry: [measured(4, 1.0)].into(),
        streams: [Answer::Open(vec![
            reset("began"),
            event(1, "hot"),
            order("active"),
        ])]
        .into(),
        ..Script::default()
    };
    let (watched, _) = Watched::run(script, true, Some((24, 80)), 30).await;
    let written = watched.sheet.written.borrow();
    let items = written.iter().map(|line| {
        assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
        serde_json::from_str::<Value>(line).unwrap()["kind"].clone()
    });
    let kinds: Vec<Value> = items.collect();
    assert_eq!(kinds, ["reset", "telemetry", "event", "dispatch"]);
}

#[tokio::test(start_paused = true)]
async fn a_table_grows_old_with_the_clock_and_shows_who_has_gone() {
    let script = Script {
        telemetry: [measured(4, 1.0)].into(),
        streams: [Answer::Open(vec![
            reset("began"),
            session(2, None),
            measured(8, 2.0),
            session(2, Some("normal")),
        ])]
        .into(),
        ..Script::default()
    };
    // The lists are read again after 15 s.
    let (watched, _) = Watched::run(script, false, Some((24, 120)), 14).await;
    let written = watched.sheet.written.borrow();
    assert_eq!(
        row(&written[0]),
        "B-1 Jersey online 1 MW discharge - - - - 1.0s"
    );
    let last = written.last().unwrap();
    assert_eq!(
        row(last),
        "B-1 Jersey offline 2 MW discharge - - - - 15.0s stale"
    );
    assert!(last.ends_with("B-1 disconnected: normal\n"), "{last}");
    assert!(
        (14..=16).contains(&written.len()),
        "drawn {} times",
        written.len()
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_new_session_began_before_the_old_one_ended_is_online() {
    let script = Script {
        telemetry: [measured(4, 1.0)].into(),
        streams: [Answer::Open(vec![
            reset("began"),
            session(2, None),
            session(1, Some("taken_over")),
        ])]
        .into(),
        ..Script::default()
    };
    let (watched, _) = Watched::run(script, false, Some((24, 120)), 5).await;
    let written = watched.sheet.written.borrow();
    let row = row(written.last().unwrap());
    assert_eq!(row, "B-1 Jersey online 1 MW discharge - - - - 6.0s");
}

#[tokio::test(start_paused = true)]
async fn the_lists_behind_a_table_are_read_now_and_then_for_what_is_stale() {
    let mut stale = measured(4, 1.0);
    stale["stale"] = true.into();
    let script = Script {
        telemetry: [measured(4, 1.0), stale].into(),
        streams: [Answer::Open(vec![reset("began")])].into(),
        ..Script::default()
    };
    let (watched, _) = Watched::run(script, false, Some((24, 120)), 20).await;
    assert_eq!(watched.asked("/telemetry"), 2);
    let written = watched.sheet.written.borrow();
    assert!(!written[0].contains("stale") && written.last().unwrap().contains("stale"));
}
