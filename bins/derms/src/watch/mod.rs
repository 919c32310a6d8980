//! Measurements as they come: a table that is redrawn on a terminal, else a line each.

use std::collections::HashMap;
use std::time::Duration;

use console::Term;
use derms_client::proto::{AssetId, TelemetrySnapshot, Timestamp};
use derms_client::{Client, Error};
use derms_program::{Signals, Stop};

use crate::args::Target;
use crate::connection::Session;
use crate::names::{Directory, Place};
use crate::telemetry::overview;
use crate::words::{clean, directed, fine_time, or_nothing, time, word};
use crate::{Outcome, fault, out};

/// How often the headend is asked.
const EVERY: Duration = Duration::from_secs(2);

/// Where pictures of the fleet come from.
trait Feed {
    /// The fleet as it is, once there is something new to show. Cancel-safe.
    async fn next(&mut self) -> Result<Picture, Error>;
}

/// The fleet at one time.
struct Picture {
    directory: Directory,
    snapshots: Vec<TelemetrySnapshot>,
}

/// Asks again and again.
struct Polled<'a> {
    client: &'a Client,
    ticks: tokio::time::Interval,
}

impl Feed for Polled<'_> {
    async fn next(&mut self) -> Result<Picture, Error> {
        self.ticks.tick().await;
        Ok(Picture {
            directory: Directory {
                sites: self.client.sites().await?,
            },
            snapshots: self.client.telemetry_all().await?,
        })
    }
}

pub(crate) async fn run(session: &Session, target: &Target) -> Outcome {
    let directory = Directory::load(&session.client).await?;
    let place = directory.place(target.asset.as_deref(), target.site.as_deref())?;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut feed = Polled {
        client: &session.client,
        ticks,
    };
    let mut signals = Signals::new()?;
    let mut screen = Screen::new(session.json);
    loop {
        let next = tokio::select! {
            next = feed.next() => next,
            () = signals.next() => return Ok(()),
        };
        match next {
            Ok(picture) => screen.show(&picture.only(place))?,
            // A headend that restarts is back in a moment; one that refuses goes on refusing.
            Err(error) if error.is_retryable() => {
                screen.trouble(fault::of(&error).line())?;
            }
            Err(error) => return Err(Stop::from(fault::of(&error))),
        }
    }
}

impl Picture {
    fn only(mut self, place: Option<Place>) -> Self {
        for site in &mut self.directory.sites {
            let id = site.site.id;
            site.assets.retain(|asset| match place {
                None => true,
                Some(Place::Asset(wanted)) => asset.asset.id == wanted,
                Some(Place::Site(wanted)) => id == wanted,
            });
        }
        let shown: Vec<AssetId> = self.directory.assets().map(|it| it.asset.id).collect();
        self.snapshots
            .retain(|it| shown.contains(&it.telemetry.asset_id));
        self
    }
}

/// What was shown last.
struct Screen {
    /// `None`: lines.
    terminal: Option<Term>,
    json: bool,
    /// Lines of the table that stands there.
    drawn: usize,
    seen: HashMap<AssetId, Timestamp>,
}

impl Screen {
    fn new(json: bool) -> Self {
        let terminal = Term::stdout();
        Self {
            terminal: (!json && terminal.is_term()).then_some(terminal),
            json,
            drawn: 0,
            seen: HashMap::new(),
        }
    }

    fn show(&mut self, picture: &Picture) -> Outcome {
        if self.terminal.is_some() {
            let now = time(Timestamp::now());
            let table = overview(&picture.directory, &picture.snapshots).text();
            return self.redraw(&format!("{now}   Ctrl-C ends this\n\n{table}"));
        }
        for snapshot in &picture.snapshots {
            let (id, at) = (snapshot.telemetry.asset_id, snapshot.telemetry.measured_at);
            if self.seen.insert(id, at) == Some(at) {
                continue;
            }
            if self.json {
                out::json(snapshot)?;
            } else {
                out::print(&line(&picture.directory, snapshot))?;
            }
        }
        Ok(())
    }

    fn trouble(&mut self, text: &str) -> Outcome {
        if self.terminal.is_some() {
            return self.redraw(&format!("{}; trying again\n", clean(text)));
        }
        // Lines on stdout are measurements alone.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("derms: {}; trying again\n", clean(text)),
        );
        Ok(())
    }

    fn redraw(&mut self, text: &str) -> Outcome {
        let Some(terminal) = &self.terminal else {
            return out::print(text);
        };
        let (height, width) = terminal.size();
        let text = fitted(text, height.into(), width.into());
        // A terminal that takes no codes gets one table after the other.
        let _ = terminal.clear_last_lines(self.drawn);
        self.drawn = text.lines().count();
        out::print(&text)
    }
}

/// As much as fits: a line that wraps or scrolls away could not be taken back.
fn fitted(text: &str, height: usize, width: usize) -> String {
    let most = height.saturating_sub(1).max(1);
    let lines: Vec<&str> = text.lines().collect();
    let kept = if lines.len() > most {
        most.saturating_sub(1)
    } else {
        most
    };
    let mut fitted: String = lines
        .iter()
        .take(kept)
        .map(|line| format!("{}\n", console::truncate_str(line, width, "…")))
        .collect();
    if lines.len() > most {
        let more = lines.len() - kept;
        fitted.push_str(&format!("and {more} more; --site or --asset shows fewer\n"));
    }
    fitted
}

fn line(directory: &Directory, snapshot: &TelemetrySnapshot) -> String {
    let telemetry = &snapshot.telemetry;
    let values = &telemetry.measurements;
    let kind = directory.configured(telemetry.asset_id).map(|it| it.kind);
    let text = format!(
        "{} {} {} setpoint {} soc {} {} {}{}",
        fine_time(telemetry.measured_at),
        directory.asset_name(telemetry.asset_id),
        or_nothing(values.mw, |mw| directed(mw, kind)),
        or_nothing(values.setpoint_mw, crate::words::power),
        or_nothing(values.soc_pct, |soc| format!("{soc:.1}%")),
        or_nothing(values.status, |it| word(&it)),
        or_nothing(values.control, |it| word(&it)),
        if snapshot.stale { " stale" } else { "" },
    );
    format!("{}\n", clean(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_larger_than_the_terminal_is_cut_and_says_so() {
        let text = "1\n2\n3\n4\n";
        assert_eq!(fitted(text, 5, 80), text);
        let cut = fitted(text, 4, 80);
        assert_eq!(cut.lines().count(), 3);
        assert!(
            cut.starts_with("1\n2\n") && cut.contains("and 2 more"),
            "{cut}"
        );
        assert_eq!(fitted("abcdef\n", 5, 4), "abc…\n");
    }
}
