//! A headend as a process.

use std::net::{SocketAddr, TcpListener};

use derms_client::Client;

use crate::folder::Folder;
use crate::process::{Process, Program};

/// The port is the system's choice.
pub const FREE: &str = "127.0.0.1:0";

/// A `der_headend` that listens, with the sample fleet and, unless told otherwise, a data folder of
/// its own.
#[derive(Debug)]
pub struct HeadendProcess {
    /// The process.
    pub process: Process,
    /// A client of it.
    pub client: Client,
    /// Where REST is, `host:port`.
    pub http: String,
    /// Where agents go, `host:port`.
    pub grpc: String,
    /// Its data folder, if it is one of its own; removed with this.
    pub data: Option<Folder>,
}

impl HeadendProcess {
    /// Starts one on free ports.
    ///
    /// # Panics
    /// It does not listen within a minute.
    pub async fn start() -> Self {
        let folder = Folder::new();
        let data = folder.path().display().to_string();
        let args = [
            "--http-addr",
            FREE,
            "--grpc-addr",
            FREE,
            "--data-dir",
            &data,
        ];
        let mut this = Self::of(Program::new("der_headend").args(args)).await;
        this.data = Some(folder);
        this
    }

    /// Starts one on these addresses, with its memory where `database` says.
    ///
    /// # Panics
    /// It does not listen within a minute.
    pub async fn at(http: &str, grpc: &str, database: &str) -> Self {
        let args = [
            "--http-addr",
            http,
            "--grpc-addr",
            grpc,
            "--database-url",
            database,
        ];
        Self::of(Program::new("der_headend").args(args)).await
    }

    /// Starts this one.
    ///
    /// # Panics
    /// It does not listen within a minute.
    pub async fn of(program: Program) -> Self {
        let mut process = program.start();
        let (http, grpc) = process.line("where it listens", addresses).await;
        let base = format!("http://{http}")
            .parse()
            .expect("an address is a base");
        Self {
            process,
            client: Client::new(base).expect("a client"),
            http,
            grpc,
            data: None,
        }
    }
}

/// From the one line on stdout.
fn addresses(line: &str) -> Option<(String, String)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| line.get(name)?.as_str().map(str::to_owned);
    Some((address("http_addr")?, address("grpc_addr")?))
}

/// An address that is free now and that no outgoing connection takes, for a program that is
/// started there a second time.
///
/// # Panics
/// There is none.
#[must_use]
pub fn lasting_address() -> SocketAddr {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the range that the system takes for outgoing connections (32768 and up).
    let of_this_process = u16::try_from(std::process::id() % 600).expect("below 600") * 20;
    for _ in 0..12_000 {
        let port = 20_000 + (of_this_process + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port from 20000 to 32000 is free");
}
