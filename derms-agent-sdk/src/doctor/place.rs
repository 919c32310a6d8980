//! The state directory: whether it can be used, and whether somebody does.

use std::path::Path;

use derms_proto::{AgentId, Check};

use super::{DISK_SPACE, STATE_DIRECTORY, STATE_LOCK, chain};
use crate::AgentBuilder;
use crate::builder::ON_DISK;
use crate::disk::{self, OpenError, Use};

/// With less than this the ledger of orders can't be kept for sure.
const LEAST: u64 = 4 << 20;
const MB: f64 = 1e6;

/// Whether an agent uses it now.
pub(super) async fn look(builder: &AgentBuilder, agent: AgentId, checks: &mut Vec<Check>) -> bool {
    let Some(path) = builder.state_dir.clone() else {
        let none = "none is given: a restart forgets orders and samples";
        checks
            .extend([STATE_DIRECTORY, DISK_SPACE, STATE_LOCK].map(|name| Check::skip(name, none)));
        return false;
    };
    let wanted = builder.telemetry_bytes.unwrap_or(ON_DISK) as u64;
    let looked = tokio::task::spawn_blocking(move || {
        let found = disk::look(&path, agent);
        let in_use = matches!(&found, Ok(Use { in_use: true, .. }));
        let checks = [directory(&path, &found), space(&path, wanted), lock(&found)];
        (checks, in_use)
    });
    match looked.await {
        Ok((found, in_use)) => {
            checks.extend(found);
            in_use
        }
        Err(error) => {
            let text = format!("can't be looked at: {error}");
            checks.push(Check::fail(STATE_DIRECTORY, text, "try again"));
            false
        }
    }
}

fn directory(path: &Path, found: &Result<Use, OpenError>) -> Check {
    let path = path.display();
    match found {
        Err(error) => Check::fail(
            STATE_DIRECTORY,
            format!("`{path}`: {}", chain(error)),
            "give the agent a directory of its own that it may write",
        ),
        Ok(Use {
            is_there: false, ..
        }) => Check::ok(
            STATE_DIRECTORY,
            format!("`{path}` is not there yet and can be made"),
        ),
        Ok(Use { damaged: true, .. }) => Check::warn(
            STATE_DIRECTORY,
            format!("`{path}` can be written; what it holds is damaged in part"),
            "look at the disk; the agent starts all the same, without memory of its orders",
        ),
        Ok(_) => Check::ok(STATE_DIRECTORY, format!("`{path}` can be written")),
    }
}

fn space(path: &Path, wanted: u64) -> Check {
    match disk::free_space(path) {
        Ok(free) => room(free, wanted),
        Err(error) => {
            let text = format!("can't be told: {error}");
            Check::warn(DISK_SPACE, text, "look at the disk of the state directory")
        }
    }
}

/// Both in bytes.
fn room(free: u64, wanted: u64) -> Check {
    let text = format!(
        "{:.0} MB free, samples may take {:.0} MB",
        free as f64 / MB,
        wanted as f64 / MB
    );
    if free < LEAST {
        Check::fail(DISK_SPACE, text, "make room: orders can't be written down")
    } else if free < wanted {
        Check::warn(DISK_SPACE, text, "make room, or allow samples less")
    } else {
        Check::ok(DISK_SPACE, text)
    }
}

fn lock(found: &Result<Use, OpenError>) -> Check {
    match found {
        Err(_) => Check::skip(STATE_LOCK, "the state directory can't be used"),
        Ok(Use { in_use: true, .. }) => Check::warn(
            STATE_LOCK,
            "held: an agent uses the state directory now",
            "stop that agent before another is started with this directory",
        ),
        Ok(_) => Check::ok(STATE_LOCK, "free"),
    }
}

#[cfg(test)]
mod tests {
    use derms_proto::CheckStatus;

    use super::*;

    #[test]
    fn a_disk_with_less_room_than_samples_may_take_is_warned_of_and_a_full_one_fails() {
        let wanted = 64 << 20;
        for (free, status) in [
            (0, CheckStatus::Fail),
            (LEAST - 1, CheckStatus::Fail),
            (LEAST, CheckStatus::Warn),
            (wanted - 1, CheckStatus::Warn),
            (wanted, CheckStatus::Ok),
        ] {
            let check = room(free, wanted);
            assert_eq!(check.status, status, "{free}: {}", check.text);
            let told = check.remedy.is_some_and(|it| it.contains("make room"));
            assert_eq!(told, status != CheckStatus::Ok, "{free}");
        }
        // An agent that may keep next to no samples needs the ledger of its orders all the same.
        assert_eq!(room(LEAST - 1, 1).status, CheckStatus::Fail);
    }
}
