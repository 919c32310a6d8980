//! Running other programs so that their output is seen and their failure is told.

use std::error::Error;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What a task ends with; the message says what failed and what to do.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The cargo that runs this task, so that every step uses the same toolchain.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The cargo above this one has told of this crate. There are build scripts that would run again for
    // that, and everything that needs them would be built twice.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&*name);
        }
    }
    cargo
}

/// Runs `command` with its output on this terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = command_line(command);
    println!("$ {line}");
    let status = command
        .status()
        .map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{line}` failed: {status}").into())
    }
}

/// Runs `command` and returns its standard output; its errors go to this terminal.
pub(crate) fn read(command: &mut Command) -> Result<Vec<u8>> {
    let line = command_line(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("`{line}` failed: {}", output.status).into())
    }
}

/// Runs `command` out of sight: for asking a program whether it is there.
pub(crate) fn probe(command: &mut Command) -> Option<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())
}

fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_is_named_with_its_arguments_and_status() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c exit 3` failed: exit status: 3");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("/nowhere/no-such-program")).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("cannot start `no-such-program`"), "{text}");
        assert!(probe(&mut Command::new("/nowhere/no-such-program")).is_none());
    }
}
