//! Where what happens is shown: a table that is drawn anew, else lines.

use std::collections::VecDeque;

use console::Term;
use derms_client::proto::{LiveItem, ResetReason, Timestamp};
use tokio::time::Instant;

use super::feed::News;
use super::fleet::Fleet;
use crate::words::{clean, time};
use crate::{Outcome, out};

/// So many lines of what has happened last stand below the table.
const NEWEST: usize = 5;

/// Where the words go.
pub(super) trait Paper {
    /// Height and width, if it is a terminal.
    fn size(&self) -> Option<(usize, usize)>;
    /// Takes back so many lines.
    fn clear(&self, lines: usize);
    /// Lines for whoever reads the output.
    fn write(&mut self, text: &str) -> Outcome;
    /// A line for the person who looks on.
    fn tell(&mut self, text: &str);
}

/// What was shown last.
#[derive(Debug)]
pub(super) struct Screen<P> {
    paper: P,
    form: Form,
    fleet: Fleet,
    /// Whether the fleet is known.
    read: bool,
    /// What keeps news away, if it was told.
    trouble: Option<String>,
}

#[derive(Debug)]
enum Form {
    Table {
        /// Lines that stand there.
        drawn: usize,
        newest: VecDeque<String>,
    },
    Lines,
    Json,
}

impl<P: Paper> Screen<P> {
    /// A table is for a terminal, and for measurements.
    pub(super) fn new(paper: P, json: bool, measurements: bool) -> Self {
        let form = match paper.size() {
            _ if json => Form::Json,
            Some(_) if measurements => Form::Table {
                drawn: 0,
                newest: VecDeque::new(),
            },
            _ => Form::Lines,
        };
        Self {
            paper,
            form,
            fleet: Fleet::new(),
            read: false,
            trouble: None,
        }
    }

    pub(super) const fn has_table(&self) -> bool {
        matches!(self.form, Form::Table { .. })
    }

    pub(super) fn show(&mut self, news: News) -> Outcome {
        let now = Instant::now();
        let heard = !matches!(news, News::Tick(Some(_)));
        if heard {
            self.trouble = None;
        }
        match news {
            News::Lists(lists, reason) => {
                if let Some(reason) = reason {
                    self.reset(reason)?;
                }
                self.read = true;
                for item in self.fleet.read(*lists, now) {
                    self.item(&item)?;
                }
                self.draw(now)
            }
            News::Item(item) => {
                if self.fleet.take(&item, now) {
                    self.item(&item)?;
                }
                Ok(())
            }
            News::Tick(trouble) => {
                let new = trouble.is_some() && self.trouble.is_none();
                if trouble.is_some() {
                    self.trouble = trouble;
                }
                match &self.trouble {
                    Some(text) if new && !self.has_table() => {
                        let text = format!("{}; trying again", clean(text));
                        self.paper.tell(&text);
                    }
                    _ => {}
                }
                self.draw(now)
            }
        }
    }

    /// Something about this program itself.
    pub(super) fn note(&mut self, text: &str) -> Outcome {
        match &mut self.form {
            Form::Table { newest, .. } => {
                push(newest, text.to_owned());
                self.draw(Instant::now())
            }
            Form::Lines | Form::Json => {
                self.paper.tell(text);
                Ok(())
            }
        }
    }

    /// A program reads from it that lists follow; a person need know only if something is missing.
    fn reset(&mut self, reason: ResetReason) -> Outcome {
        if matches!(self.form, Form::Json) {
            return self.paper.write(&out::line(&LiveItem::Reset { reason })?);
        }
        let why = match reason {
            ResetReason::Began => return Ok(()),
            ResetReason::Restarted => "the headend was restarted",
            ResetReason::TooOld => "the headend does not remember as much",
            _ => "the headend began anew",
        };
        self.note(&format!("something may be missing here: {why}"))
    }

