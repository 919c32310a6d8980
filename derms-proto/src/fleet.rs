//! All sites and assets, checked.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use crate::{Asset, AssetId, Site, SiteId};

/// All sites and assets that a headend or an agent knows; checked when made, never empty of meaning:
/// ids are unique, every asset's site exists, every number is finite and in range.
///
/// ```
/// let yaml = "
/// sites:
///   - {id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, name: Jersey, location: Region-A}
/// assets:
///   - id: 7ba7b810-9dad-11d1-80b4-00c04fd430c8
///     name: BESS-1
///     site_id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8
///     capacity_mwhr: 120
///     max_mw: 60
///     min_mw: -60
///     efficiency: 0.92
///     ramp_rate_mw_per_min: 1000
/// ";
/// let fleet = derms_proto::Fleet::from_yaml(yaml, "assets.yaml")?;
/// assert_eq!(fleet.assets()[0].name, "BESS-1");
/// # Ok::<(), derms_proto::FleetError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fleet {
    sites: Vec<Site>,
    assets: Vec<Asset>,
    site_index: HashMap<SiteId, usize>,
    asset_index: HashMap<AssetId, usize>,
}

/// What is wrong with a fleet, where, and what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetError {
    /// The file, as it was named.
    pub file: Option<String>,
    /// Line in the file, from 1.
    pub line: Option<u64>,
    /// Column in the file, from 1.
    pub column: Option<u64>,
    /// Name (or id) of the asset or site that is wrong.
    pub subject: Option<String>,
    /// What is wrong and what to change.
    pub message: String,
}

impl fmt::Display for FleetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let (Some(line), Some(column)) = (self.line, self.column) {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        if let Some(subject) = &self.subject {
            write!(f, "{subject}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for FleetError {}

/// A rule that a fleet breaks, and the item it is broken by.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) item: Item,
    /// The key to look at, as written in the fleet file.
    pub(crate) key: &'static str,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Item {
    Site(usize),
    Asset(usize),
}

impl Fleet {
    /// Largest fleet file that is read, 64 MiB (about 150,000 assets).
    pub const MAX_FILE_BYTES: u64 = 64 << 20;

    /// Checks sites and assets that were not read from a file.
    ///
    /// # Errors
    /// The first rule that is broken; see [`FleetError`].
    pub fn new(sites: Vec<Site>, assets: Vec<Asset>) -> Result<Self, FleetError> {
        check(&sites, &assets).map_err(|violation| FleetError {
            file: None,
            line: None,
            column: None,
            subject: Some(match violation.item {
                Item::Site(i) => format!("site `{}`", sites[i].name),
                Item::Asset(i) => format!("asset `{}`", assets[i].name),
            }),
            message: violation.message,
        })?;
        Ok(Self::from_checked(sites, assets))
    }

    /// Reads `assets.yaml`.
    ///
    /// # Errors
    /// The file can't be read, is larger than [`MAX_FILE_BYTES`](Self::MAX_FILE_BYTES), or breaks a
    /// rule; with the place in the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, FleetError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let fail = |message: String| FleetError {
            file: Some(file.clone()),
            line: None,
            column: None,
            subject: None,
            message,
        };
        let unreadable = |e: std::io::Error| {
            fail(format!(
                "can't read the fleet file: {e}; name another with --assets"
            ))
        };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > Self::MAX_FILE_BYTES {
            return Err(fail(format!(
                "the fleet file has {size} bytes, more than {}; split the fleet over several headends",
                Self::MAX_FILE_BYTES
            )));
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let text = String::from_utf8(bytes).map_err(|e| {
            fail(format!(
                "the fleet file is not UTF-8 text: {e}; save it as UTF-8"
            ))
        })?;
        Self::from_yaml(&text, &file)
    }

    /// Reads the text of an `assets.yaml`; `file` is what errors call it.
    ///
    /// # Errors
    /// The text is no YAML, has unknown keys, or breaks a rule; with the place in the text.
    pub fn from_yaml(text: &str, file: &str) -> Result<Self, FleetError> {
        crate::fleet_file::parse(text, file)
    }

    pub(crate) fn from_checked(sites: Vec<Site>, assets: Vec<Asset>) -> Self {
        Self {
            site_index: sites.iter().enumerate().map(|(i, s)| (s.id, i)).collect(),
            asset_index: assets.iter().enumerate().map(|(i, a)| (a.id, i)).collect(),
            sites,
            assets,
        }
    }

    /// All sites, in the order of the file.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// All assets, in the order of the file.
    #[must_use]
    pub fn assets(&self) -> &[Asset] {
        &self.assets
    }

    /// One site.
    #[must_use]
    pub fn site(&self, id: SiteId) -> Option<&Site> {
        self.site_index.get(&id).map(|i| &self.sites[*i])
    }

    /// One asset.
    #[must_use]
    pub fn asset(&self, id: AssetId) -> Option<&Asset> {
        self.asset_index.get(&id).map(|i| &self.assets[*i])
    }

