//! Proxies that end TLS and say in a header which agent they have seen.

use std::net::IpAddr;

use derms_proto::AgentId;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::identity::AgentIdentity;

/// Proxies whose word on who is calling counts, and the header in which they say it.
///
/// The header is the agent's URI name (`urn:derms:agent:<uuid>`), or Envoy's
/// `x-forwarded-client-cert` with one element that has one `URI`. Two headers, or several elements,
/// are refused: the proxy must replace what its client sent (Envoy: `SANITIZE_SET`). Without the
/// header an agent behind the proxy needs a token. From any other address the header says nothing.
#[derive(Debug, Clone)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: HeaderName,
}

/// A text that is no address of a proxy, or that is every address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` names no proxy; write an address like 10.0.0.5 or a network like 10.0.0.0/24, not all that there are"
)]
pub struct InvalidProxy {
    /// The text.
    pub text: String,
}

impl TrustedProxies {
    /// Proxies at these addresses (`10.0.0.5`, `fd00::5`) or in these networks (`10.0.0.0/24`),
    /// which say who is calling in `header`. IPv4 may be written as IPv6 (`::ffff:10.0.0.0/120`).
    ///
    /// # Errors
    /// One of them is no address, or a network of all addresses (`0.0.0.0/0`, `::/0`).
    pub fn new<'a>(
        addresses: impl IntoIterator<Item = &'a str>,
        header: HeaderName,
    ) -> Result<Self, InvalidProxy> {
        let network = |text: &str| {
            let address = text.parse::<IpAddr>().map(IpNet::from);
            address
                .ok()
                .or_else(|| text.parse().ok())
                .map(canonical)
                .filter(|network| network.prefix_len() > 0)
                .ok_or_else(|| InvalidProxy {
                    text: text.to_owned(),
                })
        };
        Ok(Self {
            networks: addresses
                .into_iter()
                .map(network)
                .collect::<Result<_, _>>()?,
            header,
        })
    }

    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        // An IPv4 peer of an IPv6 listener.
        let peer = peer.to_canonical();
        self.networks.iter().any(|network| network.contains(&peer))
    }

    /// Whom the header names, if it is there.
    pub(super) fn agent(&self, headers: &HeaderMap) -> Result<Option<AgentId>, &'static str> {
        let mut values = headers.get_all(&self.header).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(
                "the proxy's header is there twice; let the proxy replace what its client sent",
            );
        }
        let text = value
            .to_str()
            .map_err(|_| "the proxy's header is no text")?;
        let urn = if text.contains('=') {
            forwarded_uri(text)?
        } else {
            text.trim()
        };
        AgentIdentity::from_urn(urn)
            .map(|identity| Some(identity.agent()))
            .ok_or("the proxy's header names no agent; it must be urn:derms:agent:<uuid>")
    }
}

/// As [`IpAddr::to_canonical`] makes the peers that are looked up.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let v4 = v6.addr().to_ipv4_mapped();
    let prefix = v6.prefix_len().checked_sub(96);
    v4.zip(prefix)
        .and_then(|(v4, prefix)| IpNet::new(v4.into(), prefix).ok())
        .unwrap_or(network)
}

/// The URI in the one element of `x-forwarded-client-cert`.
fn forwarded_uri(text: &str) -> Result<&str, &'static str> {
    let mut uri = None;
    let mut quoted = false;
    let mut escaped = false;
    let pairs = text.split(|c| {
        let bare = !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        bare && matches!(c, ';' | ',')
    });
    let mut length = 0;
    for pair in pairs {
        let end = length + pair.len();
        if text.as_bytes().get(end) == Some(&b',') {
            return Err(
                "the proxy's header has several elements; let the proxy replace what its client sent",
            );
        }
        length = end + 1;
        if let Some((key, value)) = pair.split_once('=')
            && key.trim().eq_ignore_ascii_case("uri")
            && uri.replace(value.trim().trim_matches('"')).is_some()
        {
            return Err(
                "the proxy's header has several URIs; give each agent a certificate with one",
            );
        }
    }
    uri.ok_or("the proxy's header has no URI")
}

#[cfg(test)]
mod tests {
    use super::*;

    const URN: &str = "urn:derms:agent:7ba7b810-9dad-11d1-80b4-00c04fd430c8";

    fn proxies() -> TrustedProxies {
        let header = HeaderName::from_static("x-forwarded-client-cert");
        TrustedProxies::new(["10.0.0.0/24", "192.0.2.7", "fd00::/8"], header).unwrap()
    }

    fn named(values: &[&str]) -> Result<String, &'static str> {
        let proxies = proxies();
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&proxies.header, value.parse().unwrap());
        }
        let agent = proxies.agent(&headers)?;
        Ok(agent.map_or("nobody".to_owned(), |agent| agent.to_string()))
    }

    #[test]
    fn an_address_is_trusted_if_it_is_listed_or_in_a_listed_network() {
        let trusts = |peer: &str| proxies().trusts(peer.parse().unwrap());
        for peer in ["10.0.0.200", "192.0.2.7", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(trusts(peer), "{peer}");
        }
        for peer in ["10.0.1.1", "192.0.2.8", "127.0.0.1", "::1"] {
            assert!(!trusts(peer), "{peer}");
        }
        let header = HeaderName::from_static("x");
        let mapped = ["::ffff:10.0.0.0/120", "::ffff:192.0.2.7"];
        let mapped = TrustedProxies::new(mapped, header.clone()).unwrap();
        for (peer, trusted) in [
            ("10.0.0.200", true),
            ("::ffff:10.0.0.200", true),
            ("192.0.2.7", true),
            ("10.0.1.1", false),
        ] {
            assert_eq!(mapped.trusts(peer.parse().unwrap()), trusted, "{peer}");
        }
        let all = ["0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96"];
        let wrong = ["", "proxy", "10.0.0.0/33", "10.0.0.1:80"];
        for text in wrong.into_iter().chain(all) {
            assert!(
                TrustedProxies::new([text], header.clone()).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn the_header_is_the_urn_or_one_element_of_envoy() {
        let id = &URN["urn:derms:agent:".len()..];
        for text in [
            URN.to_owned(),
            format!(" {URN} "),
            format!("By=urn:x;Hash=00ff;URI={URN}"),
            format!("Hash=00;Subject=\"CN=a;O=\\\"b, c\\\";URI=urn:x\";URI={URN};DNS=h"),
            format!("uri=\"{URN}\""),
        ] {
            assert_eq!(named(&[&text]).as_deref(), Ok(id), "{text}");
        }
    }

    #[test]
    fn what_a_client_could_have_added_is_refused() {
        let twice = format!("URI={URN},URI={URN}");
        let both = format!("URI={URN};URI=urn:x");
        assert_eq!(named(&[]).as_deref(), Ok("nobody"));
        for values in [
            &[""][..],
            &[URN, URN],
            &[twice.as_str()],
            &[both.as_str()],
            &["Hash=00"],
            &["URI=spiffe://agent"],
            &["7ba7b810-9dad-11d1-80b4-00c04fd430c8"],
        ] {
            assert!(named(values).is_err(), "{values:?}");
        }
    }
}
