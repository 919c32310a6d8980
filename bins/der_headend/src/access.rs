//! Who may call REST, as flags.

use std::path::PathBuf;

use clap::Args;
use derms_headend_sdk::HeadendBuilder;
use derms_headend_sdk::auth::{AuthFileError, Jwt, JwtAlgorithm, TokenFile};

/// Flags and environment.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access to REST")]
pub(crate) struct AccessArgs {
    /// The file of bearer tokens (their hashes) that REST asks for; `der_headend token new` adds one.
    /// Default: none, and REST asks nobody who they are
    #[arg(long, env = "DERMS_TOKENS", value_name = "FILE", global = true)]
    pub(crate) tokens: Option<PathBuf>,

    /// The file of public keys (JWKS) of an identity provider whose JWTs REST takes. Default: none
    #[arg(long, global = true, env = "DERMS_JWKS", value_name = "FILE")]
    jwks: Option<PathBuf>,

    /// What `iss` of a JWT must be; needed with --jwks
    #[arg(long, global = true, env = "DERMS_JWT_ISSUER", value_name = "TEXT")]
    jwt_issuer: Option<String>,

    /// What `aud` of a JWT must be or hold; needed with --jwks
    #[arg(long, global = true, env = "DERMS_JWT_AUDIENCE", value_name = "TEXT")]
    jwt_audience: Option<String>,

    /// The claim of a JWT with the role; a dot leads into an object
    #[arg(
        long,
        global = true,
        env = "DERMS_JWT_ROLE_CLAIM",
        value_name = "CLAIM",
        default_value = "derms_role"
    )]
    jwt_role_claim: String,

    /// The claim of a JWT with the ids of the sites it is limited to, or `*`.
    /// Default: none, and every JWT is for all sites
    #[arg(
        long,
        global = true,
        env = "DERMS_JWT_SITES_CLAIM",
        value_name = "CLAIM"
    )]
    jwt_sites_claim: Option<String>,

    /// The algorithms that a JWT may be signed by, of RS256, PS256, ES256 and EdDSA
    #[arg(
        long,
        global = true,
        env = "DERMS_JWT_ALGORITHMS",
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "RS256,ES256,EdDSA"
    )]
    jwt_algorithms: Vec<JwtAlgorithm>,

    /// Let everyone read /docs and /openapi.json, which a browser can't open with a token
    #[arg(long, global = true)]
    public_docs: bool,
}

/// Who is asked for what.
#[derive(Debug)]
pub(crate) struct Access {
    tokens: Option<TokenFile>,
    jwt: Option<Jwt>,
    public_docs: bool,
}

impl Access {
    pub(crate) fn check(args: AccessArgs) -> Result<Self, String> {
        let fault = |flag: &str, error: &AuthFileError| format!("{flag}: {error}");
        let tokens = args.tokens.map(|path| {
            TokenFile::open(path).map_err(|error| {
                let hint = "`der_headend token new` makes one";
                format!("{}; {hint}", fault("--tokens (DERMS_TOKENS)", &error))
            })
        });
        let jwt = match (args.jwks, args.jwt_issuer, args.jwt_audience) {
            (None, None, None) => None,
            (Some(jwks), Some(issuer), Some(audience)) => {
                let jwt = Jwt::new(jwks, issuer, audience)
                    .map_err(|error| fault("--jwks (DERMS_JWKS)", &error))?
                    .role_claim(args.jwt_role_claim)
                    .algorithms(args.jwt_algorithms);
                Some(match args.jwt_sites_claim {
                    Some(claim) => jwt.sites_claim(claim),
                    None => jwt,
                })
            }
            _ => {
                return Err(
                    "give --jwks (DERMS_JWKS), --jwt-issuer (DERMS_JWT_ISSUER) and \
                            --jwt-audience (DERMS_JWT_AUDIENCE) all three, or none of them"
                        .to_owned(),
                );
            }
        };
        Ok(Self {
            tokens: tokens.transpose()?,
            jwt,
            public_docs: args.public_docs,
        })
    }

    /// Whether REST asks nobody who they are.
    pub(crate) const fn is_open(&self) -> bool {
        self.tokens.is_none() && self.jwt.is_none()
    }

    pub(crate) fn give_to(self, mut builder: HeadendBuilder) -> HeadendBuilder {
        if let Some(tokens) = self.tokens {
            builder = builder.authentication(tokens);
        }
        if let Some(jwt) = self.jwt {
            builder = builder.authentication(jwt);
        }
        builder.public_docs(self.public_docs)
    }
}
