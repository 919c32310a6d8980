//! Peers that take a place and do nothing with it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, WINDOW_UPDATE, agents_call, connect, frame,
    get,
};
use crate::plant::Plant;

/// The headend gives a connection so long to say what it wants.
const OPENING: Duration = Duration::from_secs(10);

/// The time until the other side closes; it reads and never answers.
async fn closed(mut stream: TcpStream) -> Duration {
    let started = Instant::now();
    let mut rest = Vec::new();
    let end = timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
    // A reset is an end, too.
    let _ = end.expect("the connection is closed");
    started.elapsed()
}

async fn open(to: SocketAddr, count: usize, say: &'static [u8]) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    // By the hundred: more at once than the kernel's queue takes would wait for its retries.
    while streams.len() < count {
        let mut some = JoinSet::new();
        for _ in 0..100 {
            some.spawn(async move {
                let mut stream = TcpStream::connect(to).await?;
                stream.write_all(say).await?;
                std::io::Result::Ok(stream)
            });
        }
        for stream in some.join_all().await {
            streams.push(stream.unwrap());
        }
    }
    streams
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_that_say_nothing_harm_nobody_and_are_closed() {
    let plant = Plant::start().await;
    let started = Instant::now();
    let silent = plant
        .bears(Duration::from_secs(6), async {
            let mut silent = open(plant.agents(), 9_000, b"").await;
            silent.extend(open(plant.agents(), 1_000, &PREFACE[..20]).await);
            silent
        })
        .await;
    assert_eq!(silent.len(), 10_000);
    let mut all = JoinSet::new();
    for stream in silent {
        all.spawn(closed(stream));
    }
    all.join_all().await;
    assert!(started.elapsed() < 4 * OPENING, "{:?}", started.elapsed());
    plant.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_cost_little_and_harm_nobody() {
    let plant = Plant::start().await;
    // About 200 KiB each, on every stream that a connection may have.
    let mut asks = Vec::new();
    for stream in (1..17).step_by(2) {
        let fields = get("/docs/swagger-ui.css");
        asks.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields));
        asks.extend(frame(
            WINDOW_UPDATE,
            0,
            stream,
            &(1_u32 << 30).to_be_bytes(),
        ));
    }
    asks.extend(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
    let (to, asks) = (plant.operators(), &asks);
    let streams = plant
        .bears(Duration::from_secs(5), async {
            let mut streams = Vec::new();
            for _ in 0..50 {
                let mut stream = connect(to).await.unwrap();
                stream.write_all(asks).await.unwrap();
                streams.push(stream);
            }
            streams
        })
        .await;
    // It answers no ping, so it is cut.
    let mut all = JoinSet::new();
    for stream in streams {
        all.spawn(async move {
            sleep(Duration::from_secs(25)).await;
            closed(stream).await
        });
    }
    for took in all.join_all().await {
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    plant.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_on_which_nobody_registers_are_ended_and_harm_nobody() {
    let plant = Plant::start().await;
    let to = plant.agents();
    let streams = plant
        .bears(Duration::from_secs(12), async {
            let mut streams = Vec::new();
            for _ in 0..200 {
                let mut stream = connect(to).await.unwrap();
                for number in (1..17).step_by(2) {
                    let call = frame(HEADERS, END_HEADERS, number, &agents_call());
                    // The start of a message that never goes on.
                    let start = frame(DATA, 0, number, &[0, 0, 0, 1, 0, 9]);
                    stream.write_all(&[call, start].concat()).await.unwrap();
                }
                streams.push(stream);
            }
            streams
        })
        .await;
    let mut all = JoinSet::new();
    for stream in streams {
        all.spawn(closed(stream));
    }
    for took in all.join_all().await {
        assert!(took < Duration::from_secs(30), "{took:?}");
    }
    plant.ends_well().await;
}