    fn item(&mut self, item: &LiveItem) -> Outcome {
        match &mut self.form {
            Form::Json => self.paper.write(&out::line(item)?),
            Form::Lines => match self.fleet.line(item) {
                Some(line) => self.paper.write(&format!("{line}\n")),
                None => Ok(()),
            },
            Form::Table { newest, .. } => {
                // Measurements are in the table.
                if !matches!(item, LiveItem::Telemetry(_))
                    && let Some(line) = self.fleet.line(item)
                {
                    push(newest, line);
                }
                Ok(())
            }
        }
    }

    fn draw(&mut self, now: Instant) -> Outcome {
        let Form::Table { drawn, newest } = &mut self.form else {
            return Ok(());
        };
        let mut heading = format!("{}   Ctrl-C ends this", time(Timestamp::now()));
        if let Some(trouble) = &self.trouble {
            heading = format!("{heading}\n{}; trying again", clean(trouble));
        }
        let table = if self.read {
            self.fleet.table(now).text()
        } else {
            String::new()
        };
        let above = format!("{heading}\n\n{table}");
        let size = self.paper.size().unwrap_or((24, 80));
        let text = fitted(&above, newest.make_contiguous(), size);
        // A terminal that takes no codes gets one table after the other.
        self.paper.clear(*drawn);
        *drawn = text.lines().count();
        self.paper.write(&text)
    }
}

fn push(newest: &mut VecDeque<String>, line: String) {
    newest.push_back(line);
    if newest.len() > NEWEST {
        newest.pop_front();
    }
}

/// As much as fits, of `below` all: a line that wraps or scrolls away could not be taken back.
fn fitted(above: &str, below: &[String], (height, width): (usize, usize)) -> String {
    let room = height.saturating_sub(1 + below.len() + usize::from(!below.is_empty()));
    let most = room.max(1);
    let lines: Vec<&str> = above.lines().collect();
    let kept = if lines.len() > most {
        most.saturating_sub(1)
    } else {
        most
    };
    let cut = |line: &str| format!("{}\n", console::truncate_str(line, width, "…"));
    let mut fitted: String = lines.iter().take(kept).map(|line| cut(line)).collect();
    if lines.len() > most {
        let more = lines.len() - kept;
        fitted.push_str(&format!("and {more} more; --site or --asset shows fewer\n"));
    }
    if !below.is_empty() {
        fitted.push('\n');
        fitted.extend(below.iter().map(|line| cut(line)));
    }
    fitted
}

/// Stdout, and stderr for the person who looks on.
#[derive(Debug)]
pub(super) struct Stdio(Term);

impl Stdio {
    pub(super) fn new() -> Self {
        Self(Term::stdout())
    }
}

impl Paper for Stdio {
    fn size(&self) -> Option<(usize, usize)> {
        let (height, width) = self.0.size();
        self.0.is_term().then_some((height.into(), width.into()))
    }

    fn clear(&self, lines: usize) {
        let _ = self.0.clear_last_lines(lines);
    }

    fn write(&mut self, text: &str) -> Outcome {
        out::print(text)
    }

    fn tell(&mut self, text: &str) {
        // Lines on stdout are what happens alone.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("derms: {text}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_larger_than_the_terminal_is_cut_and_says_so() {
        let text = "1\n2\n3\n4\n";
        assert_eq!(fitted(text, &[], (5, 80)), text);
        let cut = fitted(text, &[], (4, 80));
        assert_eq!(cut.lines().count(), 3);
        assert!(
            cut.starts_with("1\n2\n") && cut.contains("and 2 more"),
            "{cut}"
        );
        assert_eq!(fitted("abcdef\n", &[], (5, 4)), "abc…\n");
    }

    #[test]
    fn what_has_happened_last_has_its_place_below_a_table_that_is_cut() {
        let below = ["fire".to_owned()];
        assert_eq!(fitted("1\n2\n", &below, (5, 80)), "1\n2\n\nfire\n");
        let cut = fitted("1\n2\n3\n", &below, (5, 80));
        assert!(
            cut.starts_with("1\nand 2 more") && cut.ends_with("\n\nfire\n"),
            "{cut}"
        );
        assert_eq!(cut.lines().count(), 4);
    }
}
