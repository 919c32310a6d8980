//! What a person is asked at a terminal.

use derms_client::{DispatchHistoryQuery, HistoryQuery};

use crate::terminal::Typed;
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_order_is_given_by_a_person_who_has_seen_it_and_says_y() {
    let world = World::start().await;
    let args = [
        "dispatch",
        "--asset",
        "BESS-1",
        "5",
        "--duration",
        "10m",
        "--wait",
    ];
    let orders = async || {
        let query = DispatchHistoryQuery::new();
        world.client().dispatch_history(query).await.unwrap().items
    };
    for no in ["n", "", "yeah", "Yes please"] {
        let mut typed = Typed::start(&world.url(), &args);
        let seen = typed.sees("apply? [y/N]");
        assert!(seen.contains("5 MW discharge at BESS-1"), "{seen}");
        typed.types(no);
        let (code, seen) = typed.ended();
        assert_eq!(code, Some(1), "{seen}");
        assert!(seen.contains("nothing was sent"), "{seen}");
    }
    assert!(orders().await.is_empty());

    let mut typed = Typed::start(&world.url(), &args);
    typed.sees("apply? [y/N]");
    typed.types("y");
    let (code, seen) = typed.ended();
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("idempotency key "), "{seen}");
    assert_eq!(orders().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stop_takes_the_whole_word_of_the_api() {
    let world = World::start().await;
    let stops = async || {
        let query = HistoryQuery::new();
        world.client().stop_history(query).await.unwrap().items
    };
    for (word, code) in [("y", 1), ("Stop", 1), ("stop", 0)] {
        assert!(stops().await.is_empty());
        let mut typed = Typed::start(&world.url(), &["stop", "--all"]);
        let seen = typed.sees("type `stop`:");
        assert!(seen.contains("the whole fleet (11 assets)"), "{seen}");
        typed.types(word);
        let (exit, seen) = typed.ended();
        assert_eq!(exit, Some(code), "{word}: {seen}");
    }
    assert_eq!(stops().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_watch_draws_its_table_anew_in_the_same_place_until_it_is_interrupted() {
    let world = World::start().await;
    let mut typed = Typed::start(&world.url(), &["watch", "--site", "Jersey"]);
    // A line is cleared: what stood there is drawn over.
    let seen = typed.sees("\u{1b}[2K");
    assert!(seen.contains("BESS-3") && !seen.contains("PV-1"), "{seen}");
    typed.interrupt();
    let (code, seen) = typed.ended();
    assert_eq!(code, Some(0), "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn colour_is_for_a_terminal_alone_and_not_against_no_color() {
    let world = World::start().await;
    for (env, coloured) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let (code, seen) = Typed::with(&world.url(), &["assets"], env).ended();
        assert_eq!(code, Some(0));
        assert_eq!(seen.contains("\u{1b}[1m"), coloured, "{seen:?}");
    }
    let plain = world.said(&["assets"]).await;
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
}
