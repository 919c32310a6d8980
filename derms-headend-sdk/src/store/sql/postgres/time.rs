//! Points in time as PostgreSQL keeps them.

use derms_proto::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo};
use sqlx::{Encode, Postgres, Type};

/// 2000-01-01 in microseconds since 1970: where PostgreSQL counts from.
const EPOCH: i64 = 946_684_800_000_000;

/// A `timestamptz`. All that a [`Timestamp`] can be fits in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(pub(super) Timestamp);

pub(super) fn stored(at: Timestamp) -> i64 {
    at.unix_micros() - EPOCH
}

pub(super) fn read(stored: i64) -> Timestamp {
    Timestamp::from_unix_micros(stored.saturating_add(EPOCH))
}

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        // `timestamptz`, by the number it has in every database.
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl PgHasArrayType for Time {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for Time {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&stored(self.0).to_be_bytes());
        Ok(IsNull::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_time_fits_into_a_column_and_comes_out_as_it_was() {
        for at in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            assert_eq!(read(stored(at)), at);
        }
        assert_eq!(read(0).to_string(), "2000-01-01T00:00:00Z");
        // `infinity` and `-infinity`, which others may have written.
        assert_eq!(read(i64::MAX), Timestamp::MAX);
        assert_eq!(read(i64::MIN), Timestamp::MIN);
    }
}
