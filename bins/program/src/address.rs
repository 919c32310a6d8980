//! Addresses, as the user writes them.

use std::net::SocketAddr;

use http::Uri;

/// Where to dial: `http://host:port`, `https://host:port` or `host:port`.
///
/// # Errors
/// What is wrong, with an example.
pub fn headend_uri(text: &str) -> Result<Uri, String> {
    let example = "write it like http://127.0.0.1:50051";
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let uri: Uri = full
        .parse()
        .map_err(|error| format!("{error}; {example}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("only http and https are spoken; {example}"));
    }
    if uri.port_u16().is_none() {
        return Err(format!("the port is missing; {example}"));
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err(format!("nothing may follow the port; {example}"));
    }
    Ok(uri)
}

/// Where to listen: an IP address and a port.
///
/// # Errors
/// What to write instead.
pub fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "write an IP address and a port, like 127.0.0.1:3001, or 0.0.0.0:3001 for all interfaces"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headend_may_be_written_with_and_without_its_scheme() {
        for (text, uri) in [
            ("http://127.0.0.1:50051", "http://127.0.0.1:50051/"),
            ("headend.example:50051", "http://headend.example:50051/"),
            ("localhost:1", "http://localhost:1/"),
            ("[::1]:50051", "http://[::1]:50051/"),
            (
                "https://headend.example:443/",
                "https://headend.example:443/",
            ),
        ] {
            assert_eq!(headend_uri(text).unwrap().to_string(), uri);
        }
    }

    #[test]
    fn a_headend_that_can_not_be_dialled_is_refused_with_an_example() {
        for text in [
            "",
            "localhost",
            "http://",
            "ftp://a:1",
            "a:1/path",
            "a:99999",
            "a b:1",
        ] {
            let error = headend_uri(text).unwrap_err();
            assert!(error.contains("http://127.0.0.1:50051"), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_to_listen_on_is_an_ip_address_and_a_port() {
        assert_eq!(socket_address("[::1]:0").unwrap().port(), 0);
        for text in ["", "localhost:3001", ":3001", "3001", "127.0.0.1"] {
            assert!(socket_address(text).unwrap_err().contains("127.0.0.1:3001"));
        }
    }
}
