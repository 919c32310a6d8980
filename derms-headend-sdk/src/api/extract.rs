//! Request parts whose faults are problems with a code.

use std::str::FromStr;

use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams};
use derms_proto::{Cursor, Problem, ProblemCode, Timestamp};
use http::request::Parts;
use http::{Request, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::problem::Failure;
use super::{MAX_BODY, MAX_LIMIT};
use crate::auth::Principal;
use crate::store::HistoryQuery;

/// A JSON body of at most 64 KiB.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request<axum::body::Body>, _: &S) -> Result<Self, Failure> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let json = content_type.and_then(|value| value.to_str().ok()).is_some_and(|value| {
            let essence = value.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/json")
        });
        if !json {
            let text = "send the header content-type: application/json";
            return Err(Problem::new(ProblemCode::UnsupportedMediaType, text).into());
        }
        let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
        let bytes = body.map_err(|error| {
            if error.downcast_ref::<LengthLimitError>().is_some() {
                let text = format!("the body is larger than {MAX_BODY} bytes");
                Problem::new(ProblemCode::BodyTooLarge, text)
            } else {
                Problem::new(ProblemCode::InvalidBody, "the body did not arrive whole")
            }
        })?;
        serde_json::from_slice(&bytes.to_bytes())
            .map(Self)
            .map_err(|error| Problem::new(ProblemCode::InvalidBody, error.to_string()).into())
    }
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
        let text = params.iter().find(|(name, _)| *name == "id").map_or("", |(_, value)| value);
        let id = text.parse().map_err(|error: T::Err| invalid(error.to_string()))?;
        Ok(Self(id))
    }
}

/// The query string.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = Query::<T>::try_from_uri(&parts.uri).map_err(|error| {
            let text = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Problem::new(ProblemCode::InvalidParameter, text)
        })?;
        Ok(Self(query.0))
    }
}

/// Who is calling, if a layer in front said so.
#[derive(Debug)]
pub(crate) struct Caller(pub(crate) Option<Principal>);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get().cloned()))
    }
}

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
    Ok(HistoryQuery {
        from: from.unwrap_or(default.from),
        to: to.unwrap_or(default.to),
        limit,
        cursor,
    })
}
