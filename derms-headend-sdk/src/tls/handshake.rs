//! The handshake of one connection.

use std::io;
use std::sync::Arc;

use rustls::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{ServerTls, peer};
use crate::certificate::PeerCertificate;
use crate::serve::Io;

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
        let stream = TlsAcceptor::from(self.config())
            .accept(stream)
            .await
            .map_err(failed)?;
        let chain = stream.get_ref().1.peer_certificates();
        let certificate = chain.and_then(peer::read).map(Arc::new);
        Ok((Box::new(stream), certificate))
    }
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
