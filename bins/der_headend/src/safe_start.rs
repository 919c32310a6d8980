//! Whether a headend may be reached from other machines as it is configured.

use std::net::SocketAddr;

/// What is configured to keep strangers out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Guards {
    /// Nobody on the way can read or change what is sent.
    pub(crate) tls: bool,
    /// Agents prove who they are.
    pub(crate) link_auth: bool,
    /// Operators prove who they are.
    pub(crate) rest_auth: bool,
}

/// What is missing for these addresses, each with what to do; nothing on loopback.
pub(crate) fn missing(rest: SocketAddr, link: SocketAddr, guards: Guards) -> Vec<String> {
    let mut missing = Vec::new();
    let sides = [
        (
            "REST",
            "--http-addr",
            rest,
            guards.rest_auth,
            "operators are not asked who they are, and this version can't ask them",
        ),
        (
            "the agent link",
            "--grpc-addr",
            link,
            guards.link_auth,
            "agents are not asked who they are (give --client-ca, --agent-tokens or --trusted-proxy)",
        ),
    ];
    for (what, flag, address, auth, unasked) in sides {
        if address.ip().to_canonical().is_loopback() {
            continue;
        }
        let reached = format!("{what} can be reached from other machines ({flag} {address})");
        if !guards.tls {
            missing.push(format!(
                "{reached} and is not encrypted (give --tls-cert and --tls-key)"
            ));
        }
        if !auth {
            missing.push(format!("{reached} and {unasked}"));
        }
    }
    missing
}

/// Why it does not start, in one line.
pub(crate) fn refusal(missing: &[String]) -> String {
    format!(
        "refusing to start: {}; or listen on 127.0.0.1, or say --insecure (HEADEND_INSECURE) if \
         something else keeps strangers out",
        missing.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Guards = Guards {
        tls: true,
        link_auth: true,
        rest_auth: true,
    };

    fn counted(rest: &str, link: &str, guards: Guards) -> usize {
        missing(rest.parse().unwrap(), link.parse().unwrap(), guards).len()
    }

    #[test]
    fn loopback_needs_nothing() {
        let none = Guards::default();
        for address in [
            "127.0.0.1:1",
            "127.8.8.8:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(counted(address, address, none), 0, "{address}");
        }
    }

    #[test]
    fn every_other_address_needs_tls_and_authentication_of_its_side() {
        for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            let here = "127.0.0.1:1";
            let of = |guards| (counted(open, here, guards), counted(here, open, guards));
            assert_eq!(of(ALL), (0, 0), "{open}");
            assert_eq!(of(Guards { tls: false, ..ALL }), (1, 1), "{open}");
            let unasked = Guards {
                rest_auth: false,
                ..ALL
            };
            assert_eq!(of(unasked), (1, 0), "{open}");
            let unasked = Guards {
                link_auth: false,
                ..ALL
            };
            assert_eq!(of(unasked), (0, 1), "{open}");
            assert_eq!(counted(open, open, Guards::default()), 4, "{open}");
        }
    }

    #[test]
    fn a_refusal_names_the_address_each_reason_and_the_ways_out() {
        let open = "0.0.0.0:3001".parse().unwrap();
        let here = "127.0.0.1:1".parse().unwrap();
        let line = refusal(&missing(open, here, Guards::default()));
        for words in [
            "--http-addr 0.0.0.0:3001",
            "--tls-cert",
            "operators",
            "--insecure",
        ] {
            assert!(line.contains(words), "`{words}` is not in: {line}");
        }
        assert!(!line.contains('\n'));
    }
}
