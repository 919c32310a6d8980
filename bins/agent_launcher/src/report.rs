//! What the user reads: where everything is, the fleet, and commands to try.

use std::fmt::Write as _;
use std::path::PathBuf;

use derms_client::proto::{Asset, AssetKind, Fleet, Power};

/// What a call of REST needs over TLS.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) ca: PathBuf,
    /// The file of a token that may give orders.
    pub(crate) token: PathBuf,
}

/// The whole text.
pub(crate) fn text(fleet: &Fleet, rest: &str, grpc: &str, keys: Option<&Keys>) -> String {
    let rest = rest.trim_end_matches('/');
    let grpc = grpc.trim_end_matches('/');
    let mut text = format!(
        "\n  REST   {rest}\n  docs   {rest}/docs\n  gRPC   {grpc}   (agents)\n\n{}",
        table(fleet)
    );
    if let Some(asset) = fleet.assets().first() {
        text.push_str(&commands(asset, rest, keys));
    }
    text
}

fn table(fleet: &Fleet) -> String {
    let site = |asset: &Asset| {
        fleet
            .site(asset.site_id)
            .map_or("", |site| site.name.as_str())
    };
    let rows = fleet.assets().iter().map(|asset| {
        [
            asset.name.clone(),
            site(asset).to_owned(),
            kind(asset.kind),
            asset.id.to_string(),
        ]
    });
    let head = ["name", "site", "type", "id"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0; 4];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for [name, site, kind, id] in &rows {
        let [a, b, c, _] = widths;
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {name:<a$}  {site:<b$}  {kind:<c$}  {id}");
    }
    text
}

/// As in the fleet file.
fn kind(kind: AssetKind) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

fn commands(asset: &Asset, rest: &str, keys: Option<&Keys>) -> String {
    let curl = match keys {
        None => "curl -s".to_owned(),
        Some(Keys { ca, token }) => format!(
            "curl -s --cacert {} -H \"authorization: Bearer $(cat {})\"",
            ca.display(),
            token.display()
        ),
    };
    let id = asset.id;
    let mw = order(asset).mw();
    format!(
        "
Try, in another terminal:
  {curl} {rest}/agents
  {curl} {rest}/telemetry/{id}
  {curl} -X POST '{rest}/dispatch?wait_s=5' -H 'content-type: application/json' \
-d '{{\"asset_id\":\"{id}\",\"mw\":{mw},\"duration_s\":20}}'

"
    )
}

/// 5 MW where the asset takes it, else the most it gives or takes.
fn order(asset: &Asset) -> Power {
    let five = Power::from_mw(5.0);
    if asset.allows(five) {
        five
    } else if asset.max_mw > Power::ZERO {
        asset.max_mw
    } else {
        asset.min_mw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet() -> Fleet {
        Fleet::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets.yaml")).unwrap()
    }

    #[test]
    fn urls_fleet_and_three_commands_are_shown() {
        let text = text(
            &fleet(),
            "http://127.0.0.1:3001/",
            "http://127.0.0.1:50051/",
            None,
        );
        for words in [
            "REST   http://127.0.0.1:3001\n",
            "docs   http://127.0.0.1:3001/docs\n",
            "gRPC   http://127.0.0.1:50051 ",
            "BESS-1   Jersey   battery     7ba7b810-9dad-11d1-80b4-00c04fd430c8\n",
            "METER-1  Newark   meter       7ba7b822-9dad-11d1-80b4-00c04fd430c8\n",
            "curl -s http://127.0.0.1:3001/agents\n",
            "curl -s http://127.0.0.1:3001/telemetry/7ba7b810-9dad-11d1-80b4-00c04fd430c8\n",
            "curl -s -X POST 'http://127.0.0.1:3001/dispatch?wait_s=5' -H 'content-type: application/json' \
             -d '{\"asset_id\":\"7ba7b810-9dad-11d1-80b4-00c04fd430c8\",\"mw\":5,\"duration_s\":20}'\n",
        ] {
            assert!(text.contains(words), "`{words}` is not in:\n{text}");
        }
        assert_eq!(text.matches("curl").count(), 3);
    }

    #[test]
    fn over_tls_the_commands_name_the_ca_and_the_file_of_a_token() {
        let keys = Keys {
            ca: "data/pki/ca.pem".into(),
            token: "data/access/operator.token".into(),
        };
        let text = text(
            &fleet(),
            "https://127.0.0.1:3001",
            "https://127.0.0.1:1",
            Some(&keys),
        );
        let wanted = "curl -s --cacert data/pki/ca.pem \
                      -H \"authorization: Bearer $(cat data/access/operator.token)\"";
        assert_eq!(text.matches("curl").count(), text.matches(wanted).count());
    }

    #[test]
    fn the_order_to_try_is_one_that_the_asset_takes() {
        for asset in fleet().assets() {
            assert!(asset.allows(order(asset)), "{}", asset.name);
        }
    }
}
