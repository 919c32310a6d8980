//! One trace from REST to the adapter and back.

use derms_client::DispatchOptions;
use derms_proto::{Dispatch, DispatchStatus, NewDispatch, Power, Traceparent};
use derms_tests::{call, until};
use serde_json::{Value, json};

use crate::rig::{ASSET, Log, Rig, SOON};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn traceresponse(head: &str) -> Traceparent {
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("traceresponse: "));
    Traceparent::parse(line.unwrap_or_else(|| panic!("{head}"))).unwrap()
}

/// The only field of this name in the lines of this order with this message.
fn traces(log: &Log, message: &str, dispatch: &Value) -> Vec<Value> {
    let lines = log.said(message).into_iter();
    lines
        .filter(|line| line["dispatch_id"] == *dispatch)
        .map(|line| line["trace_id"].clone())
        .collect()
}

/// An order of 5 MW that is in force, and the id of its own trace.
async fn in_force(rig: &Rig) -> (Dispatch, String) {
    let order = NewDispatch::asset(ASSET, Power::from_mw(5.0));
    let wait = DispatchOptions::new().wait(SOON);
    let order = rig.client.dispatch_with(&order, wait).await.unwrap();
    assert_eq!(order.status, DispatchStatus::Active);
    let own = order.id.uuid().simple().to_string();
    (order, own)
}

#[tokio::test]
async fn a_callers_trace_goes_to_the_adapter_and_comes_back_with_the_reports() {
    let log = Log::start();
    let rig = Rig::start().await;
    let body = json!({ "asset_id": ASSET, "mw": 5.0, "duration_s": 60.0 }).to_string();
    let header = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01");
    let (head, body) = call(&rig.http, "POST", "/dispatch?wait_s=20", &header, &body).await;
    assert!(head.starts_with("HTTP/1.1 202"), "{head} {body}");
    let told = traceresponse(&head);
    assert_eq!(told.trace_id().to_string(), TRACE);
    assert_ne!(
        told.span_id().to_string(),
        "00f067aa0ba902b7",
        "work of its own"
    );
    let order: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(order["status"], "active", "{order}");
    let id = &order["id"];
    for message in [
        "dispatch committed",
        "dispatch sent",
        "dispatch moved on",
        "order",
    ] {
        let said = traces(&log, message, id);
        assert!(!said.is_empty(), "{message}");
        assert!(
            said.iter().all(|trace| trace == TRACE),
            "{message}: {said:?}"
        );
    }
    // What the vendor logs is found by the same id.
    let span = log.said("the device is told").remove(0)["span"].clone();
    assert_eq!(span["trace_id"], TRACE);
    assert_eq!(span["dispatch_id"], *id);
    assert_eq!(span["asset_id"], ASSET.to_string());
    assert_eq!(span["call"], "apply");
    assert_eq!(span["parent_id"], told.span_id().to_string());
    assert_ne!(span["span_id"], span["parent_id"]);

    // Its end is a part of it, whoever asks for it.
    let path = format!("/dispatch/{}?wait_s=20", id.as_str().unwrap());
    let (head, _) = call(&rig.http, "DELETE", &path, "", "").await;
    assert_eq!(traceresponse(&head), told);
    for message in ["cancel taken", "release sent"] {
        assert_eq!(traces(&log, message, id), [TRACE], "{message}");
    }
    let span = log.said("the device is let go").pop().unwrap()["span"].clone();
    assert_eq!(
        (&span["trace_id"], &span["call"]),
        (&json!(TRACE), &json!("go_to_default"))
    );
    rig.stop().await;
}

#[tokio::test]
async fn an_order_without_a_caller_s_trace_is_one_of_its_own_with_the_id_of_the_order() {
    let log = Log::start();
    let rig = Rig::start().await;
    let (order, own) = in_force(&rig).await;
    until("the agent's line", SOON, async || {
        (traces(&log, "order", &json!(order.id)).len() >= 2).then_some(())
    })
    .await;
    for message in [
        "dispatch committed",
        "dispatch sent",
        "dispatch moved on",
        "order",
    ] {
        let said = traces(&log, message, &json!(order.id));
        assert!(
            !said.is_empty() && said.iter().all(|trace| *trace == own),
            "{message}: {said:?}"
        );
    }
    // What is no context counts as none.
    let body = json!({ "asset_id": ASSET, "mw": 5.0 }).to_string();
    let (head, body) = call(&rig.http, "POST", "/dispatch", "traceparent: 00-x", &body).await;
    let order: Value = serde_json::from_str(&body).unwrap();
    let own = order["id"].as_str().unwrap().replace('-', "");
    assert_eq!(traceresponse(&head).trace_id().to_string(), own);
    rig.stop().await;
}

const STOP_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The trace of the last call of the device that has said this.
fn called(log: &Log, message: &str) -> Value {
    let said = log.said(message).pop();
    said.unwrap_or_else(|| panic!("never said: {message}"))["span"].clone()
}

