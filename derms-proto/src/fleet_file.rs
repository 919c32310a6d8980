//! `assets.yaml`: the text form of a [`Fleet`], with errors that point at the place.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::{Location, Spanned};

use crate::fleet::{Item, Violation, check};
use crate::{
    AgentId, Asset, AssetId, AssetKind, Failsafe, FailsafePolicy, Fleet, FleetError, Power, Site,
    SiteId,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    sites: Vec<Spanned<SiteText>>,
    assets: Vec<Spanned<AssetText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteText {
    id: Spanned<SiteId>,
    name: String,
    location: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AssetText {
    id: Spanned<AssetId>,
    name: String,
    site_id: Spanned<SiteId>,
    capacity_mwhr: Spanned<f64>,
    max_mw: Spanned<f64>,
    min_mw: Spanned<f64>,
    efficiency: Option<Spanned<f64>>,
    ramp_rate_mw_per_min: Option<Spanned<f64>>,
    min_soc_pct: Option<Spanned<f64>>,
    max_soc_pct: Option<Spanned<f64>>,
    #[serde(rename = "type", default)]
    kind: AssetKind,
    default_mw: Option<Spanned<f64>>,
    failsafe: Option<Spanned<FailsafeText>>,
    agent_id: Option<AgentId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailsafeText {
    #[serde(default)]
    policy: FailsafePolicy,
    after_s: Option<u64>,
    #[serde(default)]
    min_hold_s: u64,
}

/// Just enough of a file to name the item around a line.
#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    sites: Vec<Spanned<BTreeMap<String, Label>>>,
    #[serde(default)]
    assets: Vec<Spanned<BTreeMap<String, Label>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Text(String),
    Other(IgnoredAny),
}

pub(crate) fn parse(text: &str, file: &str) -> Result<Fleet, FleetError> {
    let parsed: FileText = serde_saphyr::from_str_with_options(text, options(true))
        .map_err(|error| yaml_error(&error, text, file))?;

    let sites: Vec<Site> = parsed
        .sites
        .iter()
        .map(|Spanned { value: site, .. }| Site {
            id: site.id.value,
            name: site.name.clone(),
            location: site.location.clone(),
        })
        .collect();
    let assets: Vec<Asset> = parsed
        .assets
        .iter()
        .map(|asset| to_asset(&asset.value))
        .collect();
    check(&sites, &assets).map_err(|violation| violation_error(&violation, &parsed, file))?;
    Ok(Fleet::from_checked(sites, assets))
}

fn options(strict: bool) -> serde_saphyr::Options {
    use serde_saphyr::options::DuplicateKeyPolicy;
    // The file's size is bounded before it is read; a fleet of 100,000 assets has 3 million nodes.
    let budget = serde_saphyr::budget! {
        max_events: 20_000_000,
        max_nodes: 10_000_000,
        max_documents: 1,
        // What is anchored is kept in memory, and again for each anchor around it.
        max_recorded_anchor_events: 50_000,
        max_recorded_anchor_bytes: 4 << 20,
    };
    serde_saphyr::options! {
        budget: budget,
        with_snippet: false,
        duplicate_keys: if strict { DuplicateKeyPolicy::Error } else { DuplicateKeyPolicy::LastWins },
    }
}

fn to_asset(text: &AssetText) -> Asset {
    let number =
        |field: &Option<Spanned<f64>>, default: f64| field.as_ref().map_or(default, |v| v.value);
    let min_mw = Power::from_mw(text.min_mw.value);
    let max_mw = Power::from_mw(text.max_mw.value);
    Asset {
        id: text.id.value,
        name: text.name.clone(),
        site_id: text.site_id.value,
        capacity_mwhr: text.capacity_mwhr.value,
        max_mw,
        min_mw,
        efficiency: number(&text.efficiency, 1.0),
        ramp_rate_mw_per_min: text.ramp_rate_mw_per_min.as_ref().map(|v| v.value),
        min_soc_pct: number(&text.min_soc_pct, 0.0),
        max_soc_pct: number(&text.max_soc_pct, 100.0),
        kind: text.kind,
        default_mw: text.default_mw.as_ref().map_or_else(
            || Asset::default_power(text.kind, min_mw, max_mw),
            |v| Power::from_mw(v.value),
        ),
        failsafe: text
            .failsafe
            .as_ref()
            .map_or_else(Failsafe::default, |failsafe| Failsafe {
                policy: failsafe.value.policy,
                after_s: failsafe
                    .value
                    .after_s
                    .unwrap_or(Failsafe::default().after_s),
                min_hold_s: failsafe.value.min_hold_s,
            }),
        agent_id: text.agent_id,
    }
}

fn violation_error(violation: &Violation, parsed: &FileText, file: &str) -> FleetError {
    let (subject, location) = match violation.item {
        Item::Site(i) => {
            let site = &parsed.sites[i].value;
            (format!("site `{}`", site.name), site.id.referenced)
        }
        Item::Asset(i) => {
            let asset = &parsed.assets[i];
            let location = locate(&asset.value, violation.key).unwrap_or(asset.referenced);
            (format!("asset `{}`", asset.value.name), location)
        }
    };
    FleetError {
        file: Some(file.to_owned()),
        line: Some(location.line()),
        column: Some(location.column()),
        subject: Some(subject),
        message: violation.message.clone(),
    }
}

fn locate(asset: &AssetText, key: &str) -> Option<Location> {
    let optional = |field: &Option<Spanned<f64>>| field.as_ref().map(|v| v.referenced);
    match key {
        "id" => Some(asset.id.referenced),
        "site_id" => Some(asset.site_id.referenced),
        "capacity_mwhr" => Some(asset.capacity_mwhr.referenced),
        "max_mw" => Some(asset.max_mw.referenced),
        "min_mw" => Some(asset.min_mw.referenced),
        "efficiency" => optional(&asset.efficiency),
        "ramp_rate_mw_per_min" => optional(&asset.ramp_rate_mw_per_min),
        "min_soc_pct" => optional(&asset.min_soc_pct).or(optional(&asset.max_soc_pct)),
        "default_mw" => optional(&asset.default_mw),
        "failsafe" => asset.failsafe.as_ref().map(|v| v.referenced),
        _ => None,
    }
}

fn yaml_error(error: &serde_saphyr::Error, text: &str, file: &str) -> FleetError {
    let mut place = error.location();
    let mut item = place.and_then(|at| item_at(text, at.line()));
    let message = match error {
        _ if text.trim().is_empty() => {
            "the fleet file is empty; it needs `sites` and `assets`".to_owned()
        }
        serde_saphyr::Error::SerdeMissingField { field, .. } => {
            // The parser points at the last key that is there; the item is what to look at.
            match &item {
                Some((_, start)) if !matches!(*field, "sites" | "assets") => place = Some(*start),
                _ => item = None,
            }
            format!("missing field `{field}`; add it")
        }
        _ => {
            let what = what_is_wrong(error);
            match place.and_then(|at| line_of(text, at.line())) {
                Some(line) => format!("{what}; mend `{line}`"),
                None => what,
            }
        }
    };
    FleetError {
        file: Some(file.to_owned()),
        line: place.map(|at| at.line()),
        column: place.map(|at| at.column()),
        subject: item.map(|(name, _)| name),
        message,
    }
}

/// The parser's word; ours where that speaks to who wrote the program, and not the file.
fn what_is_wrong(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error::{DuplicateMappingKey, InvalidScalar, Unexpected};
    match error {
        DuplicateMappingKey { key: Some(key), .. } => {
            format!("`{key}` is there twice; keep one of them")
        }
        InvalidScalar { ty, .. } if ty.contains("float") => {
            "this is no number; write one alone, without a unit".to_owned()
        }
        Unexpected { expected, .. } if expected.contains("mapping start") => {
            "here must be keys with their values, like `sites:` and `assets:` for the whole file"
                .to_owned()
        }
        _ => {
            // Only the first line, without the place: what follows is drawing.
            let shown = error.to_string();
            let first = shown.lines().next().unwrap_or_default();
            let first = first.split(" at line ").next().unwrap_or_default();
            if first.contains("tab") {
                format!("{first}; indent with spaces")
            } else {
                first.to_owned()
            }
        }
    }
}

/// A line of the text, cut to 80 characters; `None` where there is nothing to see.
fn line_of(text: &str, line: u64) -> Option<String> {
    let index = usize::try_from(line).ok()?.checked_sub(1)?;
    let line = text.lines().nth(index)?.trim();
    (!line.is_empty()).then(|| line.chars().take(80).collect())
}

/// The last site or asset that begins at or before `line`: its name, and where it begins.
fn item_at(text: &str, line: u64) -> Option<(String, Location)> {
    let outline: Outline = serde_saphyr::from_str_with_options(text, options(false)).ok()?;
    let sites = outline.sites.iter().map(|item| ("site", item));
    let assets = outline.assets.iter().map(|item| ("asset", item));
    let (kind, item) = sites
        .chain(assets)
        .filter(|(_, item)| item.referenced.line() <= line)
        .max_by_key(|(_, item)| item.referenced.line())?;
    let label = ["name", "id"]
        .iter()
        .find_map(|key| match item.value.get(*key)? {
            Label::Text(text) => Some(text.as_str()),
            Label::Other(_) => None,
        });
    let name = format!("{kind} `{}`", label.unwrap_or("without a name"));
    Some((name, item.referenced))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
sites:
  - id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8
    name: Jersey
    location: Region-A
assets:
  - id: 7ba7b810-9dad-11d1-80b4-00c04fd430c8
    name: BESS-1
    site_id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8
    capacity_mwhr: 120
    max_mw: 60
    min_mw: -60
    efficiency: 0.92
    ramp_rate_mw_per_min: 1000
  - id: 8ba7b810-9dad-11d1-80b4-00c04fd430c8
    name: PV-1
    site_id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8
    capacity_mwhr: 0
    max_mw: 8
    min_mw: 0
    type: pv
    failsafe: {policy: {value: 2}, after_s: 30}
";

    fn error(text: &str) -> FleetError {
        Fleet::from_yaml(text, "fleet.yaml").unwrap_err()
    }

    #[test]
    fn the_first_eight_fields_alone_load_with_stated_defaults() {
        let fleet = Fleet::from_yaml(GOOD, "fleet.yaml").unwrap();
        let asset = &fleet.assets()[0];
        assert_eq!(asset.kind, AssetKind::Other);
        assert_eq!(asset.default_mw, Power::ZERO);
        assert_eq!(asset.failsafe, Failsafe::default());
        assert_eq!((asset.min_soc_pct, asset.max_soc_pct), (0.0, 100.0));
        let pv = &fleet.assets()[1];
        assert_eq!(pv.default_mw, Power::from_mw(8.0));
        assert_eq!(
            pv.failsafe.policy,
            FailsafePolicy::Value(Power::from_mw(2.0))
        );
        assert_eq!(pv.failsafe.after_s, 30);
    }

    #[test]
    fn every_error_names_file_line_column_asset_and_remedy() {
        let cases = [
            (
                "    max_mw: 60\n",
                "    max_mw: 60\n    colour: red\n",
                11,
                "BESS-1",
                "colour",
            ),
            (
                "    max_mw: 60\n",
                "    max_mw: -61\n",
                11,
                "BESS-1",
                "swap or mend",
            ),
            (
                "    max_mw: 60\n",
                "    max_mw: .inf\n",
                10,
                "BESS-1",
                "finite number",
            ),
            (
                "    max_mw: 60\n",
                "    max_mw: .nan\n",
                10,
                "BESS-1",
                "finite number",
            ),
            (
                "    max_mw: 60\n",
                "    max_mw: sixty\n",
                10,
                "BESS-1",
                "no number; write one alone, without a unit; mend `max_mw: sixty`",
            ),
            (
                "    max_mw: 60\n",
                "    max_mw: 60\n    max_mw: 61\n",
                11,
                "BESS-1",
                "`max_mw` is there twice; keep one of them",
            ),
            ("    max_mw: 8\n", "", 14, "PV-1", "max_mw"),
            (
                "    min_mw: -60\n",
                "",
                6,
                "BESS-1",
                "missing field `min_mw`; add it",
            ),
            ("    location: Region-A\n", "", 2, "Jersey", "location"),
            ("id: 8ba7", "id: 7ba7", 14, "PV-1", "its own id"),
            (
                "site_id: 6ba7b810",
                "site_id: 5ba7b810",
                8,
                "BESS-1",
                "add that site",
            ),
            ("id: 7ba7b810-9dad", "id: bess", 6, "BESS-1", "UUID"),
            (
                "efficiency: 0.92",
                "efficiency: 1.92",
                12,
                "BESS-1",
                "at most 1",
            ),
            ("type: pv", "type: solar", 20, "PV-1", "solar"),
            (
                "{value: 2}, after_s: 30",
                "{value: 9}, after_s: 30",
                21,
                "PV-1",
                "within",
            ),
            ("after_s: 30", "after_s: 0", 21, "PV-1", "1 or more"),
        ];
        for (old, new, line, asset, words) in cases {
            let text = GOOD.replacen(old, new, 1);
            assert_ne!(text, GOOD, "the case `{new}` changes nothing");
            let error = error(&text);
            let shown = error.to_string();
            assert_eq!(error.file.as_deref(), Some("fleet.yaml"), "{shown}");
            assert!(shown.contains(words), "`{words}` is not in: {shown}");
            assert!(shown.contains(asset), "`{asset}` is not in: {shown}");
            assert_eq!(error.line, Some(line), "{shown}");
            assert!(error.column.is_some_and(|c| c > 0), "{shown}");
        }
    }

    #[test]
    fn broken_and_empty_files_are_located_errors_and_no_panic() {
        assert!(error("").to_string().contains("is empty"));
        assert!(error("sites: [").line.is_some());
        assert!(error("sites: []").to_string().contains("assets"));
        assert!(error("[1, 2]").to_string().starts_with("fleet.yaml:1:1:"));
        assert!(
            error("a fleet")
                .to_string()
                .contains("keys with their values")
        );
        let tab = error("sites:\n\t- id: 1\n").to_string();
        assert!(tab.contains("indent with spaces"), "{tab}");
        assert!(error("\u{0}\u{1}").to_string().starts_with("fleet.yaml:"));
    }

    #[test]
    fn two_sites_with_one_id_are_an_error_at_the_second() {
        let second =
            "  - {id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, name: Two, location: X}\nassets:\n";
        let error = error(&GOOD.replace("assets:\n", second));
        assert_eq!(error.line, Some(5));
        assert!(error.to_string().contains("site `Two`"));
    }

    #[test]
    fn a_file_of_twenty_thousand_assets_loads() {
        let mut text = GOOD.to_owned();
        for i in 0..20_000_u32 {
            text.push_str(&format!(
                "  - {{id: 00000000-0000-0000-0000-{i:012x}, name: A-{i}, \
                 site_id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, capacity_mwhr: 1, max_mw: 1, min_mw: 0}}\n"
            ));
        }
        let fleet = Fleet::from_yaml(&text, "fleet.yaml").unwrap();
        assert_eq!(fleet.assets().len(), 20_002);
    }
}
