//! What happens, as it comes: a table that is drawn anew on a terminal, else a line for each.

mod feed;
mod fleet;
mod screen;

#[cfg(test)]
mod tests;

use derms_client::proto::LiveKind;
use derms_client::{Client, Error};
use derms_program::Signals;

use crate::args::WatchArgs;
use crate::connection::Session;
use crate::names::{Directory, Place};
use crate::{Outcome, fault};

use feed::{Feed, Polled, Streamed};
use screen::{Paper, Screen, Stdio};

/// The headend has no such path: it is older than live streams.
const NOT_FOUND: u16 = 404;

/// What is watched.
#[derive(Debug, Clone)]
struct Wanted {
    place: Option<Place>,
    /// Never empty.
    kinds: Vec<LiveKind>,
}

impl Wanted {
    fn tells(&self, kind: LiveKind) -> bool {
        self.kinds.contains(&kind)
    }
}

pub(crate) async fn run(session: &Session, args: &WatchArgs) -> Outcome {
    let directory = Directory::load(&session.client).await?;
    let target = &args.target;
    let place = directory.place(target.asset.as_deref(), target.site.as_deref())?;
    let kinds = if args.kind.is_empty() {
        LiveKind::ALL.to_vec()
    } else {
        args.kind.clone()
    };
    let wanted = Wanted { place, kinds };
    let mut signals = Signals::new()?;
    let mut screen = Screen::new(
        Stdio::new(),
        session.json,
        wanted.tells(LiveKind::Telemetry),
    );
    tokio::select! {
        ended = follow(&session.client, &wanted, &mut screen) => ended,
        () = signals.next() => Ok(()),
    }
}

/// Shows the live stream, or, where there is none, what the lists have again and again.
async fn follow(client: &Client, wanted: &Wanted, screen: &mut Screen<impl Paper>) -> Outcome {
    let look_again = screen.has_table();
    let mut streamed = Streamed::new(client, wanted, look_again);
    let mut ended = show(&mut streamed, screen).await?;
    let not_found = ended.status().is_some_and(|status| status == NOT_FOUND);
    if not_found && !streamed.has_begun() {
        screen.note(&format!(
            "this headend has no live stream (404): it is asked every {} s instead, and orders and \
             sessions are not shown",
            feed::EVERY.as_secs()
        ))?;
        ended = show(&mut Polled::new(client, wanted), screen).await?;
    }
    Err(fault::of(&ended).into())
}

/// Shows what there is to tell, up to the error that ends it.
async fn show(feed: &mut impl Feed, screen: &mut Screen<impl Paper>) -> Outcome<Error> {
    loop {
        match feed.next().await {
            Ok(news) => screen.show(news)?,
            Err(error) => return Ok(error),
        }
    }
}
