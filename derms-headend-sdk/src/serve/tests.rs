use std::collections::VecDeque;
use std::sync::Mutex;

use derms_proto::Fleet;
use hyper::rt::Executor as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::*;
use crate::Headend;
use crate::audit::Audit;
use crate::config::Clock;

/// So short that a test need not wait; what a test is not about gets a minute.
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(60);
/// Between what must end after [`SHORT`] and what would go on for [`LONG`].
const SOON: Duration = Duration::from_secs(10);

const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn long() -> Settings {
    Settings {
        keep_alive_interval: LONG,
        keep_alive_timeout: LONG,
        handshake: LONG,
        opening: LONG,
        max_opening: 100,
        idle: LONG,
        head: LONG,
    }
}

async fn headend() -> Headend {
    let fleet = Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml").unwrap();
    Headend::builder(fleet).build().await.unwrap()
}

/// A connection to a headend that serves as long as the set lives.
async fn connect(settings: Settings) -> (TcpStream, JoinSet<()>) {
    serving(headend().await, settings).await
}

async fn serving(headend: Headend, settings: Settings) -> (TcpStream, JoinSet<()>) {
    let listener = Headend::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let listeners = vec![(listener, headend.service())];
        headend
            .serve_with(settings, listeners, std::future::pending())
            .await;
    });
    (TcpStream::connect(address).await.unwrap(), tasks)
}

