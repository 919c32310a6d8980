//! Certificates, keys and revocation lists as PEM, as the headend reads them at its start and again when
//! they change.
//!
//! An input is up to four files apart by a line `%%`: certificate, private key, client CA, revocation list.

use derms_headend_sdk::ServerTls;

use super::MIB;
use super::folder::Folder;
use crate::{Shape, Target, Verdict, files_in};

pub(super) const TARGET: Target = Target {
    name: "pem",
    about: "certificate, key, client CA and revocation list of the headend",
    run,
    seeds: || files_in("corpus/pem", ""),
    shape: Shape::Plain,
    tokens: &[
        b"\n%%\n",
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----END CERTIFICATE-----\n",
        b"-----BEGIN PRIVATE KEY-----\n",
        b"-----BEGIN EC PRIVATE KEY-----\n",
        b"-----BEGIN X509 CRL-----\n",
        b"-----END X509 CRL-----\n",
        b"-----",
        b"\r\n",
        // A length of DER beyond what is there.
        b"MIR/////",
        b"MIAA",
    ],
    longest: 64 << 10,
    memory: 64 * MIB,
};

/// A fault is told in a line, without any of the files' contents.
fn run(input: &[u8]) -> Verdict {
    let folder = Folder::new();
    let mut files = Vec::new();
    let mut rest = input;
    for name in ["certificate", "key", "ca", "crl"] {
        let mark = b"\n%%\n";
        let end = rest.windows(mark.len()).position(|window| window == mark);
        let (file, after) = rest.split_at(end.unwrap_or(rest.len()));
        files.push(folder.write(name, file));
        rest = after.get(mark.len()..).unwrap_or_default();
    }
    let tls = ServerTls::builder(&files[0], &files[1])
        .client_ca(&files[2])
        .crl(&files[3])
        .load();
    match tls {
        Ok(tls) => {
            assert!(tls.asks_clients());
            Verdict::Taken
        }
        Err(error) => {
            let mut next: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = next {
                let text = error.to_string();
                assert!(text.len() < 4_096, "a message of {} bytes", text.len());
                next = error.source();
            }
            Verdict::Refused
        }
    }
}
