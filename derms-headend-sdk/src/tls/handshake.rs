//! The handshake of one connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{ServerTls, peer};
use crate::certificate::PeerCertificate;
use crate::serve::Io;

/// For so long what a refused client still sends is read.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 << 10;

/// Why a handshake has failed.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The client's certificate is not good.
    Certificate(&'static str),
    /// Anything else: no TLS, another version, a connection that broke.
    Other(io::Error),
}

impl ServerTls {
    /// Speaks TLS on a connection, and tells what certificate the client has shown.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(Box<dyn Io>, Option<Arc<PeerCertificate>>), HandshakeError> {
        let accepting = TlsAcceptor::from(self.config()).accept(stream);
        let stream = match accepting.into_fallible().await {
            Ok(stream) => stream,
            Err((error, stream)) => {
                let error = failed(error);
                if matches!(error, HandshakeError::Certificate(_)) {
                    linger(stream).await;
                }
                return Err(error);
            }
        };
        let chain = stream.get_ref().1.peer_certificates();
        let certificate = chain.and_then(peer::read).map(Arc::new);
        Ok((Box::new(stream), certificate))
    }
}

/// In TLS 1.3 a client has sent more before its certificate is judged. Closed with that unread, the
/// connection is reset, and the client may never read why it is refused.
async fn linger(mut stream: TcpStream) {
    let rest = async {
        stream.shutdown().await?;
        let mut rest = stream.take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Whether it was read to its end is of no interest.
    let _ = timeout(LINGER, rest).await;
}

fn failed(error: io::Error) -> HandshakeError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(cause @ Error::InvalidCertificate(_)) => {
            HandshakeError::Certificate(peer::explain(cause))
        }
        _ => HandshakeError::Other(error),
    }
}
