//! Orders, limits and stops of a script.

use serde_json::{Value, json};

use crate::world::{BESS_1, World};

#[tokio::test]
async fn an_order_goes_from_a_name_to_active_and_back_by_its_id() {
    let world = World::start().await;
    let order = ["dispatch", "--asset", "BESS-1", "-5", "--duration", "10m"];
    let output = world
        .derms(&[&order[..], &["--yes", "--wait", "--json"]].concat())
        .await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let given: Value = serde_json::from_str(&output.stdout).unwrap();
    let told = ["asset_id", "mw", "duration_s", "status"].map(|name| &given[name]);
    assert_eq!(json!(told), json!([BESS_1, -5.0, 600.0, "active"]));

    // The key that it was sent with gives no second order.
    let key = output
        .stderr
        .strip_prefix("idempotency key ")
        .unwrap()
        .trim();
    let again = [&order[..], &["--yes", "--idempotency-key", key]].concat();
    assert_eq!(world.json(&again).await["id"], given["id"]);

    let id = given["id"].as_str().unwrap();
    let whole = world.json(&["dispatch", "show", &id[..23]]).await;
    let known = world
        .client()
        .get_dispatch(id.parse().unwrap())
        .await
        .unwrap();
    assert_eq!(
        whole["transitions"],
        serde_json::to_value(&known.transitions).unwrap()
    );
    let shown = world.said(&["dispatch", "show", id]).await;
    for words in [
        "-5 MW charge at BESS-1",
        "10m, then the default",
        "received",
        "active",
    ] {
        assert!(shown.contains(words), "no {words} in:\n{shown}");
    }
    let list = [
        "dispatch", "list", "--asset", "BESS-1", "--status", "active", "--from", "-1h",
    ];
    assert_eq!(world.json(&list).await.as_array().unwrap().len(), 1);
    let none = ["dispatch", "list", "--to", "-1h"];
    assert_eq!(world.said(&none).await, "no orders of this kind\n");

    assert_eq!(world.json(&["cancel", id]).await["status"], "cancelled");
    let late = world.refused(&["cancel", id], 2).await;
    assert!(late.contains("[already_ended]"), "{late}");
}

#[tokio::test]
async fn a_preview_shows_shares_residual_and_what_is_in_the_way_and_sends_nothing() {
    let world = World::start().await;
    world
        .said(&[
            "dispatch",
            "--asset",
            "BESS-1",
            "5",
            "--duration",
            "10m",
            "--yes",
            "--wait",
        ])
        .await;
    let held = ["limit", "set", "--asset", "BESS-2", "--max", "2"];
    world.said(&held).await;
    let preview = world
        .said(&["dispatch", "--site", "Jersey", "150", "--preview"])
        .await;
    let row = |name: &str| {
        let line = preview.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in:\n{preview}"))
            .to_owned()
    };
    assert!(
        row("residual").contains("MW: no asset has room"),
        "{preview}"
    );
    assert!(row("BESS-1").contains("(5 MW active to "), "{preview}");
    assert!(
        row("BESS-1").contains("at the end of its range"),
        "{preview}"
    );
    assert!(
        row("BESS-2").contains("a limit holds it at 2 MW"),
        "{preview}"
    );
    assert!(row("BESS-3").contains("discharge"), "{preview}");
    let orders = world.json(&["dispatch", "list"]).await;
    assert_eq!(orders.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_script_that_does_not_say_yes_orders_and_stops_nothing() {
    let world = World::start().await;
    for args in [
        &["dispatch", "--asset", "BESS-1", "5"][..],
        &["dispatch", "--site", "Jersey", "5", "--json"],
        &["stop", "--all"],
    ] {
        let line = world.refused(args, 64).await;
        assert!(
            line.contains("--yes") && line.contains("nothing was sent"),
            "{line}"
        );
    }
    assert_eq!(world.json(&["dispatch", "list"]).await, json!([]));
    assert_eq!(world.json(&["stop", "list", "--history"]).await, json!([]));
}

#[tokio::test]
async fn bad_usage_a_refusal_and_a_headend_that_is_away_have_exit_codes_of_their_own() {
    let world = World::start().await;
    for (args, code, words) in [
        (&["assets", "BESS-9"][..], 64, "derms assets shows them"),
        (&["telemetry", "7ba7b81"], 64, "write a whole id"),
        (&["dispatch", "--asset", "BESS-1", "5mw"], 64, "-500kW"),
        (
            &["dispatch", "--asset", "BESS-1", "500", "--yes"],
            2,
            "[out_of_range]",
        ),
        (&["telemetry", "PV-1"], 2, "[no_telemetry]"),
        (
            &["agents", "--headend-url", "127.0.0.1:1"],
            3,
            "--headend-url (DERMS_URL)",
        ),
        (
            &["health", "--headend-url", "127.0.0.1:1"],
            3,
            "can't connect",
        ),
        (
            &[
                "agents",
                "--ca",
                "none.pem",
                "--headend-url",
                "https://127.0.0.1:1",
            ],
            64,
            "none.pem",
        ),
    ] {
        let line = world.refused(args, code).await;
        assert!(line.contains(words), "{args:?}: {line}");
    }
    let refused = [
        "dispatch", "--asset", "PV-1", "1", "--ttl", "1s", "--yes", "--wait",
    ];
    let expired = world.refused(&refused, 1).await;
    assert!(expired.contains("ended as expired"), "{expired}");
}

#[tokio::test]
async fn limits_and_stops_are_told_as_the_api_has_them() {
    let world = World::start().await;
    let limit = [
        "limit", "set", "--asset", "BESS-1", "--min", "-500kW", "--max", "3",
    ];
    let limit = world.json(&limit).await;
    let bounds = (limit["min_mw"].as_f64(), limit["max_mw"].as_f64());
    assert_eq!(bounds, (Some(-0.5), Some(3.0)));
    let listed = world.said(&["limit", "list", "--site", "Jersey"]).await;
    assert!(listed.contains("-0.5 MW to 3 MW"), "{listed}");
    let id = limit["id"].as_str().unwrap();
    assert_eq!(
        world.json(&["limit", "remove", &id[..23]]).await["status"],
        "removed"
    );
    assert_eq!(world.said(&["limit", "list"]).await, "no limits\n");
    let history = world.json(&["limit", "list", "--history"]).await;
    let known = world.client().limit(id.parse().unwrap()).await.unwrap();
    assert_eq!(history, json!([known]));

    let stop = world
        .json(&["stop", "--site", "Jersey", "--reason", "a drill", "--yes"])
        .await;
    assert_eq!(
        (&stop["assets"], &stop["reason"]),
        (&json!(3), &json!("a drill"))
    );
    let stopped = ["dispatch", "--asset", "BESS-1", "1", "--yes"];
    assert!(world.refused(&stopped, 2).await.contains("[stopped]"));
    let assets = world.said(&["assets"]).await;
    assert_eq!(assets.matches("  stop  ").count(), 3, "{assets}");
    let id = stop["id"].as_str().unwrap();
    world.said(&["resume", id, "--within", "1s"]).await;
    assert_eq!(world.said(&["stop", "list"]).await, "no stops\n");
    let shown = world.said(&["stop", "show", id]).await;
    assert!(shown.contains("each within 1s"), "{shown}");
}
