//! `grpc.health.v1.Health`: what load balancers and orchestrators ask.

use std::time::Duration;

use derms_headend_sdk::{Headend, HeadendService};
use tokio::time::timeout;
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus::{self, NotServing, Serving};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::sick_store::{SickStore, Sickness};
use crate::support::{fleet, headend, headend_with};

const LINK: &str = "derms.v1.AgentLink";
const SOON: Duration = Duration::from_secs(20);

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

async fn check(service: HeadendService, name: &str) -> Result<ServingStatus, Code> {
    let answer = HealthClient::new(service).check(of(name)).await;
    answer
        .map(|answer| answer.into_inner().status())
        .map_err(|status| status.code())
}

async fn watch(headend: &Headend) -> Result<Streaming<HealthCheckResponse>, Code> {
    let answer = HealthClient::new(headend.grpc_service())
        .watch(of(LINK))
        .await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| status.code())
}

async fn next(watching: &mut Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    let told = timeout(SOON, watching.message()).await;
    let told = told.expect("the watcher is told").unwrap();
    told.map(|answer| answer.status())
}

#[tokio::test]
async fn a_headend_that_takes_work_serves_as_a_whole_and_by_the_name_of_the_link() {
    let headend = headend().await;
    for name in ["", LINK] {
        assert_eq!(check(headend.service(), name).await, Ok(Serving));
        assert_eq!(check(headend.grpc_service(), name).await, Ok(Serving));
    }
    let unknown = check(headend.service(), "derms.v1.Nothing").await;
    assert_eq!(unknown, Err(Code::NotFound));
    let rest = check(headend.rest_service(), "").await;
    assert_eq!(rest, Err(Code::Unimplemented));
}

#[tokio::test]
async fn nobody_is_asked_who_he_is() {
    let builder = Headend::builder(fleet())
        .require_principal()
        .require_agent_identity();
    let headend = builder.build().await.unwrap();
    assert_eq!(check(headend.service(), LINK).await, Ok(Serving));
}

#[tokio::test]
async fn a_headend_without_its_store_or_that_drains_does_not_serve() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    store.set(Sickness::Unavailable);
    assert_eq!(check(headend.service(), LINK).await, Ok(NotServing));

    let (headend, _) = headend_with(SickStore::default()).await;
    headend.shutdown().await;
    assert_eq!(check(headend.service(), LINK).await, Ok(NotServing));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_of_changes_and_does_not_hold_up_the_end() {
    let store = SickStore::default();
    let (headend, _) = headend_with(store.clone()).await;
    let mut watching = watch(&headend).await.unwrap();
    assert_eq!(next(&mut watching).await, Some(Serving));
    store.set(Sickness::Unavailable);
    assert_eq!(next(&mut watching).await, Some(NotServing));
    store.set(Sickness::None);
    assert_eq!(next(&mut watching).await, Some(Serving));

    let begun = tokio::time::Instant::now();
    headend.shutdown().await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(next(&mut watching).await, Some(NotServing));
    assert_eq!(next(&mut watching).await, None, "the stream ends");
}

#[tokio::test]
async fn watchers_are_bounded_and_make_room_when_they_go() {
    let headend = headend().await;
    let service = headend.grpc_service();
    let mut watchers = Vec::new();
    for _ in 0..64 {
        let mut client = HealthClient::new(service.clone());
        let mut watching = client.watch(of("")).await.unwrap().into_inner();
        assert_eq!(next(&mut watching).await, Some(Serving));
        watchers.push(watching);
    }
    let refused = HealthClient::new(service.clone()).watch(of("")).await;
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    watchers.pop();
    let room = async {
        while HealthClient::new(service.clone())
            .watch(of(""))
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, room).await.expect("there is room again");
}
