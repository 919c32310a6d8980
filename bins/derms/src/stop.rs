//! Stops: stop, resume, list.

use std::time::Duration;

use derms_client::HistoryQuery;
use derms_client::proto::{NewStop, Stop, StopScope};
use derms_program::Failure;

use crate::args::StopOrderArgs;
use crate::connection::Session;
use crate::lists::{PAGE, first};
use crate::names::{self, Directory, Place};
use crate::table::{Facts, Table, Tone};
use crate::words::{clean, or_nothing, seconds, time};
use crate::{Outcome, ask, fault, out};

/// What is typed to confirm: the word that the API asks for.
const WORD: &str = derms_client::proto::CONFIRM_STOP;

pub(crate) async fn stop(session: &Session, args: &StopOrderArgs) -> Outcome {
    let client = &session.client;
    if args.asset.is_none() && args.site.is_none() && !args.all {
        let text = "say what: --asset ASSET, --site SITE or --all; or `list` or `show`";
        return Err(Failure::configuration(text).into());
    }
    ask::somebody_or(args.yes)?;
    let directory = Directory::load(client).await?;
    let place = directory.place(args.asset.as_deref(), args.site.as_deref())?;
    let (mut stop, many) = match place {
        Some(Place::Asset(asset)) => (NewStop::asset(asset), 1),
        Some(Place::Site(site)) => {
            let assets = directory.assets().filter(|it| it.asset.site_id == site);
            (NewStop::site(site), assets.count())
        }
        None => (NewStop::all(), directory.assets().count()),
    };
    if let Some(reason) = &args.reason {
        stop = stop.because(reason);
    }
    if !args.yes {
        let what = match place {
            Some(Place::Asset(asset)) => directory.asset_name(asset),
            Some(Place::Site(site)) => format!("site {}", directory.site_name(site)),
            None => "the whole fleet".to_owned(),
        };
        let question = format!(
            "{} ({many} assets) goes to 0 MW and takes no order until `derms resume`; type `{WORD}`:",
            clean(&what)
        );
        ask::confirmed(&question, &[WORD])?;
    }
    let stop = client.stop(&stop).await;
    let stop = stop.map_err(|error| fault::of(&error))?;
    print(session, &directory, &stop)
}

pub(crate) async fn resume(session: &Session, id: &str, within: Option<Duration>) -> Outcome {
    let client = &session.client;
    let id = names::stop(client, id).await?;
    let stop = client.resume(id, within).await;
    let stop = stop.map_err(|error| fault::of(&error))?;
    print(session, &Directory::load(client).await?, &stop)
}

pub(crate) async fn show(session: &Session, id: &str) -> Outcome {
    let client = &session.client;
    let id = names::stop(client, id).await?;
    let stop = client.get_stop(id).await;
    let stop = stop.map_err(|error| fault::of(&error))?;
    print(session, &Directory::load(client).await?, &stop)
}

fn print(session: &Session, directory: &Directory, stop: &Stop) -> Outcome {
    if session.json {
        return out::json(stop);
    }
    let mut facts = Facts::default();
    facts.add("id", stop.id.to_string());
    facts.add("stops", scope(directory, stop));
    facts.add_some("reason", stop.reason.clone());
    facts.add("since", time(stop.created_at));
    facts.add_some("by", stop.principal.clone());
    facts.add("assets", stop.assets.to_string());
    facts.add("told", stop.reached.to_string());
    facts.add("confirmed", stop.confirmed.to_string());
    let others = [
        ("not obeyed", stop.not_obeyed),
        ("offline", stop.offline),
        ("can't be stopped", stop.unsupported),
    ];
    for (name, many) in others {
        facts.add_some(name, (many > 0).then(|| many.to_string()));
    }
    for id in &stop.cannot_be_held {
        facts.add("can't be held", directory.asset_name(*id));
    }
    if !stop.stored {
        facts.add(
            "stored",
            "no: the headend's store is away; the stop holds all the same",
        );
    }
    facts.add_some("ended", stop.ended_at.map(time));
    facts.add_some("ended by", stop.ended_by.clone());
    let within = stop.return_within_s.map(seconds);
    facts.add_some(
        "returns",
        within.map(|within| format!("each within {within}")),
    );
    facts.print()
}

pub(crate) async fn list(session: &Session, history: bool) -> Outcome {
    let client = &session.client;
    let stops = if history {
        first(client.stop_history(HistoryQuery::new().limit(PAGE)), PAGE).await?
    } else {
        client.stops().await.map_err(|error| fault::of(&error))?
    };
    if session.json {
        return out::json(&stops);
    }
    let directory = Directory::load(client).await?;
    let heading = ["SINCE", "STOPS", "CONFIRMED", "REASON", "BY", "ENDED", "ID"];
    let mut table = Table::new(&heading, "no stops");
    for it in stops {
        let tone = match it.ended_at {
            Some(_) => Tone::Past,
            None if it.confirmed == it.assets => Tone::Plain,
            None => Tone::Doubtful,
        };
        table.row(
            tone,
            [
                time(it.created_at),
                scope(&directory, &it),
                format!("{} of {}", it.confirmed, it.assets),
                or_nothing(it.reason, |reason| reason),
                or_nothing(it.principal, |name| name),
                or_nothing(it.ended_at, time),
                it.id.to_string(),
            ],
        );
    }
    table.print()
}

fn scope(directory: &Directory, stop: &Stop) -> String {
    match stop.scope() {
        StopScope::Asset(id) => directory.asset_name(id),
        StopScope::Site(id) => format!("site {}", directory.site_name(id)),
        _ => "the whole fleet".to_owned(),
    }
}
