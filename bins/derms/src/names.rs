//! From a name or the beginning of an id to the asset, site or order that is meant.

use derms_client::proto::{
    Asset, AssetId, AssetStatus, DispatchId, EventId, LimitId, Site, SiteId, SiteStatus, StopId,
};
use derms_client::{Client, DispatchHistoryQuery, EventHistoryQuery};
use derms_program::Failure;

use crate::{Outcome, fault};

/// Shorter beginnings of an id are not taken: they may soon, or by a slip, mean another.
const SHORTEST: usize = 4;

/// Among so many of the newest orders or events the beginning of an id is looked for.
const NEWEST: u32 = 1_000;

/// The fleet, as far as the caller may see it.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) sites: Vec<SiteStatus>,
}

/// What an order or a query is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Asset(AssetId),
    Site(SiteId),
}

impl Directory {
    pub(crate) async fn load(client: &Client) -> Outcome<Self> {
        let sites = client.sites().await.map_err(|error| fault::of(&error))?;
        Ok(Self { sites })
    }

    pub(crate) fn assets(&self) -> impl Iterator<Item = &AssetStatus> {
        self.sites.iter().flat_map(|site| &site.assets)
    }

    pub(crate) fn asset(&self, word: &str) -> Outcome<&AssetStatus> {
        let known = self
            .assets()
            .map(|it| (it.asset.id.to_string(), it.asset.name.as_str(), it));
        pick("asset", "derms assets", word, known)
    }

    pub(crate) fn site(&self, word: &str) -> Outcome<&SiteStatus> {
        let known = self
            .sites
            .iter()
            .map(|it| (it.site.id.to_string(), it.site.name.as_str(), it));
        pick("site", "derms sites", word, known)
    }

    /// What these two flags name, of which clap lets only one be given.
    pub(crate) fn place(&self, asset: Option<&str>, site: Option<&str>) -> Outcome<Option<Place>> {
        Ok(match (asset, site) {
            (Some(asset), _) => Some(Place::Asset(self.asset(asset)?.asset.id)),
            (None, Some(site)) => Some(Place::Site(self.site(site)?.site.id)),
            (None, None) => None,
        })
    }

    pub(crate) fn configured(&self, id: AssetId) -> Option<&Asset> {
        let mut assets = self.assets();
        assets.find(|it| it.asset.id == id).map(|it| &it.asset)
    }

    /// The name; the id of an asset that is no longer in the fleet.
    pub(crate) fn asset_name(&self, id: AssetId) -> String {
        let asset = self.configured(id);
        asset.map_or_else(|| id.to_string(), |asset| asset.name.clone())
    }

    /// The name; the id of a site that is no longer in the fleet.
    pub(crate) fn site_name(&self, id: SiteId) -> String {
        let site = self.sites.iter().map(|it| &it.site);
        let site: Option<&Site> = site.into_iter().find(|site| site.id == id);
        site.map_or_else(|| id.to_string(), |site| site.name.clone())
    }
}

/// The order that is meant.
pub(crate) async fn dispatch(client: &Client, word: &str) -> Outcome<DispatchId> {
    if let Ok(id) = word.parse() {
        return Ok(id);
    }
    let newest = client.dispatch_history(DispatchHistoryQuery::new().limit(NEWEST));
    let page = newest.await.map_err(|error| fault::of(&error))?;
    let shares = page.items.iter().flat_map(|order| &order.children);
    let all = page.items.iter().chain(shares);
    let known = all.map(|order| (order.id.to_string(), "", order.id));
    pick("order", "derms dispatch list", word, known)
}

/// The event that is meant.
pub(crate) async fn event(client: &Client, word: &str) -> Outcome<EventId> {
    if let Ok(id) = word.parse() {
        return Ok(id);
    }
    let newest = client.events(EventHistoryQuery::new().limit(NEWEST));
    let page = newest.await.map_err(|error| fault::of(&error))?;
    let known = page.items.iter().map(|it| (it.id.to_string(), "", it.id));
    pick("event", "derms events", word, known)
}

