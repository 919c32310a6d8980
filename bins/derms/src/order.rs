//! Giving an order: preview, question, order, and the wait for it.

use std::time::Duration;

use derms_client::DispatchOptions;
use derms_client::proto::{
    Asset, AssetStatus, Dispatch, DispatchPreview, DispatchStatus, NewDispatch, Power,
    PreviewShare, SplitSummary,
};
use derms_program::{Failure, Stop};
use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use crate::args::OrderArgs;
use crate::connection::Session;
use crate::names::{Directory, Place};
use crate::table::{Facts, Table, Tone};
use crate::words::{clean, directed, or_nothing, power, seconds, time, word};
use crate::{Outcome, ask, dispatch, fault, out};

/// Less than this is no difference: a split is exact to 1e-9 MW.
const SAME_MW: f64 = 1e-6;

pub(crate) async fn give(session: &Session, args: &OrderArgs) -> Outcome {
    let client = &session.client;
    if args.mw.is_none() {
        return Err(usage());
    }
    if !args.preview {
        ask::somebody_or(args.yes)?;
    }
    let directory = Directory::load(client).await?;
    let order = order(args, &directory)?;
    let preview = client.preview(&order).await;
    let preview = preview.map_err(|error| fault::of(&error))?;
    if args.preview && session.json {
        return out::json(&preview);
    }
    let text = preview_text(&directory, &order, &preview);
    if args.preview {
        return out::print(&text);
    }
    if session.json {
        // What is on stdout is for a program; whoever is asked reads this.
        if !args.yes {
            tell(&text);
        }
    } else {
        out::print(&text)?;
    }
    if !args.yes {
        ask::confirmed("apply? [y/N]", &["y", "Y", "yes"])?;
    }
    let key = args.idempotency_key.clone();
    let key = key.unwrap_or_else(|| Uuid::now_v7().to_string());
    tell(&format!("idempotency key {key}\n"));
    let options = DispatchOptions::new().idempotency_key(&key);
    let given = client.dispatch_with(&order, options).await;
    let mut given = given.map_err(|error| fault::of_order(&error, &key))?;
    if args.wait {
        given = wait(session, given).await?;
    }
    if session.json {
        out::json(&given)?;
    } else {
        dispatch::print_whole(&directory, &given)?;
    }
    match given.status {
        status if !args.wait || is_done(status) => Ok(()),
        status => {
            let text = format!("the order was not applied: it ended as {}", word(&status));
            Err(Failure::start(text).into())
        }
    }
}

fn usage() -> Stop {
    Failure::configuration(
        "say for what and how much, like `derms dispatch --asset BESS-1 5 --duration 15m`; or `show` \
         or `list`",
    )
    .into()
}

fn order(args: &OrderArgs, directory: &Directory) -> Outcome<NewDispatch> {
    let mw = args.mw.ok_or_else(usage)?;
    let place = directory.place(args.asset.as_deref(), args.site.as_deref())?;
    let mut order = match place.ok_or_else(usage)? {
        Place::Asset(asset) => NewDispatch::asset(asset, mw),
        Place::Site(site) => NewDispatch::site(site, mw),
    };
    order.duration_s = args.duration.map(|it| it.as_secs_f64());
    order.ttl_s = args.ttl.map(|it| it.as_secs_f64());
    order.start_at = args.start_at;
    order.ramp_mw_per_min = args.ramp;
    order.split_policy = args.policy.map(Into::into);
    order.rebalance = args.rebalance;
    Ok(order)
}

/// To whoever looks on; nothing else depends on it.
fn tell(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

fn preview_text(directory: &Directory, order: &NewDispatch, preview: &DispatchPreview) -> String {
    let kind = preview.asset_id.and_then(|id| directory.configured(id));
    let kind = kind.map(|asset| asset.kind);
    let place = match preview.asset_id {
        Some(id) => directory.asset_name(id),
        None => format!("site {}", directory.site_name(preview.site_id)),
    };
    let mut facts = Facts::default();
    facts.add(
        "order",
        format!("{} at {place}", directed(preview.mw, kind)),
    );
    facts.add(
        "begins",
        order.start_at.map_or_else(|| "at once".to_owned(), time),
    );
    let lease = preview.duration_s.map(seconds);
    let lease = lease.map(|lease| format!("{lease}, then the default"));
    facts.add(
        "lasts",
        lease.unwrap_or_else(|| "until another order or a cancel".to_owned()),
    );
    facts.add(
        "waits",
        format!("at most {} for its agent", seconds(preview.ttl_s)),
    );
    if let Some(split) = &preview.split {
        split_facts(&mut facts, split);
    }
    let mut table = Table::new(
        &["ASSET", "POWER", "RANGE", "SENT", "NOTE", "IN PLACE OF"],
        "no asset would take part",
    );
    for share in &preview.assets {
        let asset = directory.assets().find(|it| it.asset.id == share.asset_id);
        let kind = asset.map(|it| it.asset.kind);
        let note = asset.and_then(|it| note(it, share.mw));
        table.row(
            if note.is_some() || !share.online {
                Tone::Doubtful
            } else {
                Tone::Plain
            },
            [
                directory.asset_name(share.asset_id),
                directed(share.mw, kind),
                or_nothing(asset, |it| range(&it.asset)),
                sent(order, share).to_owned(),
                or_nothing(note, |note| note),
                superseded(share),
            ],
        );
    }
    format!("{}\n{}", facts.text(), table.text())
}

fn split_facts(facts: &mut Facts, split: &SplitSummary) {
    let rebalance = if split.rebalance {
        ", shared anew when an asset drops out"
    } else {
        ""
    };
    facts.add("shared", format!("by {}{rebalance}", word(&split.policy)));
    let residual = split.residual_mw;
    if residual.mw().abs() > SAME_MW {
        facts.add(
            "residual",
            format!("{}: no asset has room for it", power(residual)),
        );
    } else {
        facts.add("residual", "0 MW");
    }
    for it in &split.excluded {
        facts.add("left out", format!("{}: {}", it.name, word(&it.reason)));
    }
}

fn sent(order: &NewDispatch, share: &PreviewShare) -> &'static str {
    match (share.online, order.start_at.is_some()) {
        (true, false) => "at once",
        (true, true) => "ahead of its time",
        (false, _) => "when its agent is back",
    }
}

