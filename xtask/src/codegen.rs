//! Generates the Rust code and the descriptor set of the agent link.

use std::path::{Path, PathBuf};

use prost::Message as _;

use crate::shell::Result;
use crate::workspace::Workspace;

const PROTO: &str = "derms/v1/agent_link.proto";
const INCLUDE: &str = "derms-proto/proto";
const OUT: &str = "derms-proto/src/generated";
const RELEASED: &str = "derms-proto/proto/released";
const CODE: &str = "derms.v1.rs";
const DESCRIPTORS: &str = "derms.v1.binpb";

/// Writes the generated files where the crate includes them.
pub(crate) fn write() -> Result<()> {
    generate(Path::new(OUT))
}

/// Fails if the checked-in files are not what the .proto gives.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let fresh = workspace.target().join("xtask/codegen");
    generate(&fresh)?;
    for name in [CODE, DESCRIPTORS] {
        let checked_in = Path::new(OUT).join(name);
        if std::fs::read(&checked_in).ok() != Some(std::fs::read(fresh.join(name))?) {
            return Err(format!(
                "{} is not what the .proto gives; run `cargo xtask codegen`",
                checked_in.display()
            )
            .into());
        }
    }
    Ok(())
}

/// Keeps the descriptor set as that of a release, with which every later one is compared.
pub(crate) fn release(version: &str, force: bool) -> Result<()> {
    let path = released(version)?;
    if path.exists() && !force {
        return Err(format!(
            "{} exists: what was released does not change; release a new version, or say --force \
             if it was never published",
            path.display()
        )
        .into());
    }
    std::fs::create_dir_all(RELEASED)?;
    std::fs::write(&path, protox::compile([PROTO], [INCLUDE])?.encode_to_vec())?;
    println!("wrote {}", path.display());
    Ok(())
}

fn generate(out: &Path) -> Result<()> {
    let descriptors = protox::compile([PROTO], [INCLUDE])?;
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join(DESCRIPTORS), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .out_dir(out)
        .build_transport(false)
        .emit_rerun_if_changed(false)
        // In key order, so that equal messages have equal bytes.
        .btree_map(".")
        .codec_path("crate::codec::LinkCodec")
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .compile_fds(descriptors)?;
    Ok(())
}

fn released(version: &str) -> Result<PathBuf> {
    let well_formed = version
        .split_once('.')
        .is_some_and(|(major, minor)| major.parse::<u32>().is_ok() && minor.parse::<u32>().is_ok());
    if well_formed {
        Ok(Path::new(RELEASED).join(format!("v{version}.binpb")))
    } else {
        Err(
            format!("{version:?} is no protocol version; write it as MAJOR.MINOR, such as 1.0")
                .into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_named_by_major_and_minor_and_by_nothing_else() {
        assert_eq!(
            released("1.0").unwrap(),
            Path::new("derms-proto/proto/released/v1.0.binpb")
        );
        for bad in ["", "1", "v1.0", "1.0.0", "../1.0"] {
            assert!(released(bad).is_err(), "{bad:?}");
        }
    }
}