#[tokio::test]
async fn a_limit_is_one_trace_from_rest_to_the_adapter_and_back_and_so_is_its_removal() {
    let log = Log::start();
    let rig = Rig::start().await;
    let (order, own) = in_force(&rig).await;
    assert_eq!(called(&log, "the device is told")["trace_id"], own);

    let body = json!({ "asset_id": ASSET, "max_mw": 3.0 }).to_string();
    let header = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01");
    let (head, body) = call(&rig.http, "POST", "/limits", &header, &body).await;
    assert!(head.starts_with("HTTP/1.1 201"), "{head} {body}");
    let told = traceresponse(&head);
    assert_eq!(told.trace_id().to_string(), TRACE);
    let limit: Value = serde_json::from_str(&body).unwrap();
    until("the agent's word", SOON, async || {
        (!log.said("limit moved on").is_empty()).then_some(())
    })
    .await;
    for message in [
        "limit set",
        "limits in force",
        "limits reported",
        "limit moved on",
    ] {
        let said = log.said(message);
        assert!(!said.is_empty(), "{message}");
        assert!(
            said.iter().all(|line| line["trace_id"] == TRACE),
            "{said:?}"
        );
    }
    // The device is told by the limit, and holds the order all the same.
    let span = called(&log, "the device is told");
    assert_eq!(span["trace_id"], TRACE);
    assert_eq!(span["parent_id"], told.span_id().to_string());
    assert_eq!(span["dispatch_id"], order.id.to_string());

    let calls = log.said("the device is told").len();
    let path = format!("/limits/{}", limit["id"].as_str().unwrap());
    let (head, _) = call(&rig.http, "DELETE", &path, "", "").await;
    assert_eq!(traceresponse(&head), told);
    until("the device", SOON, async || {
        (log.said("the device is told").len() > calls).then_some(())
    })
    .await;
    assert_eq!(called(&log, "the device is told")["trace_id"], TRACE);
    assert_eq!(log.said("limit removed")[0]["trace_id"], TRACE);
    // What the order does later is of its own trace again.
    let path = format!("/dispatch/{}?wait_s=20", order.id);
    call(&rig.http, "DELETE", &path, "", "").await;
    assert_eq!(called(&log, "the device is let go")["trace_id"], own);
    rig.stop().await;
}

#[tokio::test]
async fn a_stop_is_one_trace_from_rest_to_the_adapter_and_so_is_the_return_from_it() {
    let log = Log::start();
    let rig = Rig::start().await;
    let (order, own) = in_force(&rig).await;

    let body = json!({ "asset_id": ASSET, "confirm": "stop" }).to_string();
    let header = format!("traceparent: 00-{STOP_TRACE}-b7ad6b7169203331-01");
    let (head, body) = call(&rig.http, "POST", "/stop", &header, &body).await;
    assert!(head.starts_with("HTTP/1.1 202"), "{head} {body}");
    let told = traceresponse(&head);
    assert_eq!(told.trace_id().to_string(), STOP_TRACE);
    let stop: Value = serde_json::from_str(&body).unwrap();
    until("the agent's word", SOON, async || {
        (!log.said("limits reported").is_empty()).then_some(())
    })
    .await;
    for message in [
        "stopping",
        "stopped by an operator",
        "limits in force",
        "limits reported",
    ] {
        assert_eq!(log.said(message)[0]["trace_id"], STOP_TRACE, "{message}");
    }
    let span = called(&log, "the device is let go");
    assert_eq!(span["trace_id"], STOP_TRACE);
    assert_eq!(span["parent_id"], told.span_id().to_string());
    // The end of the order is told in the order's.
    let ended = traces(&log, "dispatch moved on", &json!(order.id));
    assert!(ended.iter().all(|trace| *trace == own), "{ended:?}");

    let calls = log.said("the device is let go").len();
    let path = format!("/stop/{}?return_within_s=0", stop["id"].as_str().unwrap());
    let (head, _) = call(&rig.http, "DELETE", &path, "", "").await;
    assert_eq!(traceresponse(&head), told);
    until("the return", SOON, async || {
        (log.said("the device is let go").len() > calls).then_some(())
    })
    .await;
    assert_eq!(called(&log, "the device is let go")["trace_id"], STOP_TRACE);
    for message in ["stop ended", "stopped no more"] {
        assert_eq!(log.said(message)[0]["trace_id"], STOP_TRACE, "{message}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_limit_without_a_caller_s_trace_has_the_id_of_the_limit() {
    let log = Log::start();
    let rig = Rig::start().await;
    let body = json!({ "asset_id": ASSET, "max_mw": 3.0 }).to_string();
    let (head, body) = call(&rig.http, "POST", "/limits", "", &body).await;
    let limit: Value = serde_json::from_str(&body).unwrap();
    let own = limit["id"].as_str().unwrap().replace('-', "");
    assert_eq!(traceresponse(&head).trace_id().to_string(), own);
    until("the agent's word", SOON, async || {
        (!log.said("limits reported").is_empty()).then_some(())
    })
    .await;
    assert_eq!(log.said("limits in force")[0]["trace_id"], own);
    rig.stop().await;
}
