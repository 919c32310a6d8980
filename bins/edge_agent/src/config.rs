//! What the agent is to do, checked; a mistake is one line that says what to change.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use derms_agent_sdk::ClientTls;
use derms_agent_sdk::proto::{
    AgentId, Asset, AssetId, AssetKind, Failsafe, Fleet, Power, Site, SiteId,
};
use derms_program::{Failure, LogFormat, Stop};
use http::Uri;

use crate::args::{Args, AssetArgs, CheckArgs, Command, KindArg, SecurityArgs};
use crate::metrics;

/// A checked configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) headend: Uri,
    pub(crate) agent_id: AgentId,
    /// What people call it: the name of its asset, or of its site as a gateway.
    pub(crate) name: String,
    /// Never empty.
    pub(crate) assets: Vec<Asset>,
    /// Its fleet file and site, if it is a gateway: read again when it is told to.
    pub(crate) gateway: Option<(PathBuf, SiteId)>,
    /// `None`: all is kept in memory.
    pub(crate) state_dir: Option<PathBuf>,
    /// Of samples, bytes; `None`: as the SDK has it.
    pub(crate) outbox_bytes: Option<usize>,
    /// The same of their age.
    pub(crate) outbox_age: Option<Duration>,
    /// `None`: no TLS.
    pub(crate) tls: Option<ClientTls>,
    /// `None`: it shows no token.
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) seed: u64,
    /// `None`: devices never fail.
    pub(crate) faults_dir: Option<PathBuf>,
    /// `None`: nobody can read the metrics.
    pub(crate) metrics_addr: Option<SocketAddr>,
    pub(crate) log_format: LogFormat,
    pub(crate) exit_with_parent: bool,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Run an agent.
    Run(Box<Config>),
    /// Look at what it needs.
    Check {
        args: CheckArgs,
        /// What is wrong with it is one of the things to be told.
        config: Result<Box<Config>, String>,
        log_format: LogFormat,
    },
}

impl Job {
    /// From the arguments (the program's name first) and the environment.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Stop> {
        let mut args: Args = derms_program::parse(args)?;
        let (command, log_format) = (args.command.take(), args.log.log_format);
        let config = Config::check(args).map(Box::new);
        Ok(match command {
            Some(Command::Check(args)) => Self::Check {
                args,
                config,
                log_format,
            },
            None => Self::Run(config.map_err(Failure::configuration)?),
        })
    }
}

impl Config {
    fn check(args: Args) -> Result<Self, String> {
        let Served {
            name,
            assets,
            agent_id,
            gateway,
        } = served(&args)?;
        let address = args.metrics_addr;
        if let Some(refusal) =
            address.and_then(|address| metrics::refusal(address, args.insecure_metrics))
        {
            return Err(refusal);
        }
        let tls = tls(&args.headend, &args.security);
        Ok(Self {
            tls,
            token_file: args.security.token_file,
            headend: args.headend,
            agent_id: args.agent_id.unwrap_or(agent_id),
            name,
            assets,
            gateway,
            state_dir: args.state_dir,
            outbox_bytes: args
                .outbox_mib
                .map(|mib| (mib as usize).saturating_mul(1 << 20)),
            outbox_age: args
                .outbox_hours
                .map(|hours| Duration::from_secs(hours * 3_600)),
            seed: args.seed,
            faults_dir: args.faults_dir,
            metrics_addr: args.metrics_addr,
            log_format: args.log.log_format,
            exit_with_parent: args.exit_with_parent,
        })
    }
}

/// Whatever is given for TLS asks for it: the agent is not built for `http` then.
fn tls(headend: &Uri, args: &SecurityArgs) -> Option<ClientTls> {
    let given = args.ca.is_some() || args.cert.is_some() || args.server_name.is_some();
    let mut tls = (given || headend.scheme_str() == Some("https")).then(ClientTls::new)?;
    if let Some(ca) = &args.ca {
        tls = tls.ca(ca);
    }
    if let (Some(certificate), Some(key)) = (&args.cert, &args.key) {
        tls = tls.certificate(certificate, key);
    }
    if let Some(name) = &args.server_name {
        tls = tls.server_name(name);
    }
    Some(tls)
}

struct Served {
    name: String,
    assets: Vec<Asset>,
    /// Unless another was chosen.
    agent_id: AgentId,
    gateway: Option<(PathBuf, SiteId)>,
}

impl Served {
    fn one(asset: &Asset) -> Self {
        Self {
            name: asset.name.clone(),
            agent_id: asset.agent_id.unwrap_or_else(|| asset.id.into()),
            assets: vec![asset.clone()],
            gateway: None,
        }
    }
}

