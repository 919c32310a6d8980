//! A bearer token from a file.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use http::HeaderValue;

use crate::Error;

/// The header `Authorization` with this token.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, Error> {
    match HeaderValue::from_str(&format!("Bearer {token}")) {
        Ok(mut value) if !token.is_empty() => {
            value.set_sensitive(true);
            Ok(value)
        }
        // Not quoted: it is a secret.
        _ => Err(Error::invalid_request(
            "the bearer token is empty or holds characters that a header can't; check it for a \
             line break at its end",
        )),
    }
}

/// The token as the file had it last.
pub(crate) struct TokenFile {
    path: PathBuf,
    header: Mutex<HeaderValue>,
}

impl TokenFile {
    pub(crate) fn open(path: PathBuf) -> Result<Self, Error> {
        let header = Mutex::new(read(&path)?);
        Ok(Self { path, header })
    }

    pub(crate) fn header(&self) -> HeaderValue {
        let header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        header.clone()
    }

    /// Reads the file again after `refused` was; `true`: it holds another one now.
    pub(crate) fn renew(&self, refused: &HeaderValue) -> bool {
        let Ok(new) = read(&self.path) else {
            return false;
        };
        let differs = new != refused;
        *self.header.lock().unwrap_or_else(PoisonError::into_inner) = new;
        differs
    }
}

fn read(path: &PathBuf) -> Result<HeaderValue, Error> {
    let text = fs::read_to_string(path).map_err(|error| {
        let path = path.display();
        Error::invalid_request(format!("can't read the token file {path}: {error}"))
    })?;
    bearer(text.trim())
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenFile").field(&self.path).finish()
    }
}
