//! What is printed at the end.

use crate::words;

/// One figure.
#[derive(Debug)]
pub(super) struct Row {
    name: String,
    bare: String,
    headend: String,
    ratio: String,
    limit: String,
    holds: Option<bool>,
}

impl Row {
    /// A figure of both servers, with the most that the headend's may be of the bare one's.
    pub(super) fn beside(
        name: &str,
        unit: &str,
        bare: f64,
        headend: f64,
        most: Option<f64>,
    ) -> Self {
        let ratio = headend / bare;
        Self {
            name: format!("{name}, {unit}"),
            bare: number(bare),
            headend: number(headend),
            ratio: format!("{ratio:.2}"),
            limit: most.map_or_else(String::new, |most| format!("ratio ≤ {most}")),
            holds: most.map(|most| ratio <= most),
        }
    }

    /// A figure with a limit of its own.
    pub(super) fn alone(
        name: &str,
        unit: &str,
        bare: Option<f64>,
        headend: f64,
        most: f64,
    ) -> Self {
        Self {
            name: format!("{name}, {unit}"),
            bare: bare.map_or_else(String::new, number),
            headend: number(headend),
            ratio: bare
                .filter(|bare| *bare > 0.0)
                .map_or_else(String::new, |bare| format!("{:.2}", headend / bare)),
            limit: format!("≤ {most}"),
            holds: Some(headend <= most),
        }
    }

    /// A figure that must not be lower.
    pub(super) fn at_least(name: &str, unit: &str, bare: f64, headend: f64, least: f64) -> Self {
        Self {
            limit: format!("≥ {least:.0}"),
            holds: Some(headend >= least),
            ..Self::beside(name, unit, bare, headend, None)
        }
    }

    fn cells(&self) -> [&str; 6] {
        let verdict = match self.holds {
            Some(true) => "holds",
            Some(false) => "FAILS",
            None => "",
        };
        [
            &self.name,
            &self.bare,
            &self.headend,
            &self.ratio,
            &self.limit,
            verdict,
        ]
    }
}

fn number(value: f64) -> String {
    if value == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// Prints the rows under the names of what was compared; whether all of them hold.
pub(super) fn print(rows: &[Row], sides: [&str; 2], judge: bool) -> bool {
    let head = ["figure", sides[0], sides[1], "ratio", "limit", ""];
    let lines: Vec<[&str; 6]> = std::iter::once(head)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let columns = if judge { 6 } else { 4 };
    for line in &lines {
        let mut text = String::new();
        for (column, cell) in line.iter().enumerate().take(columns) {
            let width = widths[column];
            if (1..4).contains(&column) {
                text.push_str(&format!("{cell:>width$}  "));
            } else {
                text.push_str(&format!("{cell:<width$}  "));
            }
        }
        words::say(text.trim_end());
    }
    rows.iter().all(|row| row.holds != Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_above_its_limit_fails() {
        assert_eq!(Row::beside("a", "s", 2.0, 2.4, Some(1.2)).holds, Some(true));
        assert_eq!(
            Row::beside("a", "s", 2.0, 2.5, Some(1.2)).holds,
            Some(false)
        );
        assert_eq!(Row::alone("a", "s", None, 3.0, 2.0).holds, Some(false));
        let rate = |headend| Row::at_least("a", "1/s", 9.0, headend, 2.0).holds;
        assert_eq!((rate(2.0), rate(1.9)), (Some(true), Some(false)));
        assert!(!print(
            &[Row::alone("a", "s", None, 3.0, 2.0)],
            ["b", "h"],
            true
        ));
    }
}
