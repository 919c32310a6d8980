//! Who did what.

use derms_client::AuditHistoryQuery;

use crate::args::AuditArgs;
use crate::connection::Session;
use crate::lists::{first, within};
use crate::table::{Table, Tone};
use crate::words::{fine_time, or_nothing, word};
use crate::{Outcome, out};

pub(crate) async fn list(session: &Session, args: &AuditArgs) -> Outcome {
    let mut query = within!(AuditHistoryQuery::new(), &args.window);
    if let Some(principal) = &args.principal {
        query = query.principal(principal);
    }
    if let Some(action) = &args.action {
        query = query.action(action);
    }
    let records = first(session.client.audit(query), args.window.limit).await?;
    if session.json {
        return out::json(&records);
    }
    let heading = [
        "AT", "WHO", "FROM", "ACTION", "TARGET", "STATUS", "CODE", "DETAIL",
    ];
    let mut table = Table::new(&heading, "no records in this time");
    for it in records {
        let tone = if it.code.is_some() {
            Tone::Doubtful
        } else {
            Tone::Plain
        };
        table.row(
            tone,
            [
                fine_time(it.at),
                or_nothing(it.principal, |name| name),
                or_nothing(it.peer, |peer| peer),
                it.action,
                or_nothing(it.target, |target| target),
                or_nothing(it.status, |status| status.to_string()),
                or_nothing(it.code, |code| word(&code)),
                or_nothing(it.detail, |detail| detail),
            ],
        );
    }
    table.print()
}
