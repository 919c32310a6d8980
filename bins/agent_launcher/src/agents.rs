//! One `edge_agent` process per asset, or per site.

use derms_client::proto::AgentId;
use derms_program::Failure;
use tokio::process::Command;

use crate::children::{Children, Role, spawn};
use crate::config::Config;
use crate::pki::Pki;
use crate::siblings::Siblings;

/// What would make an agent serve something else than it is told to here.
const NOT_PASSED_ON: [&str; 19] = [
    "AGENT_CERT",
    "AGENT_KEY",
    "AGENT_TOKEN_FILE",
    "AGENT_ID",
    "ASSET_ID",
    "ASSET_NAME",
    "ASSET_TYPE",
    "ASSET_MAX_MW",
    "ASSET_MIN_MW",
    "ASSET_CAPACITY_MWHR",
    "ASSET_EFFICIENCY",
    "ASSET_RAMP_RATE_MW_PER_MIN",
    "ASSET_MIN_SOC_PCT",
    "ASSET_MAX_SOC_PCT",
    "ASSET_DEFAULT_MW",
    "ASSET_FAILSAFE",
    "ASSET_FAILSAFE_AFTER_S",
    "GATEWAY_SITE_ID",
    "DERMS_STATE_DIR",
];

/// An agent that is to be started: its name for people, and what it serves.
type Agent = (String, [String; 2], AgentId);

/// Starts them all; those that were started are in `children` even when one fails.
pub(crate) fn start(
    config: &Config,
    siblings: &Siblings,
    headend: &str,
    pki: Option<&Pki>,
    children: &mut Children,
) -> Result<usize, Failure> {
    let agents = plan(config);
    for (name, serves, agent) in &agents {
        let mut command = Command::new(siblings.path("edge_agent"));
        command
            .arg("--assets")
            .arg(&config.assets)
            .args(serves)
            .args(["--headend", headend])
            .args([
                "--log-format",
                config.log_format.as_str(),
                "--exit-with-parent",
            ]);
        if let (Some(dir), [_, id]) = (&config.state_dir, serves) {
            command.arg("--state-dir").arg(dir.join(id));
        }
        if let Some(pki) = pki {
            command.args(pki.of_agent(*agent));
        }
        for variable in NOT_PASSED_ON {
            command.env_remove(variable);
        }
        let child = spawn(&mut command)
            .map_err(|error| Failure::start(format!("can't start the agent of {name}: {error}")))?;
        children.add(Role::Agent, name.clone(), child);
    }
    Ok(agents.len())
}

/// Who the agents are.
pub(crate) fn ids(config: &Config) -> Vec<AgentId> {
    plan(config).into_iter().map(|(.., agent)| agent).collect()
}

fn plan(config: &Config) -> Vec<Agent> {
    let fleet = &config.fleet;
    if config.gateway {
        fleet
            .sites()
            .iter()
            .filter(|site| fleet.assets_of(site.id).next().is_some())
            .map(|site| {
                (
                    site.name.clone(),
                    ["--site-id".to_owned(), site.id.to_string()],
                    site.id.into(),
                )
            })
            .collect()
    } else {
        fleet
            .assets()
            .iter()
            .map(|asset| {
                (
                    asset.name.clone(),
                    ["--asset-id".to_owned(), asset.id.to_string()],
                    asset.agent_id.unwrap_or_else(|| asset.id.into()),
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn names(args: &[&str]) -> Vec<String> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets.yaml");
        let args = ["agent_launcher", "--assets", file]
            .into_iter()
            .chain(args.iter().copied());
        let config = Config::parse(args.map(OsString::from)).unwrap();
        plan(&config).into_iter().map(|(name, ..)| name).collect()
    }

    #[test]
    fn each_asset_has_an_agent_and_with_gateway_each_site() {
        assert_eq!(names(&[]).len(), 11);
        assert_eq!(names(&[])[0], "BESS-1");
        assert_eq!(names(&["--gateway"]), ["Jersey", "Newark", "Trenton"]);
    }
}
