//! Runs the steps, says where it is, and sums up.

use std::time::{Duration, Instant};

use clap::ValueEnum as _;

use crate::shell::Result;
use crate::step::Step;
use crate::workspace::Workspace;

/// Prints the steps that `--only` takes.
pub(crate) fn list() {
    for step in Step::value_variants() {
        println!("{:<13} {}", step.name(), step.about());
    }
}

/// Runs every step, or those of `only`, in order and stops at the first that fails.
pub(crate) fn run(workspace: &Workspace, only: &[Step]) -> Result<()> {
    let steps: Vec<Step> = Step::value_variants()
        .iter()
        .copied()
        .filter(|step| only.is_empty() || only.contains(step))
        .collect();
    let mut rows = Vec::new();
    let mut failure = None;
    for (index, step) in steps.iter().enumerate() {
        if failure.is_some() {
            rows.push((*step, Outcome::NotRun));
            continue;
        }
        println!(
            "\n== [{}/{}] {}: {}",
            index + 1,
            steps.len(),
            step.name(),
            step.about()
        );
        let start = Instant::now();
        let result = step.run(workspace);
        let took = start.elapsed();
        match result {
            Ok(()) => {
                println!("== {} passed in {}", step.name(), seconds(took));
                rows.push((*step, Outcome::Passed(took)));
            }
            Err(error) => {
                println!("== {} FAILED after {}", step.name(), seconds(took));
                rows.push((*step, Outcome::Failed(took)));
                failure = Some(format!("step {} failed: {error}", step.name()));
            }
        }
    }
    println!("\n{}", summary(&rows));
    failure.map_or(Ok(()), |error| Err(error.into()))
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Passed(Duration),
    Failed(Duration),
    NotRun,
}

fn summary(rows: &[(Step, Outcome)]) -> String {
    let mut total = Duration::ZERO;
    let mut text = String::from("step          result   time\n");
    for (step, outcome) in rows {
        let (result, took) = match outcome {
            Outcome::Passed(took) => ("passed", Some(*took)),
            Outcome::Failed(took) => ("FAILED", Some(*took)),
            Outcome::NotRun => ("not run", None),
        };
        total += took.unwrap_or_default();
        let time = took.map_or_else(|| "-".to_owned(), seconds);
        text.push_str(&format!("{:<13} {result:<8} {time:>8}\n", step.name()));
    }
    text.push_str(&format!("{:<22} {:>8}", "total", seconds(total)));
    text
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_tells_failed_steps_from_those_that_were_not_run() {
        let text = summary(&[
            (Step::Fmt, Outcome::Passed(Duration::from_millis(1200))),
            (Step::Clippy, Outcome::Failed(Duration::from_secs(60))),
            (Step::Test, Outcome::NotRun),
        ]);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[1], ["fmt", "passed", "1.2", "s"]);
        assert_eq!(rows[2], ["clippy", "FAILED", "60.0", "s"]);
        assert_eq!(rows[3], ["test", "not", "run", "-"]);
        assert_eq!(rows[4], ["total", "61.2", "s"]);
    }

    #[test]
    fn every_step_says_what_passes_with_it() {
        for step in Step::value_variants() {
            assert!(!step.about().is_empty(), "{} has no text", step.name());
        }
    }
}
