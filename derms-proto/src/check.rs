//! What a program finds out about its own configuration and surroundings, line by line.

use std::fmt;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// It works, but somebody should look at it.
    Warn,
    /// It can't work like this.
    Fail,
    /// It was not looked at; the text says why.
    Skip,
}

impl CheckStatus {
    /// The word that stands for it, in text and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// What was looked at: a stable word, for programs. Several lines may have the same.
    pub name: &'static str,
    /// How it came out.
    pub status: CheckStatus,
    /// What was found, for people.
    pub text: String,
    /// What to do about it, for people.
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: &'static str, status: CheckStatus, text: impl Into<String>) -> Self {
        Self {
            name,
            status,
            text: text.into(),
            remedy: None,
        }
    }

    /// It is as it should be.
    #[must_use]
    pub fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, CheckStatus::Ok, text)
    }

    /// It was not looked at, for this reason.
    #[must_use]
    pub fn skip(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, CheckStatus::Skip, text)
    }

    /// It works, but somebody should do this.
    #[must_use]
    pub fn warn(name: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..Self::new(name, CheckStatus::Warn, text)
        }
    }

    /// It can't work until this is done.
    #[must_use]
    pub fn fail(name: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..Self::new(name, CheckStatus::Fail, text)
        }
    }
}

/// All that was looked at, in order. As text one line each, with the remedy below it; as JSON
/// `{"checks": [{"name", "status", "text", "remedy"}], "ok"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    checks: Vec<Check>,
}

impl CheckReport {
    /// Of these.
    #[must_use]
    pub const fn new(checks: Vec<Check>) -> Self {
        Self { checks }
    }

    /// In the order in which they were looked at.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Whether none failed; warnings are no failures.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.count(CheckStatus::Fail) == 0
    }

    /// How many came out like this.
    #[must_use]
    pub fn count(&self, status: CheckStatus) -> usize {
        let checks = self.checks.iter();
        checks.filter(|check| check.status == status).count()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.checks.iter().map(|check| check.name.len());
        let width = names.max().unwrap_or(0);
        for check in &self.checks {
            let status = check.status.as_str();
            writeln!(f, "{status:<4}  {:<width$}  {}", check.name, check.text)?;
            if let Some(remedy) = &check.remedy {
                writeln!(f, "{:6}{:width$}  -> {remedy}", "", "")?;
            }
        }
        Ok(())
    }
}

impl Serialize for CheckReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = serializer.serialize_struct("CheckReport", 2)?;
        report.serialize_field("checks", &self.checks)?;
        report.serialize_field("ok", &self.is_ok())?;
        report.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> CheckReport {
        CheckReport::new(vec![
            Check::ok("tcp", "connected"),
            Check::warn("clock", "3 s off", "set it"),
            Check::skip("write_default", "not asked for"),
        ])
    }

    #[test]
    fn a_report_is_ok_until_a_check_has_failed() {
        let mut checks = report().checks;
        assert!(CheckReport::new(checks.clone()).is_ok());
        checks.push(Check::fail("link", "refused", "ask"));
        let report = CheckReport::new(checks);
        assert!(!report.is_ok());
        assert_eq!(report.count(CheckStatus::Fail), 1);
    }

    #[test]
    fn each_check_is_a_line_with_its_remedy_below() {
        let text = "ok    tcp            connected\n\
                    warn  clock          3 s off\n\
                    \u{20}                    -> set it\n\
                    skip  write_default  not asked for\n";
        assert_eq!(report().to_string(), text);
    }

    #[test]
    fn as_json_it_has_stable_words() {
        let json = serde_json::to_value(report()).unwrap();
        let expected = serde_json::json!({
            "checks": [
                {"name": "tcp", "status": "ok", "text": "connected", "remedy": null},
                {"name": "clock", "status": "warn", "text": "3 s off", "remedy": "set it"},
                {"name": "write_default", "status": "skip", "text": "not asked for", "remedy": null},
            ],
            "ok": true,
        });
        assert_eq!(json, expected);
    }
}
