//! The logs of agents: where they continue, and what they have lost.

use std::collections::HashMap;

use derms_proto::link::{Gap, LogKind};
use derms_proto::{AgentId, LogId, Timestamp};

use super::codes::Code as _;
use super::connection::{Connection, Row};
use super::fault::Fault;
use super::statement::{Statement, portions};
use super::value::{Value, counter};

/// The newest gaps that are told.
const MOST_GAPS: i64 = 10_000;

/// Where the logs of one call stand while its parts are gone through one after the other.
#[derive(Debug)]
pub(super) struct Logs(HashMap<(AgentId, LogId), u64>);

/// What a call has of a log.
#[derive(Debug, Clone, Copy)]
pub struct Move {
    pub(super) agent: AgentId,
    pub(super) log: LogId,
    /// Nothing of it is below this number.
    pub(super) first: u64,
    /// The log continues here, unless it stood further on.
    pub(super) next: u64,
}

impl Logs {
    /// Moves all logs of a call on at once, and holds them until its transaction ends.
    pub(super) async fn take<C: Connection>(
        connection: &mut C,
        kind: LogKind,
        parts: impl IntoIterator<Item = Move>,
    ) -> Result<Self, Fault> {
        // One entry a log, in the order of their ids.
        let mut logs: Vec<Move> = parts.into_iter().collect();
        logs.sort_unstable_by_key(|part| (part.agent, part.log));
        logs.dedup_by(|part, whole| {
            let same = (part.agent, part.log) == (whole.agent, whole.log);
            if same {
                whole.first = whole.first.min(part.first);
                whole.next = whole.next.max(part.next);
            }
            same
        });
        tokio::task::yield_now().await;
        let stood = connection.move_logs(kind, &logs).await?;
        let stood = stood
            .into_iter()
            .map(|(agent, log, seq)| ((agent, log), seq));
        Ok(Self(stood.collect()))
    }

    /// Goes through a part: gives the number below which everything of it was settled before it.
    pub(super) fn pass(&mut self, agent: AgentId, log: LogId, next_seq: u64) -> u64 {
        let cursor = self.0.entry((agent, log)).or_default();
        let settled = *cursor;
        *cursor = settled.max(next_seq);
        settled
    }
}

pub(super) async fn cursor<C: Connection>(
    connection: &mut C,
    agent: AgentId,
    kind: LogKind,
    log: LogId,
) -> Result<Option<u64>, Fault> {
    let statement = Statement::new(
        C::DIALECT,
        "select next_seq from log_cursors where agent_id = ",
    )
    .bind(agent)
    .push(" and kind = ")
    .bind(kind.code())
    .push(" and log_id = ")
    .bind(log);
    let rows = connection.rows(statement).await?;
    rows.first().map(|row| row.counter(0)).transpose()
}

/// Adds what of these gaps is not settled.
pub(super) async fn add_gaps<C: Connection>(
    connection: &mut C,
    gaps: &[(AgentId, LogId, Gap)],
) -> Result<(), Fault> {
    let now = Timestamp::now();
    let rows: Vec<Vec<Value>> = gaps
        .iter()
        .map(|(agent, log, gap)| {
            vec![
                (*agent).into(),
                (*log).into(),
                counter(gap.first_seq),
                counter(gap.last_seq),
                gap.reason.code().into(),
                now.into(),
            ]
        })
        .collect();
    for rows in portions(rows) {
        let statement = Statement::new(
            C::DIALECT,
            "insert into gaps (agent_id, log_id, first_seq, last_seq, reason, stored_at) values ",
        );
        connection.run(statement.rows(rows)).await?;
    }
    Ok(())
}

pub(super) async fn gaps<C: Connection>(
    connection: &mut C,
    agent: AgentId,
) -> Result<Vec<(LogId, Gap)>, Fault> {
    let statement = Statement::new(
        C::DIALECT,
        "select log_id, first_seq, last_seq, reason from gaps where agent_id = ",
    )
    .bind(agent)
    .push(" order by id desc limit ")
    .bind(MOST_GAPS);
    let rows = connection.rows(statement).await?;
    let gaps = rows.iter().rev().map(|row| {
        let gap = Gap {
            first_seq: row.counter(1)?,
            last_seq: row.counter(2)?,
            reason: super::codes::Code::of(row.int(3)?)?,
        };
        Ok((LogId::new(row.uuid(0)?), gap))
    });
    gaps.collect()
}
