//! Lists that come in pages.

use derms_client::PageRequest;
use serde::de::DeserializeOwned;

use crate::{Outcome, fault};

/// The most that the headend gives on a page.
pub(crate) const PAGE: u32 = 1_000;

/// The first `most` items, over as many pages as that takes.
pub(crate) async fn first<T: DeserializeOwned + Send + 'static>(
    list: PageRequest<T>,
    most: u32,
) -> Outcome<Vec<T>> {
    let mut items = list.items();
    let mut found = Vec::new();
    while found.len() < most as usize {
        let Some(item) = items.next().await else {
            break;
        };
        found.push(item.map_err(|error| fault::of(&error))?);
    }
    Ok(found)
}

/// A window of a history, of a query that has one.
macro_rules! within {
    ($query:expr, $window:expr) => {{
        let window = $window;
        let mut query = $query.limit(window.limit.min($crate::lists::PAGE));
        if let Some(from) = window.from {
            query = query.from(from);
        }
        if let Some(to) = window.to {
            query = query.to(to);
        }
        query
    }};
}
pub(crate) use within;

/// A query that names an asset or a site, if a place is given.
macro_rules! at {
    ($query:expr, $place:expr) => {
        match $place {
            Some($crate::names::Place::Asset(asset)) => $query.asset(asset),
            Some($crate::names::Place::Site(site)) => $query.site(site),
            None => $query,
        }
    };
}
pub(crate) use at;