/// The limit that is meant, among those that hold.
pub(crate) async fn limit(client: &Client, word: &str) -> Outcome<LimitId> {
    if let Ok(id) = word.parse() {
        return Ok(id);
    }
    let limits = client.limits().await.map_err(|error| fault::of(&error))?;
    let known = limits.iter().map(|it| (it.id.to_string(), "", it.id));
    pick("limit", "derms limit list", word, known)
}

/// The stop that is meant, among those that hold.
pub(crate) async fn stop(client: &Client, word: &str) -> Outcome<StopId> {
    if let Ok(id) = word.parse() {
        return Ok(id);
    }
    let stops = client.stops().await.map_err(|error| fault::of(&error))?;
    let known = stops.iter().map(|it| (it.id.to_string(), "", it.id));
    pick("stop", "derms stop list", word, known)
}

/// The one of `known` (id, name, what it is) that has this id or name, or whose id alone begins so.
fn pick<'a, T>(
    what: &str,
    list: &str,
    word: &str,
    known: impl Iterator<Item = (String, &'a str, T)>,
) -> Outcome<T> {
    let lower = word.to_lowercase();
    let (mut named, mut begun) = (Vec::new(), Vec::new());
    for (id, name, it) in known {
        if id == lower {
            return Ok(it);
        }
        if name == word && !word.is_empty() {
            named.push((id, name, it));
        } else if word.len() >= SHORTEST && id.starts_with(&lower) {
            begun.push((id, name, it));
        }
    }
    let mut found = if named.is_empty() { begun } else { named };
    match found.len() {
        1 => Ok(found.swap_remove(0).2),
        0 => Err(Failure::configuration(format!(
            "no {what} `{word}` is known; {list} shows them, and an id may be cut to its first \
             {SHORTEST} or more characters"
        ))
        .into()),
        _ => {
            let all: Vec<String> = found
                .iter()
                .map(|(id, name, _)| format!("{name} {id}").trim().to_owned())
                .collect();
            let text = format!(
                "`{word}` may be any of these: {}; write a whole id",
                all.join(", ")
            );
            Err(Failure::configuration(text).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use derms_program::Stop;

    use super::*;

    const KNOWN: [(&str, &str, u8); 4] = [
        ("7ba7b810-9dad-11d1-80b4-00c04fd430c8", "BESS-1", 1),
        ("7ba7b811-9dad-11d1-80b4-00c04fd430c8", "BESS-2", 2),
        ("12345678-9dad-11d1-80b4-00c04fd430c8", "TWIN", 3),
        ("99999999-9dad-11d1-80b4-00c04fd430c8", "TWIN", 4),
    ];

    fn found(word: &str) -> Result<u8, String> {
        let known = KNOWN
            .iter()
            .map(|(id, name, it)| ((*id).to_owned(), *name, *it));
        pick("asset", "derms assets", word, known).map_err(|stop| match stop {
            Stop::Failed(failure) => {
                assert_eq!(failure.code(), 64);
                failure.line().to_owned()
            }
            Stop::Text(text) => panic!("{text}"),
        })
    }

    #[test]
    fn a_name_an_id_and_the_beginning_of_one_id_are_taken() {
        for (word, it) in [
            ("BESS-2", 2),
            ("7ba7b811-9dad-11d1-80b4-00c04fd430c8", 2),
            ("7BA7B811", 2),
            ("1234", 3),
        ] {
            assert_eq!(found(word), Ok(it), "{word}");
        }
    }

    #[test]
    fn what_may_mean_two_is_refused_with_both() {
        let both = found("7ba7b81").unwrap_err();
        assert!(
            both.contains("BESS-1 7ba7b810") && both.contains("BESS-2 7ba7b811"),
            "{both}"
        );
        let both = found("TWIN").unwrap_err();
        assert!(
            both.contains("12345678") && both.contains("99999999"),
            "{both}"
        );
    }

    #[test]
    fn a_beginning_that_is_too_short_means_nothing_even_if_it_is_the_only_one() {
        for word in ["1", "123", "", "bess-1", "BESS"] {
            assert!(found(word).unwrap_err().contains("derms assets"), "{word}");
        }
    }
}
