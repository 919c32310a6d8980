//! Whether the addresses are free, or who has them.

use std::net::SocketAddr;
use std::time::Duration;

use derms_headend_sdk::proto::Check;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{LINK_ADDRESS, REST_ADDRESS};
use crate::args::one_port;
use crate::listen::{TAKEN, listen};

const PATIENCE: Duration = Duration::from_secs(2);
/// Far above the answer.
const LONGEST: u64 = 4 << 10;

/// `runs`: a headend is known to run with this configuration.
pub(super) async fn look(
    (http, grpc): (SocketAddr, SocketAddr),
    runs: bool,
    checks: &mut Vec<Check>,
) {
    let rest = free(http, "--http-addr", "HEADEND_HTTP_ADDR");
    let ours = rest.is_err() && (runs || is_headend(http).await);
    checks.push(told(REST_ADDRESS, http, rest, ours));
    if one_port(http, grpc) {
        checks.push(Check::ok(
            LINK_ADDRESS,
            "agents are served on the port of REST",
        ));
        return;
    }
    let link = free(grpc, "--grpc-addr", "HEADEND_GRPC_ADDR");
    // Only REST can be asked who it is.
    checks.push(told(LINK_ADDRESS, grpc, link, ours || runs));
}

fn free(address: SocketAddr, flag: &str, variable: &str) -> Result<String, String> {
    match listen(address, flag, variable) {
        Ok(_) if address.port() == 0 => {
            Ok(format!("the system chooses a port of {}", address.ip()))
        }
        Ok(_) => Ok(format!("{address} is free")),
        Err(failure) => Err(failure.line().to_owned()),
    }
}

fn told(
    name: &'static str,
    address: SocketAddr,
    looked: Result<String, String>,
    ours: bool,
) -> Check {
    match looked {
        Ok(text) => Check::ok(name, text),
        Err(text) if ours && text.contains(TAKEN) => Check::warn(
            name,
            format!("{address} is held by a headend that runs"),
            "stop it before another is started on this address",
        ),
        Err(text) => Check::fail(name, text, "free the address, or choose another"),
    }
}

/// Whether a headend answers there. One that serves over TLS alone is not known by this.
async fn is_headend(address: SocketAddr) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(PATIENCE, asked).await;
    let Ok(Ok(answer)) = answer else {
        return false;
    };
    let answer = String::from_utf8_lossy(&answer);
    answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"status":"ok"}"#)
}
