//! Why a connection broke, for when who uses it tells only that it did.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connect::{Io, chain};

/// The first error of a connection, once there is one.
pub(super) type Fault = Arc<Mutex<Option<String>>>;

/// A connection that keeps its first error.
///
/// A refused certificate is told in TLS 1.3 after the handshake. If HTTP/2 has read it before the
/// first call, that call hears only that there is no connection any more.
pub(super) struct Overheard {
    io: Box<dyn Io>,
    fault: Fault,
}

impl Overheard {
    pub(super) fn new(io: Box<dyn Io>) -> (Self, Fault) {
        let fault = Fault::default();
        let this = Self {
            io,
            fault: Arc::clone(&fault),
        };
        (this, fault)
    }

    fn keep<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
            fault.get_or_insert_with(|| chain(error));
        }
        result
    }
}

impl AsyncRead for Overheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut *self.io).poll_read(cx, buffer);
        self.keep(result)
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}
