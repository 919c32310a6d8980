//! Assets that are added to a running agent, and removed: from its handles to its session.

use std::collections::BTreeMap;
use std::sync::Arc;

use derms_proto::{Asset, AssetId, AssetKind};
use tokio::sync::oneshot;

use crate::session::Input;
use crate::{ChangeError, DerAdapter};

/// Changes that may wait for the agent; whoever wants one more waits.
pub(super) const CHANGES: usize = 16;

/// Is told when a change is done.
pub(super) type Answer = oneshot::Sender<Result<(), ChangeError>>;

/// What somebody wants changed.
pub(super) struct Change {
    pub(super) what: What,
    pub(super) answer: Answer,
}

pub(super) enum What {
    Add(Box<Asset>, Arc<dyn DerAdapter>),
    Remove(AssetId),
}

/// Changes that are not done yet.
#[derive(Default)]
pub(super) struct Changes {
    arriving: BTreeMap<AssetId, (Arc<dyn DerAdapter>, Answer)>,
    leaving: BTreeMap<AssetId, Answer>,
}

impl Changes {
    /// What the session must hear; `None` if the change was refused.
    pub(super) fn begin(
        &mut self,
        change: Change,
        serves: impl Fn(AssetId) -> bool,
        room: Option<usize>,
    ) -> Option<Input> {
        let Change { what, answer } = change;
        let asset_id = match &what {
            What::Add(asset, _) => asset.id,
            What::Remove(asset_id) => *asset_id,
        };
        let served = serves(asset_id);
        let refusal = match &what {
            What::Remove(_) if !served => Some(ChangeError::UnknownAsset { asset_id }),
            What::Add(..) if !served => room.map(|limit| ChangeError::TooManyAssets { limit }),
            _ => None,
        };
        if let Some(refusal) = refusal {
            reply(answer, Err(refusal));
            return None;
        }
        let overtaken = self.arriving.remove(&asset_id).map(|(_, answer)| answer);
        for answer in overtaken.into_iter().chain(self.leaving.remove(&asset_id)) {
            reply(answer, Err(ChangeError::Overtaken));
        }
        Some(match what {
            What::Add(asset, adapter) => {
                let kind: AssetKind = adapter.describe().kind;
                self.arriving.insert(asset_id, (adapter, answer));
                Input::Add { asset, kind }
            }
            What::Remove(_) => {
                self.leaving.insert(asset_id, answer);
                Input::Remove(asset_id)
            }
        })
    }

    /// The session serves it: gives its adapter.
    pub(super) fn arrived(&mut self, asset_id: AssetId) -> Option<Arc<dyn DerAdapter>> {
        let (adapter, answer) = self.arriving.remove(&asset_id)?;
        reply(answer, Ok(()));
        Some(adapter)
    }

    /// The session serves it no more.
    pub(super) fn gone(&mut self, asset_id: AssetId) {
        if let Some(answer) = self.leaving.remove(&asset_id) {
            reply(answer, Ok(()));
        }
    }
}

fn reply(answer: Answer, result: Result<(), ChangeError>) {
    // Whoever asked may not be waiting.
    let _ = answer.send(result);
}
