//! The two servers, and how the director asks them.

pub(crate) mod bare;
pub(crate) mod headend;

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::runtime::Runtime;

use crate::words::{self, AskAges, Result, Spread};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The same runtime for both servers: what `#[tokio::main]` gives.
fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

/// Answers the director until it goes away.
async fn answer(mut ages: impl AsyncFnMut(AskAges) -> Result<Spread>) -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        words::tell(&ages(serde_json::from_str(&line)?).await?)?;
    }
    Ok(())
}
