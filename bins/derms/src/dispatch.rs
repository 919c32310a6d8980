//! Orders that were given: show, list, cancel.

use std::time::Duration;

use derms_client::DispatchHistoryQuery;
use derms_client::proto::{Dispatch, DispatchStatus, FollowUp};

use crate::args::DispatchListArgs;
use crate::connection::Session;
use crate::lists::{at, first, within};
use crate::names::{self, Directory};
use crate::table::{Facts, Table, Tone};
use crate::words::{directed, fine_time, or_nothing, power, seconds, time, word};
use crate::{Outcome, fault, out};

/// How long a cancel is waited for: what is connected answers at once.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

pub(crate) async fn show(session: &Session, id: &str) -> Outcome {
    let client = &session.client;
    let id = names::dispatch(client, id).await?;
    let order = client.get_dispatch(id).await;
    let order = order.map_err(|error| fault::of(&error))?;
    print(session, &order).await
}

pub(crate) async fn cancel(session: &Session, id: &str) -> Outcome {
    let client = &session.client;
    let id = names::dispatch(client, id).await?;
    let order = client.cancel_within(id, CANCEL_WAIT).await;
    let order = order.map_err(|error| fault::of(&error))?;
    print(session, &order).await
}

async fn print(session: &Session, order: &Dispatch) -> Outcome {
    if session.json {
        return out::json(order);
    }
    print_whole(&Directory::load(&session.client).await?, order)
}

pub(crate) async fn list(session: &Session, filter: &DispatchListArgs) -> Outcome {
    let client = &session.client;
    let directory = Directory::load(client).await?;
    let query = within!(DispatchHistoryQuery::new(), &filter.window);
    let target = &filter.target;
    let target = directory.place(target.asset.as_deref(), target.site.as_deref())?;
    let mut query = at!(query, target);
    if let Some(status) = filter.status {
        query = query.status(status);
    }
    let orders = first(client.dispatch_history(query), filter.window.limit).await?;
    if session.json {
        return out::json(&orders);
    }
    let heading = [
        "ORDERED", "FOR", "POWER", "LASTS", "STATUS", "WHY", "BY", "ID",
    ];
    let mut table = Table::new(&heading, "no orders of this kind");
    for it in &orders {
        table.row(
            tone(it),
            [
                time(it.created_at),
                place(&directory, it),
                shown_power(&directory, it),
                or_nothing(it.duration_s, seconds),
                status(it),
                or_nothing(why(it), |why| why),
                or_nothing(it.principal.clone(), |name| name),
                it.id.to_string(),
            ],
        );
    }
    table.print()
}

/// Everything of an order: what, where it stands, its steps, and its shares.
pub(crate) fn print_whole(directory: &Directory, order: &Dispatch) -> Outcome {
    let mut facts = Facts::default();
    facts.add("id", order.id.to_string());
    let what = format!(
        "{} at {}",
        shown_power(directory, order),
        place(directory, order)
    );
    facts.add("order", what);
    facts.add("status", status(order));
    facts.add_some("why", why(order));
    facts.add_some("applied", order.applied_mw.map(power));
    facts.add_some(
        "follows",
        order
            .following
            .map(|it| if it { "yes" } else { "no" }.to_owned()),
    );
    facts.add_some(
        "held to",
        order.limited_to.as_ref().map(|range| {
            format!(
                "{} to {} by limits",
                power(range.min_mw),
                power(range.max_mw)
            )
        }),
    );
    facts.add_some("begins", order.start_at.map(time));
    let lease = order.duration_s.map(seconds);
    let lease = lease.map(|lease| format!("{lease}, then {}", follow_up(order.follow_up)));
    facts.add(
        "lasts",
        lease.unwrap_or_else(|| "until another order or a cancel".to_owned()),
    );
    facts.add_some("by", order.principal.clone());
    facts.add_some("cancelled", order.cancel_requested_at.map(fine_time));
    facts.add_some("share of", order.parent_id.map(|id| id.to_string()));
    if let Some(split) = &order.split {
        facts.add("residual", power(split.residual_mw));
        for it in &split.excluded {
            facts.add("left out", format!("{}: {}", it.name, word(&it.reason)));
        }
    }
    let mut text = facts.text();
    if !order.children.is_empty() {
        text.push_str(&format!("\n{}", shares(directory, order)));
    }
    if !order.transitions.is_empty() {
        text.push_str(&format!("\n{}", steps(order)));
    }
    out::print(&text)
}

fn shares(directory: &Directory, order: &Dispatch) -> String {
    let mut table = Table::new(&["ASSET", "POWER", "STATUS", "APPLIED", "WHY", "ID"], "");
    for it in &order.children {
        table.row(
            tone(it),
            [
                place(directory, it),
                shown_power(directory, it),
                status(it),
                or_nothing(it.applied_mw, power),
                or_nothing(why(it), |why| why),
                it.id.to_string(),
            ],
        );
    }
    table.text()
}

fn steps(order: &Dispatch) -> String {
    let mut table = Table::new(&["AT", "STATUS", "APPLIED", "WHY"], "");
    for it in &order.transitions {
        table.row(
            Tone::Plain,
            [
                fine_time(it.reported_at.unwrap_or(it.at)),
                word(&it.status),
                or_nothing(it.applied_mw, power),
                or_nothing(
                    joined(it.reason.map(|it| word(&it)), it.text.clone()),
                    |why| why,
                ),
            ],
        );
    }
    table.text()
}

pub(crate) fn place(directory: &Directory, order: &Dispatch) -> String {
    match order.asset_id {
        Some(id) => directory.asset_name(id),
        None => format!("site {}", directory.site_name(order.site_id)),
    }
}

pub(crate) fn shown_power(directory: &Directory, order: &Dispatch) -> String {
    let asset = order.asset_id.and_then(|id| directory.configured(id));
    directed(order.mw, asset.map(|asset| asset.kind))
}

pub(crate) fn status(order: &Dispatch) -> String {
    let doubt = if order.in_doubt { ", in doubt" } else { "" };
    let asked = order.cancel_requested_at.is_some() && !order.status.is_terminal();
    let asked = if asked { ", cancel asked for" } else { "" };
    format!("{}{doubt}{asked}", word(&order.status))
}

pub(crate) fn why(order: &Dispatch) -> Option<String> {
    joined(order.reason.map(|it| word(&it)), order.text.clone())
}

fn joined(reason: Option<String>, text: Option<String>) -> Option<String> {
    match (reason, text) {
        (Some(reason), Some(text)) => Some(format!("{reason}: {text}")),
        (reason, text) => reason.or(text),
    }
}

fn follow_up(follow_up: FollowUp) -> String {
    match follow_up {
        FollowUp::Default => "the default".to_owned(),
        FollowUp::Value(mw) => power(mw),
        FollowUp::Hold => "it stays as it is".to_owned(),
        _ => "what this program does not know".to_owned(),
    }
}

fn tone(order: &Dispatch) -> Tone {
    match order.status {
        _ if order.in_doubt || order.following == Some(false) => Tone::Doubtful,
        DispatchStatus::Failed | DispatchStatus::Rejected | DispatchStatus::Indeterminate => {
            Tone::Bad
        }
        DispatchStatus::Expired => Tone::Doubtful,
        status if status.is_terminal() => Tone::Past,
        _ => Tone::Plain,
    }
}
