//! In place of `tls` when that feature is off.

use std::path::Path;

use hyper_util::client::legacy::connect::HttpConnector;

use crate::Error;
use crate::transport::Transport;

pub(crate) fn transport(_: HttpConnector, _: Option<&Path>) -> Result<Transport, Error> {
    Err(Error::invalid_request(
        "an https address needs TLS: turn on the feature `tls` of derms-client, hand a service that \
         speaks TLS to `Client::with_service`, or use an http address",
    ))
}
