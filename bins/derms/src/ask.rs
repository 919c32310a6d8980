//! What a person is asked before something happens.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use derms_program::Failure;

/// Fails where nobody can be asked: with `--yes` nobody need be.
///
/// # Errors
/// Stdin is no terminal.
pub(crate) fn somebody_or(yes: bool) -> Result<(), Failure> {
    if yes || std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Failure::configuration(
        "nobody can be asked, for stdin is no terminal, and nothing was sent; add --yes to a script \
         that means it",
    ))
}

/// Asks, and fails unless the answer is one of these.
///
/// # Errors
/// The answer is another, or there is none.
pub(crate) fn confirmed(question: &str, answers: &[&str]) -> Result<(), Failure> {
    let mut stderr = std::io::stderr();
    // To stderr: stdout may be read by a program.
    let _ = write!(stderr, "{question} ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answers.contains(&answer.trim()) {
        return Ok(());
    }
    Err(Failure::start("not confirmed; nothing was sent"))
}
