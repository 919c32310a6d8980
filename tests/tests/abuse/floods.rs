//! Frames that are cheap to send and dear to receive.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, agents_call, connect, frame, goodbye,
};
use crate::plant::Plant;

const TIME: Duration = Duration::from_secs(5);
const ABUSERS: usize = 4;

/// What an abuser got done.
#[derive(Debug, Default)]
struct Spent {
    bytes: u64,
    connections: u64,
}

/// Sends `hello` and then `flood` again and again, on as many connections as it takes.
async fn flood(to: SocketAddr, reads: bool, hello: Vec<u8>, flood: Vec<u8>) -> Spent {
    let end = Instant::now() + TIME;
    let mut abusers = JoinSet::new();
    for _ in 0..ABUSERS {
        let (hello, flood) = (hello.clone(), flood.clone());
        abusers.spawn(async move {
            let mut spent = Spent::default();
            while Instant::now() < end {
                let stream = connect(to).await.unwrap();
                spent.connections += 1;
                let _ = timeout_at(end, one(stream, reads, &hello, &flood, &mut spent)).await;
            }
            spent
        });
    }
    let mut all = Spent::default();
    for spent in abusers.join_all().await {
        all.bytes += spent.bytes;
        all.connections += spent.connections;
    }
    all
}

/// One connection, to its end.
async fn one(mut stream: TcpStream, reads: bool, hello: &[u8], flood: &[u8], spent: &mut Spent) {
    let (mut read, mut write) = stream.split();
    let reading = async {
        let mut buffer = [0; 16 << 10];
        while reads && read.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        if !reads {
            std::future::pending::<()>().await;
        }
    };
    let writing = async {
        if write.write_all(hello).await.is_err() {
            return;
        }
        spent.bytes += hello.len() as u64;
        if flood.is_empty() {
            std::future::pending::<()>().await;
        }
        while write.write_all(flood).await.is_ok() {
            spent.bytes += flood.len() as u64;
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_that_nobody_reads_the_answers_of_harm_nobody_else() {
    let plant = Plant::start().await;
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(500);
    let spent = plant
        .bears(TIME, flood(plant.agents(), false, Vec::new(), pings))
        .await;
    assert!(spent.bytes > 100 << 10, "{spent:?}");
    plant.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_without_end_harm_nobody_else() {
    let plant = Plant::start().await;
    // A window that goes up and down: each costs a walk over the streams.
    let window = |size: u32| [&[0, 4][..], &size.to_be_bytes()].concat();
    let both = [
        frame(SETTINGS, 0, 0, &window(1)),
        frame(SETTINGS, 0, 0, &window(1 << 20)),
    ];
    let settings = both.concat().repeat(250);
    for reads in [true, false] {
        let abuse = flood(plant.agents(), reads, Vec::new(), settings.clone());
        let spent = plant.bears(TIME, abuse).await;
        assert!(spent.bytes > 20 << 10, "{spent:?}");
    }
    plant.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_of_nothing_and_windows_that_grow_harm_nobody_else() {
    let plant = Plant::start().await;
    let call = frame(HEADERS, END_HEADERS, 1, &agents_call());
    let nonsense = [
        frame(PING, ACK, 0, &[1; 8]),
        frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()),
        frame(0xfa, 0, 1, b"no such frame"),
    ];
    let abuse = flood(plant.agents(), true, call, nonsense.concat().repeat(100));
    let spent = plant.bears(TIME, abuse).await;
    assert!(spent.bytes > 100 << 10, "{spent:?}");
    plant.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_and_tiny_frames_on_a_stream_harm_nobody_else() {
    let plant = Plant::start().await;
    let call = frame(HEADERS, END_HEADERS, 1, &agents_call());
    // RUSTSEC-2026-0258: frames that no window counts, more than anyone reads.
    let empty = frame(DATA, 0, 1, &[]).repeat(1_000);
    let spent = plant
        .bears(TIME, flood(plant.agents(), true, call.clone(), empty))
        .await;
    assert!(spent.bytes > 100 << 10, "{spent:?}");
    // A message that is announced and comes byte by byte.
    let start = [call, frame(DATA, 0, 1, &[0, 0, 3, 0, 0])].concat();
    let tiny = frame(DATA, 0, 1, &[0]).repeat(1_000);
    let spent = plant
        .bears(TIME, flood(plant.agents(), true, start, tiny))
        .await;
    assert!(spent.bytes > 100 << 10, "{spent:?}");
    plant.ends_well().await;
}

/// CVE-2023-44487.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_as_soon_as_they_are_open_end_the_connection_and_harm_nobody_else() {
    let plant = Plant::start().await;
    let mut resets = Vec::new();
    for stream in (1..2_001).step_by(2) {
        resets.extend(frame(HEADERS, END_HEADERS, stream, &agents_call()));
        resets.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let spent = plant
        .bears(
            TIME,
            flood(plant.agents(), true, resets.clone(), Vec::new()),
        )
        .await;
    assert!(
        spent.connections > ABUSERS as u64,
        "each was ended: {spent:?}"
    );
    let mut stream = connect(plant.agents()).await.unwrap();
    let _ = stream.write_all(&resets).await;
    assert!(goodbye(&mut stream).await);
    plant.ends_well().await;
}

/// CVE-2024-27316 and its like.
#[tokio::test(flavor = "multi_thread")]
async fn headers_that_go_on_without_end_end_the_connection_and_harm_nobody_else() {
    let plant = Plant::start().await;
    let start = frame(HEADERS, END_STREAM, 1, &agents_call());
    // A field that is never indexed, a little different in no way: nothing ends the block.
    let field = [b"\x10\x01x\x7f\x81\x01".as_slice(), &[b'x'; 256]].concat();
    let more = frame(CONTINUATION, 0, 1, &field.repeat(60));
    let abuse = flood(plant.agents(), true, start.clone(), more.clone());
    let spent = plant.bears(TIME, abuse).await;
    assert!(
        spent.connections > ABUSERS as u64,
        "each was ended: {spent:?}"
    );
    let mut stream = connect(plant.agents()).await.unwrap();
    let _ = stream.write_all(&[start, more.repeat(20)].concat()).await;
    assert!(goodbye(&mut stream).await);
    // Empty ones add nothing to the block, and come without end all the same.
    let start = frame(HEADERS, END_STREAM, 1, &agents_call());
    let empty = frame(CONTINUATION, 0, 1, &[]).repeat(1_000);
    let spent = plant
        .bears(TIME, flood(plant.agents(), true, start, empty))
        .await;
    assert!(
        spent.connections > ABUSERS as u64,
        "each was ended: {spent:?}"
    );
    plant.ends_well().await;
}
