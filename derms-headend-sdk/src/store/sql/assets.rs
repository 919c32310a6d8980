//! Short keys of assets, remembered: they never change.

use std::collections::{BTreeMap, HashMap};

use derms_proto::{AssetId, SiteId};
use parking_lot::RwLock;
use tokio::task::consume_budget;

use super::connection::{Connection, Database, Row};
use super::fault::Fault;
use super::statement::{Statement, portions};

/// An asset as measurements name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asset {
    pub(super) key: i64,
    /// The site of its first measurement.
    pub(super) site: Option<SiteId>,
}

/// What is known of the table of assets. Only what is committed gets in.
#[derive(Debug, Default)]
pub(super) struct Assets(RwLock<HashMap<AssetId, Asset>>);

impl Assets {
    /// These assets, each in its place; those that have no key are given one. An asset without a
    /// site gets the one that is named first with it.
    pub(super) async fn all(
        &self,
        database: &impl Database,
        wanted: impl Iterator<Item = (AssetId, Option<SiteId>)> + Clone + Send,
    ) -> Result<Vec<Asset>, Fault> {
        let missing = match self.known(wanted.clone()).await {
            Ok(known) => return Ok(known),
            Err(missing) => missing,
        };
        let mut connection = database.begin().await?;
        let mut given = Vec::new();
        for rows in portions(missing.into_iter().collect()) {
            given.extend(give(&mut connection, rows).await?);
        }
        connection.commit().await?;
        self.0.write().extend(given);
        self.known(wanted)
            .await
            .map_err(|_| Fault::unreadable("an asset has no key"))
    }

    /// All of them, or those that are not known well enough, in the order of their ids.
    async fn known(
        &self,
        wanted: impl Iterator<Item = (AssetId, Option<SiteId>)> + Send,
    ) -> Result<Vec<Asset>, BTreeMap<AssetId, Option<SiteId>>> {
        let (mut found, mut missing) = (Vec::new(), BTreeMap::new());
        for (id, site) in wanted {
            let known = self.0.read().get(&id).copied();
            match known.filter(|asset| asset.site.is_some() || site.is_none()) {
                Some(asset) => found.push(asset),
                None => {
                    missing.entry(id).or_insert(site);
                }
            }
            consume_budget().await;
        }
        if missing.is_empty() {
            Ok(found)
        } else {
            Err(missing)
        }
    }

    /// The key of an asset that may not be known.
    pub(super) async fn find<C: Connection>(
        &self,
        connection: &mut C,
        id: AssetId,
    ) -> Result<Option<Asset>, Fault> {
        if let Some(asset) = self.0.read().get(&id) {
            return Ok(Some(*asset));
        }
        // Not remembered: it may get its site later.
        let statement =
            Statement::new(C::DIALECT, "select key, site_id from assets where id = ").bind(id);
        let rows = connection.rows(statement).await?;
        rows.first().map(|row| asset(row, 0)).transpose()
    }
}

async fn give<C: Connection>(
    connection: &mut C,
    rows: Vec<(AssetId, Option<SiteId>)>,
) -> Result<Vec<(AssetId, Asset)>, Fault> {
    let rows = rows
        .into_iter()
        .map(|(id, site)| vec![id.into(), site.into()]);
    let statement = Statement::new(C::DIALECT, "insert into assets (id, site_id) values ")
        .rows(rows)
        .push(
            " on conflict (id) do update set site_id = coalesce(assets.site_id, excluded.site_id) \
             returning id, key, site_id",
        );
    let rows = connection.rows(statement).await?;
    rows.iter()
        .map(|row| Ok((AssetId::new(row.uuid(0)?), asset(row, 1)?)))
        .collect()
}

fn asset(row: &impl Row, first: usize) -> Result<Asset, Fault> {
    Ok(Asset {
        key: row.int(first)?,
        site: row.opt_uuid(first + 1)?.map(SiteId::new),
    })
}
