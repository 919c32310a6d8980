//! One headend has a schema at a time.
//!
//! Each connection of a headend holds a lock of its server session, shared with its other ones, until
//! it closes. Which headend has the schema changes only under the same lock, held by nobody else.
//! So a connection that took the lock and then found its own headend there works for the one that
//! has the schema for as long as it lives, and nothing is asked in the way of a call.
//!
//! One connection beside the pool does nothing else: the pool closes those that are idle or old
//! before it opens others, and the schema must not look free meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::super::super::StoreError;
use super::super::fault::Fault;
use super::super::schema::OpenError;
use super::connection::WRITE;

/// How often a schema that is in use is looked at again.
const LOOK: Duration = Duration::from_millis(250);
/// How often the connection that only holds the lock is looked after.
const PULSE: Duration = Duration::from_secs(5);

/// A server keeps a headend that is idle, and finds out after [`GONE_AFTER`] instead of two hours that
/// its machine has lost its power.
pub(super) const KEEPALIVE: [(&str, &str); 5] = [
    ("idle_session_timeout", "0"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "25000"),
];

/// After its last answer to the server.
pub(super) const GONE_AFTER: Duration = Duration::from_secs(25);

/// The numbers of the lock.
fn lock(schema: &str) -> String {
    format!("hashtext('derms {schema}'), 5")
}

/// The right to take a schema, while no headend has it: nobody else gets in as long as this lives.
#[derive(Debug)]
pub(super) struct Claim {
    connection: PgConnection,
    schema: String,
}

impl Claim {
    /// Waits until the headend that has the schema is gone, at most for `patience`.
    pub(super) async fn wait(
        mut connection: PgConnection,
        schema: &str,
        location: &str,
        patience: Duration,
    ) -> Result<Self, OpenError> {
        let failed = OpenError::told("to see who has the schema");
        let failed = |error: sqlx::Error| failed(error.into());
        let began = Instant::now();
        let mut told = false;
        loop {
            let take = format!("select pg_try_advisory_lock({})", lock(schema));
            let row = connection.fetch_one(AssertSqlSafe(take)).await;
            let taken = row.and_then(|row| row.try_get(0)).map_err(failed)?;
            if taken {
                let schema = schema.to_owned();
                return Ok(Self { connection, schema });
            }
            let by = holders(&mut connection, schema).await.map_err(failed)?;
            let location = format!("{location}{by}");
            if began.elapsed() >= patience {
                return Err(OpenError::InUse { location });
            }
            if !told {
                let patience_s = patience.as_secs();
                tracing::warn!(location, patience_s, "waiting for another headend to end");
                told = true;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes the schema, which is up to date.
    pub(super) async fn take(
        mut self,
        options: PgPoolOptions,
        server: PgConnectOptions,
    ) -> Result<(PgPool, Held), Fault> {
        let holder = Holder {
            instance: Uuid::new_v4(),
            schema: self.schema.into(),
            taken_over: Arc::default(),
        };
        // Durable as all that follows is: a row that a crash takes back would be another headend's.
        self.connection.execute(sqlx::raw_sql(WRITE)).await?;
        let sql = "insert into holder (instance_id, since) values ($1, now()) \
                   on conflict (one) do update set instance_id = excluded.instance_id, \
                   since = excluded.since";
        let insert = sqlx::query(sql).bind(holder.instance);
        self.connection.execute(insert).await?;
        self.connection.execute("commit").await?;
        // From here on those of this headend are let in, and no other claim.
        let lock = lock(&holder.schema);
        let share =
            format!("select pg_advisory_lock_shared({lock}); select pg_advisory_unlock({lock})");
        let share = sqlx::raw_sql(AssertSqlSafe(share));
        self.connection.execute(share).await?;
        let joining = holder.clone();
        let pool = options
            .after_connect(move |connection, _| {
                let holder = joining.clone();
                Box::pin(async move { holder.join(connection).await })
            })
            .connect_lazy_with(server.clone());
        let mut keeper = JoinSet::new();
        keeper.spawn(holder.clone().keep(self.connection, server));
        let held = Held {
            holder,
            _keeper: keeper,
        };
        Ok((pool, held))
    }
}

/// A schema, held until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    holder: Holder,
    /// Dropped, it ends, and its connection with it.
    _keeper: JoinSet<()>,
}

impl Held {
    /// To be asked about each connection that a pool gave, before it is used.
    pub(super) fn still(&self) -> Result<(), Fault> {
        match self.holder.is_taken_over() {
            false => Ok(()),
            true => Err(StoreError::TakenOver.into()),
        }
    }
}

/// The headend that took the schema.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    instance: Uuid,
    schema: Arc<str>,
    /// By another one; for good.
    taken_over: Arc<AtomicBool>,
}

impl Holder {
    /// Lets a new connection take part in the lock. It connects well also when the schema is
    /// another headend's: the pool would try for ever and tell nobody why.
    async fn join(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let lock = lock(&self.schema);
        let share = format!("select pg_advisory_lock_shared({lock})");
        connection.execute(AssertSqlSafe(share)).await?;
        let found: Option<Uuid> = sqlx::query_scalar("select instance_id from holder")
            .fetch_optional(&mut *connection)
            .await?;
        if found != Some(self.instance) {
            self.taken_over.store(true, Ordering::Release);
            let leave = format!("select pg_advisory_unlock_shared({lock})");
            connection.execute(AssertSqlSafe(leave)).await?;
        }
        Ok(())
    }

    fn is_taken_over(&self) -> bool {
        self.taken_over.load(Ordering::Acquire)
    }

    /// Holds the lock with this connection, and with another one when it is gone.
    async fn keep(self, mut connection: PgConnection, server: PgConnectOptions) {
        while !self.is_taken_over() {
            tokio::time::sleep(PULSE).await;
            if matches!(timeout(PULSE, connection.ping()).await, Ok(Ok(()))) {
                continue;
            }
            let again = async {
                let mut connection = PgConnection::connect_with(&server).await?;
                self.join(&mut connection).await?;
                Ok::<_, sqlx::Error>(connection)
            };
            match timeout(PULSE, again).await {
                Ok(Ok(another)) => connection = another,
                Ok(Err(error)) => tracing::debug!(%error, "can't hold the schema yet"),
                Err(_) => {}
            }
        }
    }
}

/// Where the connections that hold the lock come from, for people; empty if that can't be seen.
async fn holders(connection: &mut PgConnection, schema: &str) -> Result<String, sqlx::Error> {
    // A pair of numbers stands in a lock as two columns without a sign.
    // A role that may not see the other one's sees no address.
    let sql = "select string_agg(distinct coalesce(host(a.client_addr), \
               case when a.client_port = -1 then 'the machine of the server' end, 'somewhere') \
               || ' (' || a.application_name || ')', ', ') \
               from pg_locks l join pg_stat_activity a on a.pid = l.pid \
               where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.objid = 5 \
               and l.database = (select oid from pg_database where datname = current_database()) \
               and l.classid::int8 = hashtext('derms ' || $1)::int8 & 4294967295";
    let from: Option<String> = sqlx::query_scalar(sql)
        .bind(schema)
        .fetch_one(connection)
        .await?;
    Ok(from.map_or_else(String::new, |from| format!(", connected from {from},")))
}
