//! The fleet file.

use std::io;

use derms_proto::Fleet;

use super::MIB;
use crate::{Shape, Target, Verdict, files_in};

pub(super) const TARGET: Target = Target {
    name: "fleet_file",
    about: "assets.yaml, as all programs read it",
    run,
    seeds,
    shape: Shape::Plain,
    tokens: &[
        b"assets:\n",
        b"sites:\n",
        b"  - ",
        b"{",
        b"[",
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!binary ",
        b"? ",
        b": ",
        b"|\n",
        b"\"\\u0000\"",
        b".inf",
        b".nan",
        b"1e999",
        b"0x7fffffffffffffff",
        b"failsafe: {policy: {value: 1}, after_s: 0}",
        b"---\n",
        b"%YAML 1.1\n",
        b"\xef\xbb\xbf",
    ],
    longest: 64 << 10,
    memory: 64 * MIB,
};

fn seeds() -> io::Result<Vec<Vec<u8>>> {
    let mut seeds = vec![include_bytes!("../../../assets.yaml").to_vec()];
    seeds.extend(files_in("corpus/fleet_file", "")?);
    Ok(seeds)
}

/// A fleet that is taken keeps the rules of its type; a fault has its place and fits a line.
fn run(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused;
    };
    match Fleet::from_yaml(text, "assets.yaml") {
        Ok(fleet) => {
            for asset in fleet.assets() {
                assert_eq!(asset.problem(), None, "{asset:?}");
                assert!(fleet.site(asset.site_id).is_some(), "{asset:?}");
            }
            Fleet::new(fleet.sites().to_vec(), fleet.assets().to_vec())
                .expect("what a file may say, a program may say");
            Verdict::Taken
        }
        Err(error) => {
            let lines = text.lines().count() as u64 + 1;
            assert!(
                error.line.is_none_or(|line| (1..=lines).contains(&line)),
                "{error}"
            );
            let shown = error.to_string();
            assert!(shown.len() < 4_096, "a message of {} bytes", shown.len());
            Verdict::Refused
        }
    }
}
