//! A page of a list in the form that its caller wants: JSON, or CSV (RFC 4180) for spreadsheets.

use axum::Json;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::response::{IntoResponse, Response};
use derms_proto::{Cursor, Page, Problem, ProblemCode};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri, header};
use serde::Serialize;
use serde_json::Value;

use super::problem::Failure;

pub(super) const CSV: &str = "text/csv";

/// What the caller accepts.
#[derive(Debug)]
pub(super) struct Wanted {
    csv: bool,
    uri: Uri,
}

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        // Under a prefix this one still has it.
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, state).await?;
        let csv = wants_csv(&parts.headers);
        Ok(Self { csv, uri })
    }
}

/// Whether CSV is named, and weighs more than JSON.
fn wants_csv(headers: &HeaderMap) -> bool {
    let (mut csv, mut json) = (0.0, 0.0);
    let accepted = headers.get_all(header::ACCEPT).into_iter();
    for range in accepted.flat_map(|value| value.to_str().unwrap_or_default().split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
        let weight: f32 = weight.unwrap_or(1.0);
        if essence.eq_ignore_ascii_case(CSV) {
            csv = weight;
        } else if essence.eq_ignore_ascii_case("application/json") {
            json = weight;
        }
    }
    csv > json
}

impl Wanted {
    /// The page; in CSV with these columns, a dot leading into an object. Where the next page is
    /// stands in the header `Link` (RFC 8288) there.
    pub(super) fn page<T: Serialize>(
        &self,
        page: Page<T>,
        columns: &[&str],
    ) -> Result<Response, Failure> {
        if !self.csv {
            return Ok(Json(page).into_response());
        }
        let text = csv(&page.items, columns).map_err(|error| {
            tracing::error!(%error, "can't write a list as CSV");
            Problem::new(ProblemCode::Internal, "the log of the headend tells more")
        })?;
        let mut response = text.into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
        headers.insert(header::CONTENT_TYPE, kind);
        let link = page.next_cursor.and_then(|cursor| self.next(&cursor));
        if let Some(link) = link {
            headers.insert(header::LINK, link);
        }
        Ok(response)
    }

    fn next(&self, cursor: &Cursor) -> Option<HeaderValue> {
        let query = self.uri.query().unwrap_or_default().split('&');
        let mut query: Vec<&str> = query
            .filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="))
            .collect();
        let cursor = format!("cursor={}", cursor.as_str());
        query.push(&cursor);
        let link = format!("<{}?{}>; rel=\"next\"", self.uri.path(), query.join("&"));
        HeaderValue::from_str(&link).ok()
    }
}

fn csv<T: Serialize>(items: &[T], columns: &[&str]) -> Result<Vec<u8>, csv::Error> {
    // RFC 4180 ends lines so.
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    writer.write_record(columns.iter().map(|column| column.replace('.', "_")))?;
    for item in items {
        let item = serde_json::to_value(item).map_err(std::io::Error::from)?;
        writer.write_record(columns.iter().map(|column| cell(at(&item, column))))?;
    }
    writer
        .into_inner()
        .map_err(|error| error.into_error().into())
}

fn at<'a>(item: &'a Value, column: &str) -> &'a Value {
    column.split('.').fold(item, |value, name| &value[name])
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // A spreadsheet would run a text of an agent or a client that begins like a formula.
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
            format!("'{text}")
        }
        Value::String(text) => text.clone(),
        Value::Object(map) if map.is_empty() => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn csv_is_given_to_whoever_would_rather_have_it() {
        for (accept, wanted) in [
            ("text/csv", true),
            ("Text/CSV; q=0.9, */*; q=0.1", true),
            ("application/json;q=0.5, text/csv", true),
            ("text/csv;q=0", false),
            ("text/csv, application/json", false),
            ("text/csv; q=0.2, application/json", false),
            ("*/*", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(accept);
            let headers = HeaderMap::from_iter([(header::ACCEPT, value)]);
            assert_eq!(wants_csv(&headers), wanted, "{accept}");
        }
        assert!(!wants_csv(&HeaderMap::new()));
    }

    #[test]
    fn a_row_has_every_column_and_no_formula() {
        let items = [
            json!({"mw": -1.5, "text": "=1+1", "soc": {"min": 2}, "details": {}}),
            json!({"mw": null, "text": "a \"b\", c", "details": {"a": 1}}),
        ];
        let columns = ["mw", "text", "soc.min", "details"];
        let text = String::from_utf8(csv(&items, &columns).unwrap()).unwrap();
        assert_eq!(
            text,
            "mw,text,soc_min,details\r\n\
             -1.5,'=1+1,2,\r\n\
             ,\"a \"\"b\"\", c\",,\"{\"\"a\"\":1}\"\r\n"
        );
    }
}
