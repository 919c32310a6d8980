//! How much callers of REST may ask for, as flags.

use clap::Args;
use derms_headend_sdk::HeadendBuilder;
use derms_headend_sdk::proto::Power;

/// Flags and environment.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bounds of REST")]
pub(crate) struct BoundArgs {
    /// Most power of one order, for an asset or a site, in either direction. Default: no bound
    #[arg(
        long,
        global = true,
        env = "MAX_MW_PER_DISPATCH",
        value_name = "MW",
        value_parser = power,
        allow_negative_numbers = true
    )]
    max_mw_per_dispatch: Option<Power>,

    /// Most power that one principal may order in a minute, all orders added up without their sign.
    /// Default: no bound
    #[arg(
        long,
        global = true,
        env = "MAX_MW_PER_MINUTE",
        value_name = "MW",
        value_parser = power,
        allow_negative_numbers = true
    )]
    max_mw_per_minute: Option<Power>,

    /// Most calls of one principal in a second; twice as many at once after a pause
    #[arg(
        long,
        global = true,
        env = "REST_RATE_LIMIT",
        value_name = "CALLS",
        default_value = "100",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    rate_limit: u32,

    /// An origin whose pages may call REST from a browser, like `https://control.example`; several
    /// with commas. Default: none
    #[arg(
        long,
        global = true,
        env = "CORS_ORIGINS",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    cors_origin: Vec<String>,
}

impl BoundArgs {
    pub(crate) fn give_to(self, mut builder: HeadendBuilder) -> HeadendBuilder {
        if let Some(most) = self.max_mw_per_dispatch {
            builder = builder.max_mw_per_dispatch(most);
        }
        if let Some(most) = self.max_mw_per_minute {
            builder = builder.max_mw_per_minute(most);
        }
        builder
            .rate_limit(self.rate_limit, self.rate_limit.saturating_mul(2))
            .cors_origins(self.cors_origin)
    }
}

fn power(text: &str) -> Result<Power, &'static str> {
    match text.parse() {
        Ok(mw) if mw > 0.0 && f64::is_finite(mw) => Ok(Power::from_mw(mw)),
        _ => Err("write a number of MW above 0"),
    }
}
