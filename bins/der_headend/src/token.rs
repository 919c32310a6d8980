//! `der_headend token`: what an administrator does with the tokens of REST.

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use derms_headend_sdk::Principal;
use derms_headend_sdk::auth::{NewToken, Role, TokenFile};
use derms_headend_sdk::proto::{SiteId, Timestamp};
use derms_program::{Failure, say};

/// What is done with the tokens.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Task {
    /// Make a token, print it once, and add its hash to the file of --tokens
    New(NewArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct NewArgs {
    /// Whose token it is, as orders and the audit trail will show it
    #[arg(long, value_name = "NAME")]
    name: String,

    /// What its holder may do: viewer (read), operator (order, limit, stop), admin (all)
    #[arg(long, value_name = "ROLE")]
    role: Role,

    /// The id of a site that it is limited to; may be given again. Default: all sites
    #[arg(long = "site", value_name = "ID")]
    sites: Vec<SiteId>,

    /// After so many days it is refused. Default: never
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
}

/// Does it, and prints what came out.
pub(crate) fn run(task: &Task, file: &Path) -> Result<(), Failure> {
    let Task::New(new) = task;
    let mut principal = Principal::new(&new.name).with_role(new.role);
    if !new.sites.is_empty() {
        principal = principal.limited_to(new.sites.iter().copied());
    }
    let end = new.days.map(|days| {
        let whole = Duration::from_secs(u64::from(days) * 24 * 3600);
        Timestamp::now().saturating_add(whole)
    });
    let token = NewToken::generate()
        .ok_or_else(|| Failure::start("the system has no random numbers to give"))?;
    TokenFile::append(file, &principal, token.hash(), end)
        .map_err(|error| Failure::start(format!("--tokens (DERMS_TOKENS): {error}")))?;
    // To stdout alone, which can go into a file: the rest is for the log.
    say(&format!("{}\n", token.reveal()));
    tracing::info!(
        name = new.name, role = %new.role, file = %file.display(),
        "added; a headend that runs takes it within a second. The token is not shown again"
    );
    Ok(())
}
