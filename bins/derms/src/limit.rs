//! Limits: set, remove, list.

use derms_client::LimitHistoryQuery;
use derms_client::proto::{LimitStatus, NewLimit, PowerLimit};

use crate::args::{LimitListArgs, LimitSetArgs};
use crate::connection::Session;
use crate::lists::{at, first, within};
use crate::names::{self, Directory, Place};
use crate::table::{Facts, Table, Tone};
use crate::words::{or_nothing, power, time, word};
use crate::{Outcome, fault, out};

pub(crate) async fn set(session: &Session, args: &LimitSetArgs) -> Outcome {
    let client = &session.client;
    let directory = Directory::load(client).await?;
    let limit = NewLimit {
        asset_id: directory.asset(&args.asset)?.asset.id,
        min_mw: args.min,
        max_mw: args.max,
        duration_s: args.duration.map(|it| it.as_secs_f64()),
    };
    let limit = client.set_limit(&limit).await;
    let limit = limit.map_err(|error| fault::of(&error))?;
    print(session, &directory, &limit)
}

pub(crate) async fn remove(session: &Session, id: &str) -> Outcome {
    let client = &session.client;
    let id = names::limit(client, id).await?;
    let limit = client.remove_limit(id).await;
    let limit = limit.map_err(|error| fault::of(&error))?;
    print(session, &Directory::load(client).await?, &limit)
}

fn print(session: &Session, directory: &Directory, limit: &PowerLimit) -> Outcome {
    if session.json {
        return out::json(limit);
    }
    let mut facts = Facts::default();
    facts.add("id", limit.id.to_string());
    facts.add("asset", directory.asset_name(limit.asset_id));
    facts.add("bounds", bounds(limit));
    let end = limit.expires_at.map(time);
    facts.add(
        "holds until",
        end.unwrap_or_else(|| "it is removed".to_owned()),
    );
    facts.add("status", word(&limit.status));
    facts.add_some("why", limit.text.clone());
    facts.add_some("by", limit.principal.clone());
    facts.print()
}

pub(crate) async fn list(session: &Session, args: &LimitListArgs) -> Outcome {
    let client = &session.client;
    let directory = Directory::load(client).await?;
    let target = &args.target;
    let place = directory.place(target.asset.as_deref(), target.site.as_deref())?;
    let limits = if args.history {
        let query = within!(LimitHistoryQuery::new(), &args.window);
        first(client.limits_history(at!(query, place)), args.window.limit).await?
    } else {
        let limits = match place {
            Some(Place::Asset(asset)) => client.limits_of(asset).await,
            Some(Place::Site(site)) => client.limits_of_site(site).await,
            None => client.limits().await,
        };
        limits.map_err(|error| fault::of(&error))?
    };
    if session.json {
        return out::json(&limits);
    }
    let heading = [
        "SET",
        "ASSET",
        "BOUNDS",
        "HOLDS UNTIL",
        "STATUS",
        "WHY",
        "BY",
        "ID",
    ];
    let mut table = Table::new(&heading, "no limits");
    for it in limits {
        let tone = match it.status {
            LimitStatus::NotObeyed | LimitStatus::Refused => Tone::Bad,
            LimitStatus::Pending => Tone::Doubtful,
            status if status.has_ended() => Tone::Past,
            _ => Tone::Plain,
        };
        table.row(
            tone,
            [
                time(it.created_at),
                directory.asset_name(it.asset_id),
                bounds(&it),
                or_nothing(it.ended_at().or(it.expires_at), time),
                word(&it.status),
                or_nothing(it.text, |text| text),
                or_nothing(it.principal, |name| name),
                it.id.to_string(),
            ],
        );
    }
    table.print()
}

fn bounds(limit: &PowerLimit) -> String {
    match (limit.min_mw, limit.max_mw) {
        (Some(min), Some(max)) => format!("{} to {}", power(min), power(max)),
        (Some(min), None) => format!("at least {}", power(min)),
        (None, Some(max)) => format!("at most {}", power(max)),
        (None, None) => "none".to_owned(),
    }
}