fn superseded(share: &PreviewShare) -> String {
    let orders: Vec<String> = share
        .supersedes
        .iter()
        .map(|it| {
            let ends = it.ends.map(|at| format!(" to {}", time(at)));
            format!(
                "{} ({} {}{})",
                it.id,
                power(it.mw),
                word(&it.status),
                ends.unwrap_or_default()
            )
        })
        .collect();
    or_nothing((!orders.is_empty()).then_some(orders), |all| all.join(", "))
}

fn range(asset: &Asset) -> String {
    let min = crate::words::number(asset.min_mw.mw());
    format!("{min} to {}", power(asset.max_mw))
}

/// What keeps the asset from doing what it would be ordered.
fn note(it: &AssetStatus, mw: Power) -> Option<String> {
    if it.stopped {
        return Some("stopped: takes no order".to_owned());
    }
    let bound = |pick: fn(f64, f64) -> f64, values: Vec<Power>| {
        values.into_iter().map(Power::mw).reduce(pick)
    };
    let max = bound(
        f64::min,
        it.limits.iter().filter_map(|it| it.max_mw).collect(),
    );
    let min = bound(
        f64::max,
        it.limits.iter().filter_map(|it| it.min_mw).collect(),
    );
    let near = |bound: f64| (mw.mw() - bound).abs() < SAME_MW;
    if let Some(max) = max.filter(|max| mw.mw() > *max) {
        return Some(format!(
            "a limit holds it at {}",
            power(Power::from_mw(max))
        ));
    }
    if let Some(min) = min.filter(|min| mw.mw() < *min) {
        return Some(format!(
            "a limit holds it at {}",
            power(Power::from_mw(min))
        ));
    }
    let clamped = mw != Power::ZERO && (near(it.asset.max_mw.mw()) || near(it.asset.min_mw.mw()));
    clamped.then(|| "at the end of its range".to_owned())
}

/// In force, or over as it should be.
fn is_done(status: DispatchStatus) -> bool {
    matches!(status, DispatchStatus::Active | DispatchStatus::Completed)
}

/// Waits until an order is active or has ended; shows on a terminal where it stands.
async fn wait(session: &Session, mut given: Dispatch) -> Outcome<Dispatch> {
    let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}")
        .map_err(|error| Failure::start(format!("can't show progress: {error}")))?;
    // Draws on stderr, and nothing if that is no terminal.
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    while !given.status.is_terminal() && given.status != DispatchStatus::Active {
        bar.set_message(clean(&standing(&given)));
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = session.client.get_dispatch(given.id).await;
        given = now.map_err(|error| fault::of(&error))?;
    }
    bar.finish_and_clear();
    Ok(given)
}

fn standing(given: &Dispatch) -> String {
    let status = word(&given.status);
    match given.children.len() {
        0 => status,
        all => {
            let done = given
                .children
                .iter()
                .filter(|it| is_done(it.status))
                .count();
            format!("{status}, {done} of {all} shares active")
        }
    }
}

#[cfg(test)]
mod tests {
    use derms_client::proto::{AssetKind, LimitId, LimitStatus, PowerLimit, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn limit(min: Option<f64>, max: Option<f64>) -> PowerLimit {
        PowerLimit {
            id: LimitId::new(Uuid::nil()),
            asset_id: Uuid::nil().into(),
            site_id: Uuid::nil().into(),
            min_mw: min.map(Power::from_mw),
            max_mw: max.map(Power::from_mw),
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: None,
            principal: None,
            status: LimitStatus::InForce,
            reason: None,
            text: None,
            confirmed_at: None,
            removed_at: None,
            removed_by: None,
            revision: 1,
        }
    }

    fn asset(limits: Vec<PowerLimit>) -> AssetStatus {
        let (min, max) = (Power::from_mw(-10.0), Power::from_mw(10.0));
        let id = Uuid::nil();
        AssetStatus {
            asset: Asset::new(id.into(), "A", id.into(), AssetKind::Battery, min, max),
            site_name: "S".to_owned(),
            location: String::new(),
            connected: true,
            last_seen: None,
            control: None,
            limits,
            stopped: false,
            availability: None,
        }
    }

    #[test]
    fn the_tightest_limit_is_the_one_that_holds_an_order() {
        let it = asset(vec![limit(None, Some(5.0)), limit(Some(-2.0), Some(3.0))]);
        for (mw, words) in [
            (4.0, Some("a limit holds it at 3 MW")),
            (-4.0, Some("a limit holds it at -2 MW")),
            (3.0, None),
            (0.0, None),
        ] {
            assert_eq!(note(&it, Power::from_mw(mw)).as_deref(), words, "{mw}");
        }
    }

    #[test]
    fn a_share_at_the_end_of_its_range_and_a_stopped_asset_are_marked() {
        let mut it = asset(Vec::new());
        let words = Some("at the end of its range".to_owned());
        assert_eq!(note(&it, Power::from_mw(10.0)), words);
        assert_eq!(note(&it, Power::from_mw(-10.0)), words);
        assert_eq!(note(&it, Power::from_mw(9.9)), None);
        it.stopped = true;
        assert!(note(&it, Power::ZERO).unwrap().contains("stopped"));
    }
}
