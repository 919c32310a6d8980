//! Listening, or one line that says why not and what to do.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use derms_headend_sdk::{Headend, ServeError};
use derms_program::{Failure, chain};
use tokio::net::TcpListener;

/// What is said of an address that is not free.
pub(crate) const TAKEN: &str = "another program listens there";

/// Listens where `flag` (or `variable`) says; gives the address with its port.
pub(crate) fn listen(
    address: SocketAddr,
    flag: &str,
    variable: &str,
) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = Headend::bind(address).map_err(|error| {
        Failure::start(failed(address, &format!("{flag} ({variable})"), &error))
    })?;
    let bound = listener
        .local_addr()
        .map_err(|error| Failure::start(format!("can't listen on {address}: {error}")))?;
    Ok((listener, bound))
}

fn failed(address: SocketAddr, setting: &str, error: &ServeError) -> String {
    let cause = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    let why = match cause {
        Some(ErrorKind::AddrInUse) => {
            format!("{TAKEN}; stop it, or choose another port with {setting}")
        }
        Some(ErrorKind::AddrNotAvailable) => {
            format!("this machine has no such address; choose one that it has with {setting}")
        }
        Some(ErrorKind::PermissionDenied) => {
            format!("not allowed; choose a port above 1023 with {setting}")
        }
        _ => return format!("{setting}: {}", chain(error)),
    };
    format!("can't listen on {address}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_or_an_address_that_is_not_ours_is_named_with_what_to_do() {
        let (_first, taken) = listen("127.0.0.1:0".parse().unwrap(), "--a", "A").unwrap();
        let failure = listen(taken, "--http-addr", "HEADEND_HTTP_ADDR").unwrap_err();
        assert_eq!(failure.code(), 1);
        let line = failure.line();
        assert!(line.contains(&taken.to_string()), "{line}");
        assert!(
            line.contains("another port with --http-addr (HEADEND_HTTP_ADDR)"),
            "{line}"
        );

        // An address for documentation (RFC 5737): no machine has it.
        let failure = listen("192.0.2.1:0".parse().unwrap(), "--a", "A").unwrap_err();
        assert!(
            failure.line().contains("no such address"),
            "{}",
            failure.line()
        );
    }
}
