//! Who is calling, and what they may do.
//!
//! Two ways lead to a [`Principal`]:
//!
//! 1. **Your own authentication.** A layer in front of the service proves who calls and inserts a
//!    [`Principal`] as a request extension. [`HeadendBuilder::require_principal`] refuses what comes
//!    without one.
//! 2. **Bearer tokens.** [`HeadendBuilder::authentication`] takes an [`Authenticate`]: a
//!    [`TokenFile`] of hashed tokens, [`Jwt`]s signed by keys in a JWKS file, or one of your own.
//!    Both may be set, and [`AuthLayer`] does the same in front of any other service.
//!
//! With one of them every path but `/healthz` and `/readyz` needs a principal, and the [`Role`] of
//! the principal decides what it may do. A principal that is limited to some sites sees and orders
//! these alone: of others it is told that they do not exist. Without either the service asks nobody
//! who they are, and everyone who reaches it may do everything.
//!
//! [`HeadendBuilder::require_principal`]: crate::HeadendBuilder::require_principal
//! [`HeadendBuilder::authentication`]: crate::HeadendBuilder::authentication

mod authenticate;
mod jwks;
mod jwt;
mod layer;
mod principal;
mod token;
mod token_file;
mod watched;

pub use authenticate::{Authenticate, Refused};
pub(crate) use authenticate::{Authentication, Unproved};
pub use jwks::JwtAlgorithm;
pub use jwt::Jwt;
pub use layer::{AuthFuture, AuthLayer, AuthService};
pub use principal::{Principal, Role};
#[cfg(feature = "tls")]
pub(crate) use token::sha256;
pub use token::{NewToken, TokenHash};
pub use token_file::TokenFile;
pub use watched::AuthFileError;
