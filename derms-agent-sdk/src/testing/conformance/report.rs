//! What a run of the kit found.

use std::collections::BTreeMap;
use std::fmt;

use super::Rule;

/// What became of each [`Rule`]; `Display` is a table for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "look at it, or call `assert_passed`"]
pub struct Report {
    title: String,
    rules: Vec<Checked>,
}

/// One rule of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The rule.
    pub rule: Rule,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The adapter kept it wherever it was tried.
    Passed,
    /// The adapter broke it.
    Failed {
        /// What was seen, the first time.
        found: String,
        /// What to change.
        remedy: &'static str,
    },
    /// It could not be decided.
    NotApplicable {
        /// Why.
        why: String,
    },
}

impl Report {
    /// Every rule with its outcome, in the order of [`Rule::ALL`].
    #[must_use]
    pub fn rules(&self) -> &[Checked] {
        &self.rules
    }

    /// The outcome of one rule.
    #[must_use]
    pub fn outcome(&self, rule: Rule) -> &Outcome {
        let found = self.rules.iter().find(|checked| checked.rule == rule);
        &found.expect("a report has every rule").outcome
    }

    /// The rules that the adapter broke.
    pub fn failed(&self) -> impl Iterator<Item = Rule> {
        let failed = |checked: &&Checked| matches!(checked.outcome, Outcome::Failed { .. });
        self.rules.iter().filter(failed).map(|checked| checked.rule)
    }

    /// For tests: fine if no rule failed.
    ///
    /// # Panics
    /// If one did, with the report as the text.
    pub fn assert_passed(&self) {
        assert!(self.failed().next().is_none(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let (mut passed, mut failed, mut open) = (0, 0, 0);
        for Checked { rule, outcome } in &self.rules {
            match outcome {
                Outcome::Passed => {
                    passed += 1;
                    writeln!(f, "  passed  {}", rule.name())?;
                }
                Outcome::Failed { found, remedy } => {
                    failed += 1;
                    writeln!(f, "  FAILED  {}", rule.name())?;
                    writeln!(f, "          found:  {found}")?;
                    writeln!(f, "          remedy: {remedy}")?;
                }
                Outcome::NotApplicable { why } => {
                    open += 1;
                    writeln!(f, "  -       {} ({why})", rule.name())?;
                }
            }
        }
        write!(f, "{passed} passed, {failed} failed, {open} not applicable")
    }
}

/// What is seen while the kit runs.
#[derive(Debug, Default)]
pub(super) struct Notes(BTreeMap<Rule, Note>);

#[derive(Debug, Default)]
struct Note {
    tried: bool,
    found: Option<String>,
    again: usize,
    undecided: bool,
    why: Option<String>,
}

impl Notes {
    /// The rule was tried and kept.
    pub(super) fn kept(&mut self, rule: Rule) {
        self.0.entry(rule).or_default().tried = true;
    }

    pub(super) fn broken(&mut self, rule: Rule, found: String) {
        let note = self.0.entry(rule).or_default();
        if note.found.is_some() {
            note.again += 1;
        } else {
            note.found = Some(found);
        }
    }

    pub(super) fn check(&mut self, rule: Rule, kept: bool, found: impl FnOnce() -> String) {
        if kept {
            self.kept(rule);
        } else {
            self.broken(rule, found());
        }
    }

    /// Why a rule can't be tried; the first reason counts.
    pub(super) fn skip(&mut self, rule: Rule, why: &str) {
        let note = self.0.entry(rule).or_default();
        note.why.get_or_insert_with(|| why.to_owned());
    }

    /// The rule was tried, but what was seen is not enough to say that it is kept.
    pub(super) fn undecided(&mut self, rule: Rule, why: &str) {
        self.skip(rule, why);
        self.0.entry(rule).or_default().undecided = true;
    }

    pub(super) fn report(mut self, title: String) -> Report {
        let rules = Rule::ALL.iter().map(|rule| Checked {
            rule: *rule,
            outcome: self.0.remove(rule).unwrap_or_default().outcome(*rule),
        });
        Report {
            rules: rules.collect(),
            title,
        }
    }
}

impl Note {
    fn outcome(self, rule: Rule) -> Outcome {
        match self.found {
            Some(found) => Outcome::Failed {
                found: match self.again {
                    0 => found,
                    again => format!("{found} (and {again} more)"),
                },
                remedy: rule.remedy(),
            },
            None if self.tried && !self.undecided => Outcome::Passed,
            None => Outcome::NotApplicable {
                why: self.why.unwrap_or_else(|| "could not be tried".into()),
            },
        }
    }
}
