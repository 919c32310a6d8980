//! In place of `tls` when that feature is off: no error comes from there.

use std::error::Error;

pub(crate) fn explain(_: &(dyn Error + 'static)) -> Option<String> {
    None
}
