//! In place of `tls` when that feature is off: there is none of it, and so nothing to do.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use derms_proto::Timestamp;
use tokio::net::TcpStream;

use crate::certificate::PeerCertificate;
use crate::serve::Io;

#[derive(Debug, Clone)]
pub(crate) enum ServerTls {}

#[derive(Debug)]
pub(crate) enum HandshakeError {
    #[expect(dead_code, reason = "the words of the other side of the feature")]
    Certificate(&'static str),
    #[expect(dead_code, reason = "the words of the other side of the feature")]
    Other(io::Error),
}

impl ServerTls {
    pub(crate) fn asks_clients(&self) -> bool {
        match *self {}
    }

    pub(crate) fn reload_trust(&self) -> Result<bool, Infallible> {
        match *self {}
    }

    pub(crate) fn reload_own(&self) -> Result<bool, Infallible> {
        match *self {}
    }

    pub(crate) fn expires(&self) -> Option<Timestamp> {
        match *self {}
    }

    pub(crate) fn has_old_list(&self, _: Timestamp) -> bool {
        match *self {}
    }

    pub(crate) fn check(&self, _: &PeerCertificate, _: Timestamp) -> Result<(), &'static str> {
        match *self {}
    }

    pub(crate) async fn accept(
        &self,
        _: TcpStream,
    ) -> Result<(Box<dyn Io>, Option<Arc<PeerCertificate>>), HandshakeError> {
        match *self {}
    }
}
