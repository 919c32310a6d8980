//! The headend of the SDK, as any program would run it.

use std::process::ExitCode;
use std::time::Duration;

use derms_headend_sdk::proto::{Page, Telemetry, Timestamp};
use derms_headend_sdk::store::{MemoryStore, PostgresOptions, SqliteOptions};
use derms_headend_sdk::{Headend, HeadendBuilder, HeadendService};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use tower_service::Service as _;

use super::{ANY, answer, runtime};
use crate::fleet;
use crate::words::{self, AskAges, Listening, Result, Spread, Times};

/// Full after some seconds of load: what is measured is the steady state, in which each
/// measurement pushes out an older one.
const SAMPLES_PER_ASSET: usize = 32;

pub(crate) fn run(agents: u32, store: Option<&str>) -> Result {
    runtime()?.block_on(async {
        let builder = Headend::builder(fleet::fleet(agents)?);
        let headend = with_store(builder, store).await?.build().await?;
        let (grpc, rest) = (Headend::bind(ANY)?, Headend::bind(ANY)?);
        words::tell(&Listening {
            agents: grpc.local_addr()?,
            orders: rest.local_addr()?,
        })?;
        let service = headend.rest_service();
        let serving = headend.clone();
        let listeners = vec![
            (grpc, headend.grpc_service()),
            (rest, headend.rest_service()),
        ];
        tokio::spawn(async move { serving.serve(listeners, std::future::pending()).await });
        answer(async |ask| ages(service.clone(), ask).await).await?;
        // Nobody is told goodbye: the director is gone.
        Ok(ExitCode::SUCCESS)
    })
}

async fn with_store(builder: HeadendBuilder, store: Option<&str>) -> Result<HeadendBuilder> {
    Ok(match store {
        None => builder.store(MemoryStore::new().samples_per_asset(SAMPLES_PER_ASSET)),
        Some(url) => match url.strip_prefix("sqlite:") {
            Some(path) => builder.store(SqliteOptions::new(path).open().await?),
            None => builder.store(PostgresOptions::new(url)?.connect().await?),
        },
    })
}

/// From the history that the headend serves anyway, so that measuring costs it nothing.
async fn ages(mut service: HeadendService, ask: AskAges) -> Result<Spread> {
    let mut times = Times::new()?;
    let from = Timestamp::from_unix_micros(ask.since_us);
    for number in 0..ask.agents {
        let path = format!(
            "/telemetry/{}/history?from={from}&limit=1000",
            fleet::asset_id(number)
        );
        let request = Request::get(path).body(Empty::<bytes::Bytes>::new())?;
        let body = service
            .call(request)
            .await?
            .into_body()
            .collect()
            .await?
            .to_bytes();
        let page: Page<Telemetry> = serde_json::from_slice(&body)?;
        for item in page.items {
            let micros = item.received_at.unix_micros() - item.measured_at.unix_micros();
            times.add(Duration::from_micros(micros.max(0).unsigned_abs()));
        }
    }
    Ok(times.spread())
}
