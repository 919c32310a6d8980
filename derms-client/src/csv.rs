//! Long lists as CSV, page after page.

use std::fmt;

use derms_proto::Cursor;
use http::StatusCode;
use percent_encoding::percent_decode_str;

use crate::client::{Call, Wanted};
use crate::query::Query;
use crate::{Client, Error};

/// The pages of a list as CSV (RFC 4180), made by [`PageRequest::csv`](crate::PageRequest::csv).
///
/// Each page begins with a line that names its columns, which are those of the headend: numbers in
/// the units of the API, absent values empty. A page is fetched when it is asked for, never ahead.
///
/// ```no_run
/// # async fn f(client: derms_client::Client) -> Result<(), derms_client::Error> {
/// use derms_client::HistoryQuery;
///
/// let mut pages = client.agents_history(HistoryQuery::new().limit(1_000)).csv();
/// while let Some(page) = pages.next().await {
///     print!("{}", page?);
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is fetched until a page is asked for"]
pub struct CsvPages {
    client: Client,
    path: String,
    query: Query,
    cursor: Option<Cursor>,
    ended: bool,
}

impl CsvPages {
    pub(crate) fn new(client: Client, path: String, query: Query, cursor: Option<Cursor>) -> Self {
        Self {
            client,
            path,
            query,
            cursor,
            ended: false,
        }
    }

    /// The next page; `None` after the last one or after an error. May be dropped and called again
    /// without losing a page.
    pub async fn next(&mut self) -> Option<Result<String, Error>> {
        if self.ended {
            return None;
        }
        let page = self.fetch().await;
        self.ended = self.cursor.is_none() || page.is_err();
        Some(page)
    }

    async fn fetch(&mut self) -> Result<String, Error> {
        let cursor = self.cursor.as_ref().map(Cursor::as_str);
        let call = Call {
            wanted: Wanted::Csv,
            ..Call::get(&self.path, &self.query.clone().with("cursor", cursor))
        };
        let (text, link) = self.client.csv(&call).await?;
        let next = link.as_deref().and_then(next_page);
        if next.is_some() && next == self.cursor {
            // Following it would never end.
            return Err(Error::InvalidResponse {
                status: StatusCode::OK,
                reason: "a link that leads back to the same page".to_owned(),
                retry_after: None,
                repeatable: true,
                source: None,
            });
        }
        self.cursor = next;
        Ok(text)
    }
}

/// The cursor in a header `Link` (RFC 8288) to the next page.
fn next_page(link: &str) -> Option<Cursor> {
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| matches!(parameter.trim(), "rel=\"next\"" | "rel=next");
    parameters.split(';').find(|it| is_next(it))?;
    let (_, query) = target.split_once('?')?;
    let cursor = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("cursor="))?;
    let cursor = percent_decode_str(cursor).decode_utf8().ok()?;
    Some(Cursor::new(cursor))
}

impl fmt::Debug for CsvPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsvPages")
            .field("target", &self.query.after(&self.path))
            .field("cursor", &self.cursor)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_link_to_the_next_page_has_its_cursor() {
        for (link, cursor) in [
            ("</d/audit?limit=1&cursor=a-1>; rel=\"next\"", Some("a-1")),
            (
                "</audit?cursor=a%2Fb&to=x>; title=\"t\"; rel=next",
                Some("a/b"),
            ),
            ("</audit?cursor=a>; rel=\"prev\"", None),
            ("</audit?limit=1>; rel=\"next\"", None),
            ("/audit?cursor=a; rel=\"next\"", None),
            ("", None),
        ] {
            assert_eq!(next_page(link), cursor.map(Cursor::new), "{link}");
        }
    }
}