/// Reads until the other side ends the connection.
async fn ended(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let end = timeout(SOON, stream.read_to_end(&mut read)).await;
    // A reset is an end too.
    let _ = end.expect("the connection is still open");
    read
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed() {
    let (mut client, _serving) = connect(Settings {
        opening: SHORT,
        ..long()
    })
    .await;
    assert!(ended(&mut client).await.is_empty());
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_client_that_does_not_get_through_the_tls_handshake_is_closed() {
    let tls = crate::tls::for_tests();
    let fleet = Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml").unwrap();
    let headend = Headend::builder(fleet).tls(tls).build().await.unwrap();
    let settings = Settings {
        handshake: SHORT,
        ..long()
    };
    // Nothing, the beginning of a handshake, and something else altogether.
    for said in [
        &b""[..],
        b"\x16\x03\x01\x02\x00",
        b"GET /healthz HTTP/1.1\r\n\r\n",
    ] {
        let (mut client, _serving) = serving(headend.clone(), settings.clone()).await;
        client.write_all(said).await.unwrap();
        let heard = ended(&mut client).await;
        assert!(!heard.starts_with(b"HTTP"), "{heard:?}");
    }
}

#[tokio::test]
async fn of_too_many_clients_that_say_nothing_the_oldest_is_closed_and_a_new_one_is_served() {
    let (mut oldest, _serving) = connect(Settings {
        max_opening: 2,
        head: SHORT,
        ..long()
    })
    .await;
    let address = oldest.peer_addr().unwrap();
    let _second = TcpStream::connect(address).await.unwrap();
    let mut new = TcpStream::connect(address).await.unwrap();
    assert!(ended(&mut oldest).await.is_empty());
    let get = b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n";
    new.write_all(get).await.unwrap();
    assert!(ended(&mut new).await.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_stops_within_the_preface_is_closed() {
    let (mut client, _serving) = connect(Settings {
        opening: SHORT,
        ..long()
    })
    .await;
    client.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    ended(&mut client).await;
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let (mut client, _serving) = connect(Settings {
        head: SHORT,
        ..long()
    })
    .await;
    client
        .write_all(b"GET /healthz HTTP/1.1\r\nx: ")
        .await
        .unwrap();
    let (mut read, mut write) = client.split();
    let drip = async {
        let mut beat = tokio::time::interval(SHORT / 10);
        // Ends with an error when the other side has closed.
        while write.write_all(b"x").await.is_ok() {
            beat.tick().await;
        }
    };
    let mut answer = Vec::new();
    let end = async {
        tokio::select! {
            () = drip => {}
            _ = read.read_to_end(&mut answer) => {}
        }
    };
    timeout(SOON, end)
        .await
        .expect("the connection is still open");
}

#[tokio::test]
async fn a_connection_that_waits_for_its_next_request_is_closed_in_time() {
    let (mut client, _serving) = connect(Settings {
        head: SHORT,
        ..long()
    })
    .await;
    client
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    let answer = String::from_utf8(ended(&mut client).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (mut client, _serving) = connect(long()).await;
    let head = format!("GET /healthz HTTP/1.1\r\nx: {}", "x".repeat(100 << 10));
    // The rest may not be taken any more.
    let _ = client.write_all(head.as_bytes()).await;
    ended(&mut client).await;
}

#[tokio::test]
async fn a_black_holed_client_is_cut() {
    let settings = Settings {
        keep_alive_interval: SHORT,
        keep_alive_timeout: SHORT,
        ..long()
    };
    let (mut client, _serving) = connect(settings).await;
    client.write_all(PREFACE_AND_SETTINGS).await.unwrap();
    let started = Instant::now();
    // It reads, but it never answers a ping.
    ended(&mut client).await;
    assert!(started.elapsed() >= SHORT, "it was given time to answer");
}

#[tokio::test]
async fn a_quiet_client_that_answers_pings_stays() {
    let settings = Settings {
        keep_alive_interval: SHORT / 4,
        keep_alive_timeout: SHORT,
        ..long()
    };
    let (mut client, _serving) = connect(settings).await;
    client.write_all(PREFACE_AND_SETTINGS).await.unwrap();
    let mut pings = 0;
    // Longer than one interval and one timeout together.
    while pings < 8 {
        pings += u32::from(frame(&mut client).await.expect("it stays open"));
    }
}

/// Reads a frame of HTTP/2; if it is a ping, answers and tells so.
async fn frame(client: &mut TcpStream) -> io::Result<bool> {
    let mut head = [0; 9];
    let read = timeout(SOON, client.read_exact(&mut head)).await;
    read.expect("nothing is said, and the connection is still open")?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    client.read_exact(&mut payload).await?;
    let is_ping = (head[3], head[4]) == (6, 0);
    if is_ping {
        head[4] = 1;
        client.write_all(&[&head[..], &payload].concat()).await?;
    }
    Ok(is_ping)
}

#[tokio::test]
async fn a_client_that_answers_pings_and_opens_no_stream_is_closed() {
    let settings = Settings {
        keep_alive_interval: SHORT / 4,
        idle: SHORT,
        ..long()
    };
    let (mut client, _serving) = connect(settings).await;
    client.write_all(PREFACE_AND_SETTINGS).await.unwrap();
    let all = async { while frame(&mut client).await.is_ok() {} };
    timeout(SOON, all)
        .await
        .expect("the connection is still open");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_idle_when_no_stream_is_open_and_none_was_for_a_while() {
    let streams = Arc::new(connection::Streams::default());
    let tracked = connection::Tracked {
        tasks: TaskTracker::new(),
        streams: Arc::clone(&streams),
    };
    let started = Instant::now();
    let idle = tracked.tasks.spawn(connection::idle_for(LONG, streams));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    tracked.execute(ended);
    sleep(LONG * 10).await;
    assert!(!idle.is_finished(), "a stream is open");
    end.send(()).unwrap();
    idle.await.unwrap();
    let idle_after = started.elapsed();
    assert!(
        idle_after > LONG * 10 && idle_after <= LONG * 12,
        "{idle_after:?}"
    );
}

#[tokio::test]
async fn a_connection_beyond_the_share_of_its_address_is_closed_at_once() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(acceptor().await.run(listener));
    // Connections are taken in their order; this one says nothing.
    let first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert!(ended(&mut second).await.is_empty());
    drop(first);
    // The place is free when the headend has seen the end.
    let request = b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n";
    let mut answer = [0; 12];
    let again = async {
        loop {
            let mut third = TcpStream::connect(address).await.unwrap();
            let _ = third.write_all(request).await;
            if third.read_exact(&mut answer).await.is_ok() {
                return;
            }
        }
    };
    timeout(SOON, again).await.expect("no place became free");
}

/// One that takes a single connection of each address.
async fn acceptor() -> Acceptor {
    Acceptor {
        service: headend().await.service(),
        settings: Arc::new(Settings {
            head: SHORT,
            ..long()
        }),
        security: Security {
            tls: None,
            refusals: Arc::new(Refusals::new(Arc::new(Audit::new(Clock::default())))),
            addresses: Arc::new(Addresses::new(1, None)),
        },
        tasks: TaskTracker::new(),
        drain: CancellationToken::new(),
        cut: CancellationToken::new(),
    }
}

/// A listener whose first calls fail.
struct Failing {
    errors: Mutex<VecDeque<io::Error>>,
    listener: TcpListener,
}

impl Listen for Failing {
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let error = self.errors.lock().unwrap().pop_front();
        match error {
            Some(error) => Err(error),
            None => Listen::accept(&self.listener).await,
        }
    }
}

#[tokio::test]
async fn accepting_goes_on_after_errors() {
    const EMFILE: i32 = 24;
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let aborted = io::Error::from(io::ErrorKind::ConnectionAborted);
    let errors = Mutex::new([aborted, io::Error::from_raw_os_error(EMFILE)].into());
    let acceptor = acceptor().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(acceptor.run(Failing { errors, listener }));
    let mut client = TcpStream::connect(address).await.unwrap();
    client
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n")
        .await
        .unwrap();
    assert!(ended(&mut client).await.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn binding_outside_a_runtime_is_an_error() {
    let error = Headend::bind("127.0.0.1:0".parse().unwrap()).unwrap_err();
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("reactor"),
        "{error:?}"
    );
}
