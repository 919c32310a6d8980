//! Writes those golden messages that are not there yet; what is there does not change.
//!
//! Run with `cargo run -p derms-proto --features grpc --example write_golden`

#[path = "../tests/golden/messages.rs"]
mod messages;

use std::fs::File;
use std::io::{ErrorKind, Result, Write};
use std::path::Path;

fn main() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1.0");
    std::fs::create_dir_all(&folder)?;
    let agents = messages::of_agents()
        .into_iter()
        .map(|g| (g.name, g.bytes, format!("{:?}", g.message)));
    let headends = messages::of_headends()
        .into_iter()
        .map(|g| (g.name, g.bytes, format!("{:?}", g.message)));
    let probes = messages::of_probes()
        .into_iter()
        .map(|g| (g.name, g.bytes, format!("{:?}", g.message)));
    let answers = messages::of_probe_answers()
        .into_iter()
        .map(|g| (g.name, g.bytes, format!("{:?}", g.message)));
    for (name, bytes, meaning) in agents.chain(headends).chain(probes).chain(answers) {
        match File::create_new(folder.join(format!("{name}.bin"))) {
            Ok(mut file) => {
                file.write_all(&bytes)?;
                writeln!(std::io::stdout(), "wrote {name}: {meaning}")?;
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                writeln!(std::io::stdout(), "kept {name}")?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
