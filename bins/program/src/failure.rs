//! What ends a program early: an exit code and one line.

use std::error::Error;

/// Exit code: flags, environment or a file must be changed (`EX_USAGE` of sysexits.h).
pub const BAD_CONFIGURATION: u8 = 64;

/// Exit code: the configuration is fine, but the program could not do its work.
pub const START_FAILED: u8 = 1;

/// Why a program ends: an exit code, and one line that says what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    line: String,
}

impl Failure {
    /// Something is wrong that the user can change. Ends with [`BAD_CONFIGURATION`].
    #[must_use]
    pub fn configuration(text: impl AsRef<str>) -> Self {
        Self::new(BAD_CONFIGURATION, text)
    }

    /// The program could not do its work. Ends with [`START_FAILED`].
    #[must_use]
    pub fn start(text: impl AsRef<str>) -> Self {
        Self::new(START_FAILED, text)
    }

    /// Ends with an exit code that the program itself documents.
    #[must_use]
    pub fn new(code: u8, text: impl AsRef<str>) -> Self {
        let lines = text.as_ref().lines().map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        Self {
            code,
            line: lines.join(" "),
        }
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.code
    }

    /// What went wrong and what to change; without a line break.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// An error and all its causes, each once, from the outside in: some errors say their cause themselves.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Outer(fmt::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_failure_is_one_line_whatever_it_is_made_of() {
        let failure = Failure::configuration("first:\n\n   |\n 2 | second\r\n");
        assert_eq!(failure.line(), "first: | 2 | second");
        assert_eq!(failure.code(), 64);
        assert_eq!(Failure::start("x").code(), 1);
    }

    #[test]
    fn a_chain_names_every_cause() {
        let cause = fmt::Error.to_string();
        assert_eq!(chain(&Outer(fmt::Error)), format!("outer: {cause}"));
    }

    #[derive(Debug)]
    struct Told(Outer);

    impl fmt::Display for Told {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "told by itself, {}", self.0)
        }
    }

    impl Error for Told {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_cause_that_an_error_tells_itself_is_told_once() {
        let cause = fmt::Error.to_string();
        let told = Told(Outer(fmt::Error));
        assert_eq!(chain(&told), format!("told by itself, outer: {cause}"));
    }
}
