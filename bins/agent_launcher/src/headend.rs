//! Starts a headend and waits until it listens.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use derms_program::{BAD_CONFIGURATION, Failure};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::access::Access;
use crate::config::Config;
use crate::pki::Pki;
use crate::siblings::Siblings;

/// How long it may take; a database may have to be opened, and another headend that has it waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// The line that a headend prints when it listens.
#[derive(Debug, PartialEq, Deserialize)]
struct Addresses {
    http_addr: String,
    grpc_addr: String,
}

/// A headend that listens.
#[derive(Debug)]
pub(crate) struct Headend {
    pub(crate) child: Child,
    /// Where REST is.
    pub(crate) rest: String,
    /// Where agents go.
    pub(crate) grpc: String,
}

pub(crate) async fn start(
    config: &Config,
    siblings: &Siblings,
    http_addr: Option<SocketAddr>,
    grpc_addr: Option<SocketAddr>,
    data_dir: Option<&Path>,
    keys: Option<(&Pki, &Access)>,
) -> Result<Headend, Failure> {
    let mut command = Command::new(siblings.path("der_headend"));
    command.arg("--assets").arg(&config.assets);
    for (flag, value) in [("--http-addr", http_addr), ("--grpc-addr", grpc_addr)] {
        if let Some(value) = value {
            command.args([flag, &value.to_string()]);
        }
    }
    if let Some(folder) = data_dir {
        command.arg("--data-dir").arg(folder);
    }
    if let Some((pki, access)) = keys {
        command.args(pki.of_headend()).args(access.of_headend());
    }
    command.args([
        "--log-format",
        config.log_format.as_str(),
        "--exit-with-parent",
    ]);
    let mut child = crate::children::spawn(command.stdout(Stdio::piped()))
        .map_err(|error| Failure::start(format!("can't start der_headend: {error}")))?;

    let line = match timeout(LIMIT, first_line(&mut child)).await {
        Ok(Some(line)) => line,
        Ok(None) => return Err(ended(&mut child).await),
        Err(_) => {
            return Err(Failure::start(format!(
                "der_headend does not listen after {} s; its log says what it waits for",
                LIMIT.as_secs()
            )));
        }
    };
    let addresses: Addresses = serde_json::from_str(&line).map_err(|error| {
        Failure::start(format!(
            "der_headend said {line:?} instead of its addresses: {error}"
        ))
    })?;
    let scheme = if keys.is_some() { "https" } else { "http" };
    Ok(Headend {
        child,
        rest: url(scheme, &addresses.http_addr),
        grpc: url(scheme, &addresses.grpc_addr),
    })
}

async fn first_line(child: &mut Child) -> Option<String> {
    let stdout = child.stdout.take()?;
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    let read = reader.read_line(&mut line).await;
    // Nothing more is expected, but a closed pipe would make the headend's next write an error.
    child.stdout = Some(reader.into_inner());
    matches!(read, Ok(1..)).then_some(line)
}

/// Why it ended before it listened; it has said so itself, in its last line.
async fn ended(child: &mut Child) -> Failure {
    let Ok(status) = child.wait().await else {
        return Failure::start("der_headend closed its output before it listened");
    };
    let line = format!("der_headend ended before it listened ({status}); its last line says why");
    match status.code() {
        Some(code) if code == i32::from(BAD_CONFIGURATION) => Failure::configuration(line),
        _ => Failure::start(line),
    }
}

/// An address that takes connections from everywhere can't be dialled as it is.
fn url(scheme: &str, address: &str) -> String {
    let address = match address.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => address.to_owned(),
    };
    format!("{scheme}://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_everybody_is_dialled_on_this_machine() {
        assert_eq!(url("http", "127.0.0.1:3001"), "http://127.0.0.1:3001");
        assert_eq!(url("http", "0.0.0.0:3001"), "http://127.0.0.1:3001");
        assert_eq!(url("https", "[::]:3001"), "https://[::1]:3001");
    }

    #[test]
    fn the_line_of_the_headend_may_grow() {
        let line = r#"{"http_addr":"127.0.0.1:1","grpc_addr":"127.0.0.1:2","new":3}"#;
        let addresses: Addresses = serde_json::from_str(line).unwrap();
        assert_eq!(addresses.http_addr, "127.0.0.1:1");
        assert_eq!(addresses.grpc_addr, "127.0.0.1:2");
    }
}