    /// The assets of a site, in the order of the file; none for an unknown site.
    pub fn assets_of(&self, site: SiteId) -> impl Iterator<Item = &Asset> {
        self.assets
            .iter()
            .filter(move |asset| asset.site_id == site)
    }
}

/// Every rule that types alone don't hold.
pub(crate) fn check(sites: &[Site], assets: &[Asset]) -> Result<(), Violation> {
    let mut seen_sites = HashMap::new();
    for (i, site) in sites.iter().enumerate() {
        if let Some(first) = seen_sites.insert(site.id, i) {
            return Err(Violation {
                item: Item::Site(i),
                key: "id",
                message: format!(
                    "id {} is already that of site `{}`; give each site its own id",
                    site.id, sites[first].name
                ),
            });
        }
    }
    let mut seen_assets = HashMap::new();
    for (i, asset) in assets.iter().enumerate() {
        let fail = |key, message| {
            Err(Violation {
                item: Item::Asset(i),
                key,
                message,
            })
        };
        if let Some(first) = seen_assets.insert(asset.id, i) {
            return fail(
                "id",
                format!(
                    "id {} is already that of asset `{}`; give each asset its own id",
                    asset.id, assets[first].name
                ),
            );
        }
        if !seen_sites.contains_key(&asset.site_id) {
            return fail(
                "site_id",
                format!(
                    "site_id {} is not in `sites`; add that site or name one that is there",
                    asset.site_id
                ),
            );
        }
        if let Some((key, message)) = check_numbers(asset) {
            return fail(key, message);
        }
    }
    Ok(())
}

impl Asset {
    /// What is wrong with its numbers and what to write instead; `None` if nothing is.
    ///
    /// Checked: every number is finite and in the range that its field states, and the default and
    /// the failsafe lie within the limits.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        check_numbers(self).map(|(_, message)| message)
    }
}

fn check_numbers(asset: &Asset) -> Option<(&'static str, String)> {
    let numbers = [
        ("capacity_mwhr", asset.capacity_mwhr),
        ("max_mw", asset.max_mw.mw()),
        ("min_mw", asset.min_mw.mw()),
        ("efficiency", asset.efficiency),
        (
            "ramp_rate_mw_per_min",
            asset.ramp_rate_mw_per_min.unwrap_or(1.0),
        ),
        ("min_soc_pct", asset.min_soc_pct),
        ("max_soc_pct", asset.max_soc_pct),
        ("default_mw", asset.default_mw.mw()),
    ];
    if let Some((key, value)) = numbers.into_iter().find(|(_, value)| !value.is_finite()) {
        return Some((key, format!("{key} is {value}; write a finite number")));
    }
    if asset.min_mw > asset.max_mw {
        return Some((
            "min_mw",
            format!(
                "min_mw {} is above max_mw {}; swap or mend them",
                asset.min_mw.mw(),
                asset.max_mw.mw()
            ),
        ));
    }
    if asset.capacity_mwhr < 0.0 {
        return Some((
            "capacity_mwhr",
            format!("capacity_mwhr is {}; write 0 or more", asset.capacity_mwhr),
        ));
    }
    if !(asset.efficiency > 0.0 && asset.efficiency <= 1.0) {
        return Some((
            "efficiency",
            format!(
                "efficiency is {}; write more than 0 and at most 1",
                asset.efficiency
            ),
        ));
    }
    if let Some(ramp) = asset.ramp_rate_mw_per_min.filter(|ramp| *ramp <= 0.0) {
        return Some((
            "ramp_rate_mw_per_min",
            format!("ramp_rate_mw_per_min is {ramp}; write more than 0"),
        ));
    }
    let soc = 0.0..=100.0;
    if !soc.contains(&asset.min_soc_pct)
        || !soc.contains(&asset.max_soc_pct)
        || asset.min_soc_pct > asset.max_soc_pct
    {
        return Some((
            "min_soc_pct",
            format!(
                "min_soc_pct {} and max_soc_pct {} are no range within 0 to 100",
                asset.min_soc_pct, asset.max_soc_pct
            ),
        ));
    }
    if !asset.allows(asset.default_mw) {
        return Some((
            "default_mw",
            format!(
                "default_mw {} is outside min_mw {} to max_mw {}",
                asset.default_mw.mw(),
                asset.min_mw.mw(),
                asset.max_mw.mw()
            ),
        ));
    }
    if asset.failsafe.after_s == 0 {
        return Some((
            "failsafe",
            "failsafe.after_s is 0; write 1 or more".to_owned(),
        ));
    }
    if let crate::FailsafePolicy::Value(power) = asset.failsafe.policy
        && !asset.allows(power)
    {
        return Some((
            "failsafe",
            format!(
                "failsafe value {} is not a number within min_mw {} to max_mw {}",
                power.mw(),
                asset.min_mw.mw(),
                asset.max_mw.mw()
            ),
        ));
    }
    None
}
