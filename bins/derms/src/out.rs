//! Stdout: text and JSON, until nobody reads any more.

use std::io::{ErrorKind, Write as _};

use derms_program::{Failure, Stop};
use serde::Serialize;

use crate::{Outcome, words};

/// Writes to stdout at once.
///
/// # Errors
/// It can't be written. If whoever read it is gone (`| head -1`), there is nothing to say of it.
pub(crate) fn print(text: &str) -> Outcome {
    let mut stdout = std::io::stdout();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Stop::Text(String::new()),
        _ => Failure::start(format!("can't write the output: {error}; check the disk")).into(),
    })
}

/// Writes a value of the API on a line.
pub(crate) fn json(value: &impl Serialize) -> Outcome {
    print(&line(value)?)
}

/// A value of the API as JSON on a line.
pub(crate) fn line(value: &impl Serialize) -> Outcome<String> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::start(format!("can't write the answer as JSON: {error}")))?;
    Ok(format!("{}\n", harmless(&text)))
}

/// The same JSON, without characters that a terminal would act upon.
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if words::is_hostile(c) {
            // Below 0x20 serde_json has escaped them; all of these have four digits.
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_moves_no_cursor_and_stays_the_same_value() {
        let name = "a\u{1b}[2Jb\u{9b}31m\u{7f}\u{202e}é";
        let text = serde_json::to_string(name).unwrap();
        let shown = harmless(&text);
        assert!(!shown.chars().any(words::is_hostile), "{shown}");
        assert!(shown.contains('é'));
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), name);
    }
}
