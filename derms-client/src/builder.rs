//! How a client is set up.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Request, Response, Uri};
use tower_service::Service;

use crate::client::Settings;
use crate::token::{TokenFile, bearer};
use crate::transport::{Base, Transport};
use crate::{Body, BoxError, Client, Error};

/// Sets up a [`Client`]; made by [`Client::builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct ClientBuilder {
    base: Uri,
    service: Option<Transport>,
    ca: Option<PathBuf>,
    headers: HeaderMap,
    token_file: Option<PathBuf>,
    timeout: Duration,
    max_response_bytes: usize,
    retries: u32,
    fault: Option<Error>,
}

impl ClientBuilder {
    pub(crate) fn new(base: Uri) -> Self {
        let mut headers = HeaderMap::new();
        let agent = concat!("derms-client/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        Self {
            base,
            service: None,
            ca: None,
            headers,
            token_file: None,
            timeout: Duration::from_secs(30),
            max_response_bytes: 32 << 20,
            retries: 2,
            fault: None,
        }
    }

    /// Sends requests into this service. Default: HTTP/1.1 over TCP, for `https` over TLS (feature
    /// `tls`).
    ///
    /// For TLS, middleware, or a headend in the same process. The base may then be `https`, or a
    /// path alone (`/`). A cause that is an [`std::io::Error`] or a hyper-util client error tells
    /// a failed connection ([`Error::Connect`]) from a broken one ([`Error::Transport`]).
    pub fn service<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        self.service = Some(Transport::service(service));
        self
    }

    /// Trusts the CAs in this PEM file, and no other, when the base is `https`; it is read by
    /// [`build`](Self::build). Default: the CAs that browsers trust.
    #[cfg(feature = "tls")]
    pub fn ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Some(path.into());
        self
    }

    /// How long one try of a call may take, from its start to the last byte of the answer.
    /// Default 30 s.
    ///
    /// A repeat ([`retries`](Self::retries)) has this time anew; a dispatch that waits
    /// ([`DispatchOptions::wait`](crate::DispatchOptions::wait)) has that time on top.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends `Authorization: Bearer …` with every request. Default: none.
    ///
    /// Over plain http anyone on the way can read it.
    pub fn bearer_token(mut self, token: impl AsRef<str>) -> Self {
        match bearer(token.as_ref()) {
            Ok(value) => drop(self.headers.insert(AUTHORIZATION, value)),
            Err(error) => drop(self.fault.get_or_insert(error)),
        }
        self
    }

    /// Sends the bearer token that this file holds, and reads it again when the headend refuses it:
    /// a token that is replaced before it expires needs no restart. Takes the place of
    /// [`bearer_token`](Self::bearer_token). Default: none.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token_file = Some(path.into());
        self
    }

    /// Sends this header with every request, in place of an earlier one of that name.
    /// Default: `User-Agent: derms-client/<version>`.
    ///
    /// `Accept`, `Content-Type` and `Idempotency-Key` are the client's own.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Longest body of an answer that is read, in bytes; a longer one is
    /// [`Error::InvalidResponse`]. Default 32 MiB.
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// How often a request is sent again after a transient failure, at most; 0 = never.
    /// Default 2.
    ///
    /// Repeated are reads and orders (these under the same `Idempotency-Key`), after a failed
    /// or broken connection, a timeout, and the statuses 429, 502, 503 and 504. `healthz` and
    /// `readyz` are not: they tell how it is now. Between two tries lie a random delay of up to
    /// 100 ms, then 200 ms, 400 ms … 2 s, and what `Retry-After` asks for; if that is more than
    /// 10 s the error is returned at once.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`]: the base is no address of a headend, or is `https` without
    /// the feature `tls` or a [`service`](Self::service) that speaks TLS; the CA can't be read; the bearer
    /// token can't be sent, or its file can't be read.
    pub fn build(self) -> Result<Client, Error> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let (base, transport) = match self.service {
            Some(service) => (Base::of_service(&self.base)?, service),
            None => {
                let base = Base::of_tcp(&self.base)?;
                let transport = Transport::to(&base, self.ca.as_deref())?;
                (base, transport)
            }
        };
        Ok(Client::from_settings(Settings {
            base,
            transport,
            headers: self.headers,
            token: self.token_file.map(TokenFile::open).transpose()?,
            timeout: self.timeout,
            max_response_bytes: self.max_response_bytes,
            retries: self.retries,
        }))
    }
}

// By hand: the values of headers are often secrets, and `keys()` itself would print them.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("timeout", &self.timeout)
            .field("max_response_bytes", &self.max_response_bytes)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> ClientBuilder {
        ClientBuilder::new(Uri::from_static("http://127.0.0.1:3001"))
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let key = (
            HeaderName::from_static("x-api-key"),
            HeaderValue::from_static("hush"),
        );
        let builder = builder().bearer_token("hush").header(key.0, key.1);
        assert!(!format!("{builder:?}").contains("hush"));
        assert!(!format!("{:?}", builder.build().unwrap()).contains("hush"));
    }

    #[test]
    fn a_token_that_no_header_can_hold_is_refused_and_not_repeated() {
        for token in ["", "hush\n"] {
            let error = builder().bearer_token(token).build().unwrap_err();
            assert!(matches!(error, Error::InvalidRequest { .. }));
            assert!(!error.to_string().contains("hush"));
        }
    }
}
