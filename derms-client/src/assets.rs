//! Assets and sites.

use derms_proto::{AssetId, AssetStatus, SiteStatus};

use crate::{Client, Error};

impl Client {
    /// All configured assets, with whether an agent serves them now (`GET /assets`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn assets(&self) -> Result<Vec<AssetStatus>, Error> {
        self.get("/assets").await
    }

    /// One asset (`GET /assets/{id}`).
    ///
    /// # Errors
    /// `unknown_asset`; see [`Error`].
    pub async fn asset(&self, id: AssetId) -> Result<AssetStatus, Error> {
        self.get(&format!("/assets/{id}")).await
    }

    /// All sites, with their assets and the sum of their newest power (`GET /sites`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sites(&self) -> Result<Vec<SiteStatus>, Error> {
        self.get("/sites").await
    }
}
