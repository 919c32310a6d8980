//! Request parts whose faults are problems with a code.

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams};
use derms_proto::{Cursor, Problem, ProblemCode, Timestamp};
use http::request::Parts;
use http::{HeaderMap, Request, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use utoipa::IntoParams;

use super::problem::Failure;
use super::{MAX_BODY, MAX_LIMIT};
use crate::store::HistoryQuery;

/// A body must have arrived whole after this.
const BODY_TIME: Duration = Duration::from_secs(10);
/// What a fault says of the caller's own text.
const MAX_DETAIL: usize = 300;

/// A JSON object of at most 64 KiB.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request<axum::body::Body>, _: &S) -> Result<Self, Failure> {
        check_content(request.headers())?;
        let body = request.into_body();
        // A body that tells its size need not be sent.
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(too_large().into());
        }
        let body = timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await;
        let body = body.map_err(|_| {
            let text = format!("the body did not arrive within {} s", BODY_TIME.as_secs());
            Problem::new(ProblemCode::RequestTimeout, text)
        })?;
        let bytes = body
            .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                Some(_) => too_large(),
                None => Problem::new(ProblemCode::InvalidBody, "the body did not arrive whole"),
            })?
            .to_bytes();
        // serde would take an array too, its items in the order of the fields.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(Problem::new(ProblemCode::InvalidBody, "send a JSON object").into());
        }
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Problem::new(ProblemCode::InvalidBody, cut(&error.to_string())).into())
    }
}

fn check_content(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let json = text(header::CONTENT_TYPE).is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    });
    let plain = text(header::CONTENT_ENCODING)
        .is_none_or(|coding| coding.trim().eq_ignore_ascii_case("identity"));
    let problem = |text| Problem::new(ProblemCode::UnsupportedMediaType, text);
    if !json {
        return Err(problem("send the header content-type: application/json").into());
    }
    if !plain {
        return Err(problem("send the body as it is, without content-encoding").into());
    }
    Ok(())
}

fn too_large() -> Problem {
    let text = format!("the body is larger than {MAX_BODY} bytes");
    Problem::new(ProblemCode::BodyTooLarge, text)
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_DETAIL).collect()
}

/// The id in the path.
#[derive(Debug)]
pub(crate) struct Id<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Id<T>
where
    S: Send + Sync,
    T: FromStr,
    T::Err: std::fmt::Display,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let invalid = |text: String| Problem::new(ProblemCode::InvalidParameter, text);
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|error| invalid(error.to_string()))?;
        let text = params
            .iter()
            .find(|(name, _)| *name == "id")
            .map_or("", |(_, value)| value);
        let id = text
            .parse()
            .map_err(|error: T::Err| invalid(error.to_string()))?;
        Ok(Self(id))
    }
}

/// The query string; an unknown or repeated parameter is a fault.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = Query::<T>::try_from_uri(&parts.uri).map_err(|error| {
            let text = error
                .source()
                .map_or_else(|| error.to_string(), ToString::to_string);
            Problem::new(ProblemCode::InvalidParameter, cut(&text))
        })?;
        Ok(Self(query.0))
    }
}

/// The query string of a path that knows no parameter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParams {}

/// A range of time and a page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// Not before this.
    from: Option<Timestamp>,
    /// Before this.
    to: Option<Timestamp>,
    /// Most items, 1 to 1000. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

impl PageParams {
    pub(crate) fn into_query(self) -> Result<HistoryQuery, Failure> {
        page(self.from, self.to, self.limit, self.cursor)
    }
}

pub(crate) fn page(
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    limit: Option<usize>,
    cursor: Option<Cursor>,
) -> Result<HistoryQuery, Failure> {
    let default = HistoryQuery::default();
    let limit = limit.unwrap_or(default.limit);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let text = format!("limit must be 1 to {MAX_LIMIT}");
        return Err(Problem::new(ProblemCode::InvalidParameter, text).into());
    }
    let (from, to) = (from.unwrap_or(default.from), to.unwrap_or(default.to));
    if from > to {
        let text = format!("from {from} is after to {to}; swap them");
        return Err(Problem::new(ProblemCode::InvalidParameter, text).into());
    }
    Ok(HistoryQuery {
        from,
        to,
        limit,
        cursor,
    })
}
