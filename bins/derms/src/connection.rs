//! Where the headend is, and what it is shown.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use derms_client::Client;
use http::Uri;

use crate::input::duration;
use crate::{Outcome, fault};

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Headend and output")]
pub(crate) struct ConnectionArgs {
    /// Where the headend serves REST, over TLS if it begins with https://; a path may follow
    #[arg(long, global = true, env = "DERMS_URL", value_name = "URL", default_value = "http://127.0.0.1:3001", value_parser = base)]
    headend_url: Uri,

    /// A file with the bearer token that the headend asks for. Default: none
    #[arg(long, global = true, env = "DERMS_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// The CAs that the headend's certificate may be of (PEM). Default: those that browsers trust
    #[arg(long, global = true, env = "DERMS_CA", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// How long one answer may take
    #[arg(long, global = true, env = "DERMS_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,

    /// Write JSON as the headend has it, for programs: one value, of `watch` one a line
    #[arg(long, global = true)]
    json: bool,
}

/// A headend, and how its words are shown.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) json: bool,
}

impl ConnectionArgs {
    pub(crate) fn open(&self) -> Outcome<Session> {
        let mut builder = Client::builder(self.headend_url.clone()).timeout(self.timeout);
        if let Some(file) = &self.token_file {
            builder = builder.token_file(file);
        }
        if let Some(file) = &self.ca {
            builder = builder.ca(file);
        }
        let client = builder.build().map_err(|error| fault::of(&error))?;
        Ok(Session {
            client,
            json: self.json,
        })
    }
}

/// The base of REST; `host:port` alone is http.
fn base(text: &str) -> Result<Uri, String> {
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let example = "write it like http://127.0.0.1:3001 or https://headend.example/derms";
    let uri: Uri = full
        .parse()
        .map_err(|error| format!("{error}; {example}"))?;
    if matches!(uri.scheme_str(), Some("http" | "https")) {
        Ok(uri)
    } else {
        Err(format!("only http and https are spoken; {example}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headend_may_lie_under_a_path_and_be_written_without_its_scheme() {
        for (text, uri) in [
            ("127.0.0.1:3001", "http://127.0.0.1:3001/"),
            ("https://h.example/derms", "https://h.example/derms"),
        ] {
            assert_eq!(base(text).unwrap().to_string(), uri);
        }
        for text in ["", "ftp://h", "a b"] {
            assert!(base(text).unwrap_err().contains("127.0.0.1:3001"), "{text}");
        }
    }
}
