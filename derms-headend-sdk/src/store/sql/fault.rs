//! What goes wrong at a database, and what that means for the caller.

use super::super::StoreError;

/// Why a call failed, on its way to a [`StoreError`].
#[derive(Debug)]
pub enum Fault {
    /// The same transaction may go through when it is tried again.
    Conflict(sqlx::Error),
    /// The database can't be reached, is full, or takes too long.
    Away(sqlx::Error),
    /// It took longer than a call may.
    TooLong,
    /// What it answered can't be understood.
    Wrong(sqlx::Error),
    /// What it holds can't be understood.
    Unreadable(String),
    /// For the caller as it is.
    Store(StoreError),
}

impl Fault {
    pub(super) fn unreadable(what: impl Into<String>) -> Self {
        Self::Unreadable(what.into())
    }

    pub(super) fn may_be_tried_again(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// `what` was being done.
    pub(super) fn told(self, what: &str) -> StoreError {
        let context = what.to_owned();
        match self {
            Self::Conflict(error) | Self::Away(error) => StoreError::Unavailable {
                context,
                source: Some(Box::new(error)),
            },
            Self::TooLong => StoreError::Unavailable {
                context: format!("{what}: no answer in time"),
                source: None,
            },
            Self::Wrong(error) => StoreError::Corrupt {
                context,
                source: Some(Box::new(error)),
            },
            Self::Unreadable(found) => StoreError::Corrupt {
                context: format!("{what}: {found}"),
                source: None,
            },
            Self::Store(error) => error,
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        match kind(&error) {
            Kind::Conflict => Self::Conflict(error),
            Kind::Away => Self::Away(error),
            Kind::Wrong => Self::Wrong(error),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Conflict,
    Away,
    Wrong,
}

fn kind(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code();
            let code = code.as_deref().unwrap_or_default();
            #[cfg(feature = "postgres")]
            if database
                .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                .is_some()
            {
                return postgres(code);
            }
            sqlite(code)
        }
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Encode(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::TypeNotFound { .. }
        | sqlx::Error::RowNotFound => Kind::Wrong,
        // Sockets, TLS, a protocol out of step, a pool without a free connection.
        _ => Kind::Away,
    }
}

/// By SQLSTATE. What is not known counts as away: a call that is given up for good loses more than
/// one that is tried again in vain.
#[cfg(feature = "postgres")]
fn postgres(code: &str) -> Kind {
    match code {
        // Serialization failure, deadlock, an id or a key that another call has just taken.
        "40001" | "40P01" | "23505" => Kind::Conflict,
        // Data exceptions, broken constraints, unknown tables and columns, damaged pages.
        _ if ["22", "23", "42", "XX001", "XX002"]
            .iter()
            .any(|class| code.starts_with(class) && code != "42501") =>
        {
            Kind::Wrong
        }
        _ => Kind::Away,
    }
}

/// By the primary result code; https://www.sqlite.org/rescode.html.
fn sqlite(code: &str) -> Kind {
    let extended: i32 = code.parse().unwrap_or_default();
    match extended & 0xff {
        // A unique index, or any other constraint.
        19 if matches!(extended, 1555 | 2067) => Kind::Conflict,
        // An error in the SQL, a damaged file, a constraint, a type, a parameter, no database.
        1 | 11 | 19 | 20 | 25 | 26 => Kind::Wrong,
        _ => Kind::Away,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "postgres")]
    #[test]
    fn an_answer_of_postgresql_is_a_conflict_an_outage_or_a_fault() {
        for (code, wanted) in [
            ("40001", Kind::Conflict),
            ("40P01", Kind::Conflict),
            ("23505", Kind::Conflict),
            ("57014", Kind::Away), // statement timeout
            ("57P01", Kind::Away), // the server goes down
            ("53100", Kind::Away), // disk full
            ("55P03", Kind::Away), // lock timeout
            ("25006", Kind::Away), // a standby
            ("42501", Kind::Away), // a right that somebody may give
            ("", Kind::Away),
            ("22P05", Kind::Wrong),
            ("42P01", Kind::Wrong),
            ("XX001", Kind::Wrong),
        ] {
            assert_eq!(postgres(code), wanted, "{code}");
        }
    }

    #[test]
    fn an_answer_of_sqlite_is_a_conflict_an_outage_or_a_fault() {
        for (code, wanted) in [
            ("5", Kind::Away),   // busy
            ("517", Kind::Away), // busy snapshot
            ("13", Kind::Away),  // disk full
            ("778", Kind::Away), // disk I/O
            ("14", Kind::Away),  // can't open
            ("2067", Kind::Conflict),
            ("1555", Kind::Conflict),
            ("1299", Kind::Wrong), // not null
            ("11", Kind::Wrong),
            ("26", Kind::Wrong),
        ] {
            assert_eq!(sqlite(code), wanted, "{code}");
        }
    }
}
