//! A link that can be cut or swallowed.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Bytes vanish, connections stay: what a router without power does.
    Swallow,
    /// Connections are reset and none is taken.
    Cut,
}

/// A TCP relay on a free port.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// Starts a relay to `target`; it ends when this is dropped.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let (mode, watched) = watch::channel(Mode::Pass);
        tokio::spawn(accept(listener, target, watched));
        Self { address, mode }
    }

    /// Where to dial.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on every byte vanishes, in both directions.
    pub fn swallow(&self) {
        self.mode.send_replace(Mode::Swallow);
    }

    /// Ends all connections and takes no new one.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Passes everything again.
    pub fn mend(&self) {
        self.mode.send_replace(Mode::Pass);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { return };
                if *mode.borrow() == Mode::Cut {
                    continue;
                }
                let mode = mode.clone();
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(target).await else { return };
                    relay(near, far, mode).await;
                });
            }
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}

async fn relay(near: TcpStream, far: TcpStream, mode: watch::Receiver<Mode>) {
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    // Either direction's end is the end of both.
    tokio::select! {
        () = copy(near_read, far_write, mode.clone()) => {}
        () = copy(far_read, near_write, mode) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        tokio::select! {
            changed = mode.changed() => {
                if changed.is_err() || *mode.borrow() == Mode::Cut {
                    return;
                }
            }
            read = from.read(&mut buffer) => {
                let Ok(count @ 1..) = read else { return };
                if *mode.borrow() == Mode::Pass && to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
