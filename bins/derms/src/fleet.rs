//! Assets, sites and agents.

use derms_client::HistoryQuery;
use derms_client::proto::{AssetStatus, ControlStatus, Failsafe, FailsafePolicy};

use crate::args::AgentArgs;
use crate::connection::Session;
use crate::lists::{first, within};
use crate::names::Directory;
use crate::table::{Facts, Table, Tone};
use crate::words::{directed, few, or_nothing, power, seconds, time, word};
use crate::{Outcome, fault, out};

pub(crate) async fn assets(session: &Session, asset: Option<&str>) -> Outcome {
    let client = &session.client;
    if let Some(asset) = asset {
        let directory = Directory::load(client).await?;
        let asset = directory.asset(asset)?;
        return if session.json {
            out::json(asset)
        } else {
            facts(asset).print()
        };
    }
    let assets = client.assets().await.map_err(|error| fault::of(&error))?;
    if session.json {
        return out::json(&assets);
    }
    let heading = [
        "NAME", "SITE", "TYPE", "RANGE", "AGENT", "CONTROL", "HELD BY", "ID",
    ];
    let mut table = Table::new(&heading, "no assets");
    for it in &assets {
        let tone = if !it.connected {
            Tone::Doubtful
        } else if it.stopped {
            Tone::Bad
        } else {
            Tone::Plain
        };
        let control = it.control.as_ref();
        table.row(
            tone,
            [
                it.asset.name.clone(),
                it.site_name.clone(),
                word(&it.asset.kind),
                range(it),
                link(it.connected).to_owned(),
                or_nothing(control, |control| controlled(it, control)),
                held(it),
                it.asset.id.to_string(),
            ],
        );
    }
    table.print()
}

fn facts(it: &AssetStatus) -> Facts {
    let mut facts = Facts::default();
    facts.add("name", &it.asset.name);
    facts.add("id", it.asset.id.to_string());
    facts.add("type", word(&it.asset.kind));
    facts.add("site", format!("{} ({})", it.site_name, it.location));
    facts.add("range", range(it));
    facts.add("capacity", format!("{} MWh", it.asset.capacity_mwhr));
    let ramp = it.asset.ramp_rate_mw_per_min;
    facts.add_some("ramp", ramp.map(|ramp| format!("{ramp} MW/min")));
    facts.add(
        "default",
        directed(it.asset.default_mw, Some(it.asset.kind)),
    );
    facts.add("failsafe", failsafe(&it.asset.failsafe));
    facts.add("agent", link(it.connected));
    facts.add_some("last seen", it.last_seen.map(time));
    facts.add_some("availability", it.availability.map(|it| word(&it)));
    facts.add_some(
        "control",
        it.control.as_ref().map(|control| controlled(it, control)),
    );
    facts.add("held by", held(it));
    facts
}

fn range(it: &AssetStatus) -> String {
    let (min, max) = (it.asset.min_mw, it.asset.max_mw);
    format!("{} to {}", crate::words::number(min.mw()), power(max))
}

fn failsafe(failsafe: &Failsafe) -> String {
    let policy = match failsafe.policy {
        FailsafePolicy::Value(mw) => power(mw),
        other => word(&other),
    };
    format!(
        "{policy} after {} without the headend",
        seconds(failsafe.after().as_secs_f64())
    )
}

fn link(connected: bool) -> &'static str {
    if connected { "online" } else { "offline" }
}

/// What has put the asset where it is, and where.
fn controlled(it: &AssetStatus, control: &ControlStatus) -> String {
    let source = word(&control.source);
    match control.mw {
        Some(mw) => format!("{source} {}", directed(mw, Some(it.asset.kind))),
        None => source,
    }
}

fn held(it: &AssetStatus) -> String {
    let limits = match it.limits.len() {
        0 => None,
        1 => Some("1 limit".to_owned()),
        many => Some(format!("{many} limits")),
    };
    let stop = it.stopped.then(|| "stop".to_owned());
    let all: Vec<String> = stop.into_iter().chain(limits).collect();
    or_nothing((!all.is_empty()).then_some(all), |all| all.join(", "))
}

pub(crate) async fn sites(session: &Session) -> Outcome {
    let directory = Directory::load(&session.client).await?;
    if session.json {
        return out::json(&directory.sites);
    }
    let mut table = Table::new(
        &["NAME", "LOCATION", "POWER", "MEASURED", "ONLINE", "ID"],
        "no sites",
    );
    for it in &directory.sites {
        let online = it.assets.iter().filter(|asset| asset.connected).count();
        let whole = online == it.assets.len();
        table.row(
            if whole { Tone::Plain } else { Tone::Doubtful },
            [
                it.site.name.clone(),
                it.site.location.clone(),
                or_nothing(it.mw, |mw| directed(mw, None)),
                format!("{} of {}", it.mw_assets, it.assets.len()),
                format!("{online} of {}", it.assets.len()),
                it.site.id.to_string(),
            ],
        );
    }
    table.print()
}

pub(crate) async fn agents(session: &Session, args: &AgentArgs) -> Outcome {
    if args.history {
        return sessions(session, args).await;
    }
    let client = &session.client;
    let agents = if args.all {
        client.agents_all().await
    } else {
        client.agents().await
    };
    let agents = agents.map_err(|error| fault::of(&error))?;
    if session.json {
        return out::json(&agents);
    }
    let heading = [
        "AGENT",
        "MODE",
        "SITE",
        "ASSETS",
        "PEER",
        "SINCE",
        "LAST SEEN",
        "VERSION",
    ];
    let mut table = Table::new(&heading, "no agent is connected");
    for it in agents {
        let tone = if it.connected {
            Tone::Plain
        } else {
            Tone::Doubtful
        };
        table.row(
            tone,
            [
                or_nothing(it.agent_id, |id| id.to_string()),
                or_nothing(it.mode, |mode| word(&mode)),
                or_nothing(it.site_name.clone(), |name| name),
                few(it.assets.iter().map(|it| it.name.clone())),
                or_nothing(it.peer, |peer| peer),
                or_nothing(it.connected_at, time),
                or_nothing(it.last_seen, time),
                or_nothing(it.agent_version, |version| version),
            ],
        );
    }
    table.print()
}

async fn sessions(session: &Session, args: &AgentArgs) -> Outcome {
    let query = within!(HistoryQuery::new(), &args.window);
    let list = first(session.client.agents_history(query), args.window.limit).await?;
    if session.json {
        return out::json(&list);
    }
    let directory = Directory::load(&session.client).await?;
    let heading = [
        "CONNECTED",
        "DISCONNECTED",
        "CAUSE",
        "ASSETS",
        "AGENT",
        "WHY",
    ];
    let mut table = Table::new(&heading, "no sessions in this time");
    for it in list {
        table.row(
            if it.disconnected_at.is_some() {
                Tone::Past
            } else {
                Tone::Plain
            },
            [
                time(it.connected_at),
                or_nothing(it.disconnected_at, time),
                or_nothing(it.cause, |cause| word(&cause)),
                few(it.assets.iter().map(|id| directory.asset_name(*id))),
                it.agent_id.to_string(),
                or_nothing(it.text, |text| text),
            ],
        );
    }
    table.print()
}
