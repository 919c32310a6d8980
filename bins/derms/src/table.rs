//! Tables for people: columns without lines between them.

use comfy_table::{Table as Layout, presets};
use console::style;

use crate::{Outcome, out, words};

/// How much a row matters; shown as colour on a terminal, unless `NO_COLOR` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Plain,
    /// Not what it should be, or not fresh.
    Doubtful,
    /// Wrong.
    Bad,
    /// Over.
    Past,
}

/// Rows under a heading. Every cell is cleaned: what the headend says can't act on the terminal.
#[derive(Debug)]
pub(crate) struct Table {
    layout: Layout,
    tones: Vec<Tone>,
    empty: &'static str,
}

impl Table {
    /// `empty` is shown in place of a table without rows.
    pub(crate) fn new(heading: &[&str], empty: &'static str) -> Self {
        let mut layout = Layout::new();
        layout.load_style(presets::NOTHING).set_header(heading);
        Self {
            layout,
            tones: Vec::new(),
            empty,
        }
    }

    pub(crate) fn row(&mut self, tone: Tone, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| words::clean(&cell)).collect();
        self.layout.add_row(cells);
        self.tones.push(tone);
    }

    /// The lines, in colour if stdout is a terminal.
    pub(crate) fn text(mut self) -> String {
        if self.tones.is_empty() {
            return format!("{}\n", self.empty);
        }
        for column in self.layout.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = String::new();
        let heading = std::iter::once(None);
        let tones = heading.chain(self.tones.into_iter().map(Some));
        for (line, tone) in self.layout.lines().zip(tones) {
            let line = line.trim_end();
            let line = match tone {
                None => style(line).bold(),
                Some(Tone::Plain) => style(line),
                Some(Tone::Doubtful) => style(line).yellow(),
                Some(Tone::Bad) => style(line).red(),
                Some(Tone::Past) => style(line).dim(),
            };
            text.push_str(&format!("{line}\n"));
        }
        text
    }

    pub(crate) fn print(self) -> Outcome {
        out::print(&self.text())
    }
}

/// Names with their values, one a line.
#[derive(Debug, Default)]
pub(crate) struct Facts(Vec<(&'static str, String)>);

impl Facts {
    pub(crate) fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, words::clean(&value.into())));
    }

    /// Only if there is a value.
    pub(crate) fn add_some(&mut self, name: &'static str, value: Option<String>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    pub(crate) fn text(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or_default();
        let lines = self.0.iter();
        lines
            .map(|(name, value)| format!("{name:width$}  {value}\n"))
            .collect()
    }

    pub(crate) fn print(&self) -> Outcome {
        out::print(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_seen_and_nothing_in_them_breaks_a_line() {
        let mut table = Table::new(&["name", "power"], "none");
        for name in ["Süd", "a\nb", "x"] {
            table.row(Tone::Plain, [name.to_owned(), "1 MW".to_owned()]);
        }
        let text = table.text();
        assert_eq!(text, "name  power\nSüd   1 MW\na\\nb  1 MW\nx     1 MW\n");
    }

    #[test]
    fn a_table_without_rows_says_so() {
        assert_eq!(Table::new(&["name"], "no assets").text(), "no assets\n");
    }

    #[test]
    fn facts_stand_under_each_other() {
        let mut facts = Facts::default();
        facts.add("id", "1");
        facts.add_some("status", Some("a\u{7}".to_owned()));
        facts.add_some("reason", None);
        assert_eq!(facts.text(), "id      1\nstatus  a\\u{7}\n");
    }
}
