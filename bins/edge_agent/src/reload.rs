//! A gateway reads its fleet file again when it is told to (SIGHUP): assets come, change and go while
//! all others go on.

use std::convert::Infallible;
use std::path::PathBuf;

use derms_agent_sdk::AgentHandle;
use derms_agent_sdk::proto::{Asset, AssetId, SiteId};
use derms_program::{Failure, Hangups, chain};

use crate::{Devices, config};

pub(crate) struct Reload {
    file: PathBuf,
    site: SiteId,
    served: Vec<Asset>,
    devices: Devices,
    hangups: Hangups,
}

#[derive(Debug, PartialEq)]
enum Change {
    Remove(AssetId),
    /// Or it has changed.
    Add(Box<Asset>),
}

impl Reload {
    /// From now on a SIGHUP does not end the program.
    pub(crate) fn new(
        file: PathBuf,
        site: SiteId,
        served: Vec<Asset>,
        devices: Devices,
    ) -> Result<Self, Failure> {
        Ok(Self {
            file,
            site,
            served,
            devices,
            hangups: Hangups::new()?,
        })
    }

    pub(crate) async fn run(mut self, handle: &AgentHandle) -> Infallible {
        loop {
            self.hangups.next().await;
            match config::assets_of(&self.file, self.site) {
                Ok(wanted) => self.apply(wanted, handle).await,
                Err(error) => {
                    tracing::error!(%error, "the fleet file is not taken; all goes on as it was");
                }
            }
        }
    }

    async fn apply(&mut self, wanted: Vec<Asset>, handle: &AgentHandle) {
        let changes = changes(&self.served, wanted);
        tracing::info!(changes = changes.len(), "fleet file read again");
        for change in changes {
            let (id, done) = match &change {
                Change::Remove(id) => (*id, handle.remove(*id).await),
                Change::Add(asset) => {
                    let device = self.devices.of(asset);
                    (asset.id, handle.add((**asset).clone(), device).await)
                }
            };
            if let Err(error) = done {
                tracing::error!(asset_id = %id, error = chain(&error), "an asset can't be changed; it stays as it was");
                continue;
            }
            self.served.retain(|asset| asset.id != id);
            if let Change::Add(asset) = change {
                self.served.push(*asset);
            }
        }
    }
}

fn changes(served: &[Asset], wanted: Vec<Asset>) -> Vec<Change> {
    let gone = served
        .iter()
        .filter(|asset| !wanted.iter().any(|wanted| wanted.id == asset.id));
    let mut changes: Vec<Change> = gone.map(|asset| Change::Remove(asset.id)).collect();
    let new = wanted.into_iter().filter(|asset| !served.contains(asset));
    changes.extend(new.map(|asset| Change::Add(Box::new(asset))));
    changes
}

#[cfg(test)]
mod tests {
    use derms_agent_sdk::proto::{AssetKind, Power};

    use super::*;

    #[test]
    fn only_what_differs_is_touched() {
        let id = |n: u32| format!("7ba7b810-9dad-11d1-80b4-00c04fd4300{n}");
        let asset = |n: u32, mw: f64| {
            let site = id(0).parse().expect("an id");
            let (min, max) = (Power::ZERO, Power::from_mw(mw));
            let id = id(n).parse().expect("an id");
            Asset::new(id, n.to_string(), site, AssetKind::Battery, min, max)
        };
        let served = [asset(1, 1.0), asset(2, 1.0), asset(3, 1.0)];
        let wanted = vec![asset(1, 1.0), asset(3, 2.0), asset(4, 1.0)];
        let found = changes(&served, wanted);
        let added = |asset| Change::Add(Box::new(asset));
        assert_eq!(
            found,
            [
                Change::Remove(served[1].id),
                added(asset(3, 2.0)),
                added(asset(4, 1.0))
            ]
        );
        assert_eq!(changes(&served, served.to_vec()), []);
    }
}
