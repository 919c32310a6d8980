//! Whether every number of a telemetry log is accounted for (I10, I11, I12).

use derms_proto::AgentId;
use sqlx::{PgPool, SqlitePool};

/// What a database holds of the logs of one agent with one asset, while nobody writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Numbers that are settled.
    pub(crate) settled: i64,
    /// Numbers that are declared lost.
    pub(crate) lost: i64,
    /// Measurements.
    pub(crate) stored: i64,
}

impl Counted {
    pub(crate) async fn of(store: &str, agent: AgentId) -> Self {
        let sql = |measurements: &str| {
            format!(
                "select (select cast(coalesce(sum(next_seq - 1), 0) as bigint) from log_cursors \
                 where kind = 0 and agent_id = $1), \
                 (select cast(coalesce(sum(last_seq - first_seq + 1), 0) as bigint) from gaps \
                 where agent_id = $1), \
                 (select count(*) from {measurements} m join assets a on a.key = m.asset \
                 where a.id = $1)"
            )
        };
        let agent = agent.uuid();
        let (settled, lost, stored) = if store.starts_with("postgres:") {
            let pool = PgPool::connect(store).await.unwrap();
            let path = sqlx::raw_sql("set search_path = derms");
            let mut connection = pool.acquire().await.unwrap();
            path.execute(&mut *connection).await.unwrap();
            let sql = sqlx::AssertSqlSafe(sql("telemetry"));
            let query = sqlx::query_as(sql).bind(agent);
            query.fetch_one(&mut *connection).await.unwrap()
        } else {
            let pool = SqlitePool::connect(&format!("sqlite://{store}"))
                .await
                .unwrap();
            let sql = sqlx::AssertSqlSafe(sql("measurements"));
            let query = sqlx::query_as(sql).bind(agent);
            let counted = query.fetch_one(&pool).await.unwrap();
            pool.close().await;
            counted
        };
        Self {
            settled,
            lost,
            stored,
        }
    }

    /// Each number is stored once or declared lost.
    pub(crate) fn fault(self) -> Option<String> {
        let Self {
            settled,
            lost,
            stored,
        } = self;
        (settled != lost + stored).then(|| {
            format!("of {settled} numbers {stored} are stored and {lost} are declared lost")
        })
    }
}

#[test]
fn a_number_that_is_neither_stored_nor_declared_lost_is_found() {
    let counted = Counted {
        settled: 10,
        lost: 3,
        stored: 7,
    };
    assert_eq!(counted.fault(), None);
    assert!(Counted { lost: 2, ..counted }.fault().is_some());
    assert!(
        Counted {
            stored: 8,
            ..counted
        }
        .fault()
        .is_some()
    );
}
