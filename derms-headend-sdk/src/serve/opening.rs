//! The first bytes of a connection, which say what is spoken on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::transport::Transport;

const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, Clone, Copy)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A stream that gives what was read to find out about it once more.
#[derive(Debug)]
pub(super) struct Opened {
    stream: Transport,
    bytes: [u8; HTTP2_PREFACE.len()],
    given: u8,
    filled: u8,
}

/// Reads until it is clear which version of HTTP is spoken. hyper-util does the same without a
/// time limit: a connection that stops within the preface would stay for ever.
pub(super) async fn open(mut stream: Transport) -> io::Result<(Version, Opened)> {
    let mut bytes = [0; HTTP2_PREFACE.len()];
    let mut filled = 0;
    let version = loop {
        let read = stream.read(&mut bytes[filled..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        if bytes[..filled] != HTTP2_PREFACE[..filled] {
            break Version::Http1;
        }
        if filled == bytes.len() {
            break Version::Http2;
        }
    };
    let opened = Opened {
        stream,
        bytes,
        given: 0,
        // At most the length of the preface.
        filled: filled as u8,
    };
    Ok((version, opened))
}

impl AsyncRead for Opened {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = &this.bytes[usize::from(this.given)..usize::from(this.filled)];
        if left.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let now = &left[..left.len().min(buffer.remaining())];
        buffer.put_slice(now);
        this.given += now.len() as u8;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opened {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn what_was_read_to_find_the_version_is_read_again() {
        for (sent, is_http2) in [
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes".as_slice(), true),
            (b"GET / HTTP/1.1\r\n\r\n".as_slice(), false),
            (b"PRI * HTTP/1.1\r\n\r\n".as_slice(), false),
        ] {
            let (mut client, server) = pair().await;
            client.write_all(sent).await.unwrap();
            drop(client);
            let (version, mut opened) = open(Transport::Plain(server)).await.unwrap();
            assert_eq!(matches!(version, Version::Http2), is_http2);
            let (mut first, mut rest) = ([0; 5], Vec::new());
            opened.read_exact(&mut first).await.unwrap();
            opened.read_to_end(&mut rest).await.unwrap();
            assert_eq!([&first[..], &rest].concat(), sent);
        }
    }
}
