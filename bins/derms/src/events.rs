//! Alarms and changes of state: list, show, acknowledge.

use derms_client::EventHistoryQuery;
use derms_client::proto::{Acknowledgement, Event, Severity, Timestamp};

use crate::args::EventFilterArgs;
use crate::connection::Session;
use crate::lists::{at, first, within};
use crate::names::{self, Directory};
use crate::table::{Facts, Table, Tone};
use crate::words::{ago, fine_time, or_nothing, time, word};
use crate::{Outcome, fault, out};

pub(crate) async fn list(session: &Session, args: &EventFilterArgs) -> Outcome {
    let client = &session.client;
    let directory = Directory::load(client).await?;
    let target = &args.target;
    let place = directory.place(target.asset.as_deref(), target.site.as_deref())?;
    let mut query = at!(within!(EventHistoryQuery::new(), &args.window), place);
    if let Some(severity) = args.severity {
        query = query.at_least(severity.into());
    }
    if let Some(source) = args.source {
        query = query.source(source.into());
    }
    if args.acknowledged || args.unacknowledged {
        query = query.acknowledged(args.acknowledged);
    }
    let events = first(client.events(query), args.window.limit).await?;
    if session.json {
        return out::json(&events);
    }
    let now = Timestamp::now();
    let heading = [
        "AT",
        "AGE",
        "SEVERITY",
        "ABOUT",
        "CODE",
        "TEXT",
        "ACKNOWLEDGED",
        "ID",
    ];
    let mut table = Table::new(&heading, "no events of this kind");
    for it in &events {
        let acknowledged = it.acknowledged.as_ref();
        table.row(
            tone(it),
            [
                time(it.at),
                ago(now.saturating_since(it.at).as_secs()),
                word(&it.severity),
                about(&directory, it),
                it.code.clone(),
                it.text.clone(),
                or_nothing(acknowledged, acknowledgement),
                it.id.to_string(),
            ],
        );
    }
    table.print()
}

pub(crate) async fn show(session: &Session, id: &str) -> Outcome {
    let client = &session.client;
    let id = names::event(client, id).await?;
    let event = client.event(id).await;
    print(session, &event.map_err(|error| fault::of(&error))?).await
}

pub(crate) async fn acknowledge(session: &Session, id: &str, note: Option<&str>) -> Outcome {
    let client = &session.client;
    let id = names::event(client, id).await?;
    let event = client.acknowledge(id, note).await;
    print(session, &event.map_err(|error| fault::of(&error))?).await
}

async fn print(session: &Session, event: &Event) -> Outcome {
    if session.json {
        return out::json(event);
    }
    let directory = Directory::load(&session.client).await?;
    let mut facts = Facts::default();
    facts.add("id", event.id.to_string());
    facts.add("severity", word(&event.severity));
    facts.add("code", &event.code);
    facts.add("text", &event.text);
    facts.add("about", about(&directory, event));
    facts.add("at", fine_time(event.at));
    facts.add("received", fine_time(event.received_at));
    facts.add("raised by", word(&event.source));
    facts.add_some("agent", event.agent_id.map(|id| id.to_string()));
    let acknowledged = event.acknowledged.as_ref();
    let shown = acknowledged.map_or_else(|| "no".to_owned(), acknowledgement);
    facts.add("acknowledged", shown);
    facts.add_some("note", acknowledged.and_then(|it| it.note.clone()));
    facts.print()
}

/// What an event is about, by its name.
pub(crate) fn about(directory: &Directory, event: &Event) -> String {
    match (event.asset_id, event.site_id) {
        (Some(asset), _) => directory.asset_name(asset),
        (None, Some(site)) => format!("site {}", directory.site_name(site)),
        (None, None) => or_nothing(event.agent_id, |agent| format!("agent {agent}")),
    }
}

/// When, and by whom if anybody had to say who they are.
fn acknowledgement(it: &Acknowledgement) -> String {
    match &it.by {
        Some(by) => format!("{} by {by}", time(it.at)),
        None => time(it.at),
    }
}

fn tone(event: &Event) -> Tone {
    match event.severity {
        _ if event.acknowledged.is_some() => Tone::Past,
        Severity::Info => Tone::Plain,
        Severity::Warning => Tone::Doubtful,
        _ => Tone::Bad,
    }
}
