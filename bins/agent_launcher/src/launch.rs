//! The life of a fleet: start, watch, stop.

use std::path::PathBuf;
use std::time::Duration;

use derms_client::Client;
use derms_program::{Failure, Signals, say};

use crate::access::Access;
use crate::children::{Children, Exit, Role};
use crate::config::{Config, HeadendConfig};
use crate::pki::Pki;
use crate::report::Keys;
use crate::siblings::Siblings;
use crate::{agents, connected, headend, report};

/// Runs until a signal comes or everything has ended; what was started has ended after it.
pub(crate) async fn run(config: &Config) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut children = Children::default();
    let started = tokio::select! {
        started = start(config, &mut children) => started?,
        // What was started is killed when it is dropped.
        () = signals.next() => return Ok(()),
    };
    let result = serve(config, &mut children, &mut signals, &started).await;
    if !children.is_empty() {
        say("stopping; Ctrl-C again kills what is left\n");
        children.stop(signals.next()).await;
        say("all stopped\n");
    }
    result
}

/// What runs now.
struct Started {
    /// Where REST is.
    rest: String,
    /// Where agents go.
    grpc: String,
    /// The CA of REST, if it is over TLS with certificates of our own.
    ca: Option<PathBuf>,
    /// A token to look on with.
    token: Option<PathBuf>,
}

/// Makes the programs, starts the headend if there is to be one, then the agents.
async fn start(config: &Config, children: &mut Children) -> Result<Started, Failure> {
    let mut keys = None;
    let (siblings, rest, grpc) = match &config.headend {
        HeadendConfig::Start {
            http_addr,
            grpc_addr,
            data_dir,
            tls,
        } => {
            let siblings = Siblings::prepare(&["der_headend", "edge_agent"]).await?;
            if *tls {
                let ids = agents::ids(config);
                let pki = Pki::prepare(&siblings, data_dir.as_deref(), &ids).await?;
                let access = Access::prepare(&siblings, data_dir.as_deref()).await?;
                keys = Some((pki, access));
            }
            let headend = headend::start(
                config,
                &siblings,
                *http_addr,
                *grpc_addr,
                data_dir.as_deref(),
                keys.as_ref().map(|(pki, access)| (pki, access)),
            )
            .await?;
            children.add(Role::Headend, "der_headend".to_owned(), headend.child);
            (siblings, headend.rest, headend.grpc)
        }
        HeadendConfig::Running { grpc, rest } => {
            let siblings = Siblings::prepare(&["edge_agent"]).await?;
            (siblings, rest.to_string(), grpc.to_string())
        }
    };
    let pki = keys.as_ref().map(|(pki, _)| pki);
    let started = agents::start(config, &siblings, &grpc, pki, children)?;
    let shown = keys.as_ref().map(|(pki, access)| Keys {
        ca: pki.ca(),
        token: access.token("operator"),
    });
    say(&report::text(&config.fleet, &rest, &grpc, shown.as_ref()));
    say(&format!(
        "{started} agents started; Ctrl-C stops everything\n"
    ));
    let token = keys.as_ref().map(|(_, access)| access.token("viewer"));
    Ok(Started {
        rest,
        grpc,
        ca: shown.map(|keys| keys.ca),
        token: config.token_file.clone().or(token),
    })
}

/// Until a signal comes, or everything has ended.
async fn serve(
    config: &Config,
    children: &mut Children,
    signals: &mut Signals,
    started: &Started,
) -> Result<(), Failure> {
    let Started {
        rest,
        grpc,
        ca,
        token,
    } = started;
    let base = rest
        .parse()
        .map_err(|_| Failure::start(format!("{rest} is no address of a REST service")))?;
    let mut builder = Client::builder(base).timeout(Duration::from_secs(5));
    if let Some(ca) = ca {
        builder = builder.ca(ca);
    }
    if let Some(file) = token {
        builder = builder.token_file(file);
    }
    let client = builder
        .build()
        .map_err(|error| Failure::start(format!("can't call the REST service: {error}")))?;
    let assets = config.fleet.assets();
    let mut connected = std::pin::pin!(connected::all(&client, assets));
    let mut all_connected = false;
    loop {
        tokio::select! {
            () = signals.next() => return Ok(()),
            took = &mut connected, if !all_connected => {
                all_connected = true;
                let seconds = took.as_secs_f64();
                say(&format!("all {} assets connected after {seconds:.1} s\n", assets.len()));
            }
            exit = children.next() => match exit {
                Some(exit) => ended(&exit, grpc),
                None => return Err(Failure::start("everything that was started has ended")),
            },
        }
    }
}

/// A child has ended that nobody has told to.
fn ended(exit: &Exit, grpc: &str) {
    let status = match &exit.status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let Exit { name, pid, .. } = exit;
    match exit.role {
        Role::Agent => tracing::error!(
            name,
            pid,
            status,
            "an agent has ended; it is not started again"
        ),
        Role::Headend => tracing::error!(
            name,
            pid,
            status,
            grpc,
            "the headend has ended; it is not started again, and the agents keep dialling it"
        ),
    }
}