fn served(args: &Args) -> Result<Served, String> {
    match (args.asset_id, args.site_id, args.asset.given()) {
        (Some(asset), site, Some(flag)) => {
            if let Some(file) = &args.assets {
                return Err(format!(
                    "the asset is described by {flag} and by the fleet file {}; \
                     leave out one of them (--assets or ASSETS_PATH)",
                    file.display()
                ));
            }
            described(&args.asset, asset, site)
        }
        (None, _, Some(flag)) => Err(format!(
            "{flag} describes an asset without a fleet file; say which with --asset-id (ASSET_ID)"
        )),
        (Some(asset), site, None) => from_file(args.assets.clone(), asset, site),
        (None, Some(site), None) => gateway(args.assets.clone(), site),
        (None, None, None) => Err(
            "nothing to serve; name an asset with --asset-id (ASSET_ID) \
             or a site with --site-id (GATEWAY_SITE_ID)"
                .to_owned(),
        ),
    }
}

fn load(file: Option<PathBuf>) -> Result<(Fleet, PathBuf), String> {
    let file = file.unwrap_or_else(|| PathBuf::from("assets.yaml"));
    let fleet = Fleet::load(&file).map_err(|error| error.to_string())?;
    Ok((fleet, file))
}

fn from_file(file: Option<PathBuf>, id: AssetId, site: Option<SiteId>) -> Result<Served, String> {
    let (fleet, file) = load(file)?;
    let asset = fleet
        .asset(id)
        .ok_or_else(|| not_there("--asset-id", "asset", id, &file))?;
    if let Some(site) = site.filter(|site| *site != asset.site_id) {
        return Err(format!(
            "--site-id {site} is not the site of asset `{}`; write {} or leave it out",
            asset.name, asset.site_id
        ));
    }
    Ok(Served::one(asset))
}

fn gateway(file: Option<PathBuf>, id: SiteId) -> Result<Served, String> {
    let (fleet, file) = load(file)?;
    let site = fleet
        .site(id)
        .ok_or_else(|| not_there("--site-id", "site", id, &file))?;
    let assets: Vec<Asset> = fleet.assets_of(id).cloned().collect();
    if assets.is_empty() {
        return Err(format!(
            "site `{}` has no assets in {}; add one or name another site",
            site.name,
            file.display()
        ));
    }
    Ok(Served {
        name: site.name.clone(),
        assets,
        agent_id: id.into(),
        gateway: Some((file, id)),
    })
}

/// The assets of a gateway as its fleet file has them now.
pub(crate) fn assets_of(file: &Path, site: SiteId) -> Result<Vec<Asset>, String> {
    gateway(Some(file.to_owned()), site).map(|served| served.assets)
}

fn not_there(flag: &str, what: &str, id: impl std::fmt::Display, file: &Path) -> String {
    format!(
        "{flag} {id}: no {what} of {} has this id; name one of its ids",
        file.display()
    )
}

fn described(args: &AssetArgs, id: AssetId, site: Option<SiteId>) -> Result<Served, String> {
    let missing = |flag: &str, env: &str| {
        format!("an asset without a fleet file needs {flag} ({env}) too; add it")
    };
    let site = site.ok_or_else(|| missing("--site-id", "GATEWAY_SITE_ID"))?;
    let max_mw = args
        .max_mw
        .ok_or_else(|| missing("--max-mw", "ASSET_MAX_MW"))?;
    let min_mw = args
        .min_mw
        .ok_or_else(|| missing("--min-mw", "ASSET_MIN_MW"))?;
    let mut asset = Asset::new(
        id,
        args.name.clone().unwrap_or_else(|| id.to_string()),
        site,
        args.kind.map_or(AssetKind::Other, KindArg::kind),
        Power::from_mw(min_mw),
        Power::from_mw(max_mw),
    );
    let set = |field: &mut f64, value: Option<f64>| *field = value.unwrap_or(*field);
    set(&mut asset.capacity_mwhr, args.capacity_mwhr);
    set(&mut asset.efficiency, args.efficiency);
    set(&mut asset.min_soc_pct, args.min_soc_pct);
    set(&mut asset.max_soc_pct, args.max_soc_pct);
    asset.ramp_rate_mw_per_min = args.ramp_rate_mw_per_min;
    asset.default_mw = args.default_mw.map_or(asset.default_mw, Power::from_mw);
    asset.failsafe = Failsafe {
        policy: args.failsafe.unwrap_or_default(),
        after_s: args.failsafe_after_s.unwrap_or(asset.failsafe.after_s),
        min_hold_s: args.failsafe_min_hold_s.unwrap_or_default(),
    };
    let site = Site {
        id: site,
        name: String::new(),
        location: String::new(),
    };
    // The same rules as for a fleet file.
    Fleet::new(vec![site], vec![asset.clone()]).map_err(|error| error.to_string())?;
    Ok(Served::one(&asset))
}

impl KindArg {
    fn kind(self) -> AssetKind {
        match self {
            Self::Battery => AssetKind::Battery,
            Self::Pv => AssetKind::Pv,
            Self::Wind => AssetKind::Wind,
            Self::EvCharger => AssetKind::EvCharger,
            Self::Meter => AssetKind::Meter,
            Self::Genset => AssetKind::Genset,
            Self::Other => AssetKind::Other,
        }
    }
}

#[cfg(test)]
mod tests;
