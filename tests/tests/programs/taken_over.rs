//! A headend that was lost sight of, and comes back when another one has its database.

use derms_client::DispatchOptions;
use derms_proto::{NewDispatch, Power};
use derms_tests::{FREE, HeadendProcess, PostgresServer};
use rustix::process::Signal;

use crate::BESS_1;

#[tokio::test]
async fn a_headend_whose_database_another_one_has_ends_with_an_error_and_takes_no_order() {
    let server = PostgresServer::start();
    let url = server.database();
    let first = HeadendProcess::at(FREE, FREE, &url).await;
    // As a machine that stands still, or is cut off: it knows nothing of what comes now.
    first.process.signal(Signal::STOP);
    let lose = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                where application_name = 'derms-headend'";
    server.sql(&url, lose);
    let second = HeadendProcess::at(FREE, FREE, &url).await;
    first.process.signal(Signal::CONT);

    let order = NewDispatch::asset(BESS_1.parse().unwrap(), Power::from_mw(1.0));
    let refused = first
        .client
        .dispatch_with(&order, DispatchOptions::new())
        .await;
    assert!(refused.is_err(), "{refused:?}");
    let (code, said) = first.process.ended().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("another headend has taken the database over"),
        "{said}"
    );

    assert!(second.client.readyz().await.is_ok());
    let all = second.client.dispatch_history(Default::default()).await;
    assert!(all.unwrap().items.is_empty());
}
