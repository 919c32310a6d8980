//! A statement with its arguments, written once for every database.

use std::ops::Range;

use uuid::Uuid;

use super::super::page::{self, Place};
use super::value::Value;

/// How databases differ where a statement is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// One writer at a time, so nothing need be locked.
    #[cfg(feature = "sqlite")]
    Sqlite,
    /// Rows are locked, always in the order of their ids.
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Dialect {
    /// After a `select` whose rows are about to be changed.
    pub(super) const fn for_update(self) -> &'static str {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => "",
            #[cfg(feature = "postgres")]
            Self::Postgres => " for update",
        }
    }

    /// After a `select` whose rows must stay as they are.
    pub(super) const fn for_share(self) -> &'static str {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite => "",
            #[cfg(feature = "postgres")]
            Self::Postgres => " for share",
        }
    }
}

/// SQL that grows together with its arguments.
#[derive(Debug)]
pub struct Statement {
    dialect: Dialect,
    pub(super) sql: String,
    pub(super) args: Vec<Value>,
}

/// How many rows a statement of many holds: few different texts, so that each is prepared once.
const PORTIONS: [usize; 3] = [256, 16, 1];

impl Statement {
    pub(super) fn new(dialect: Dialect, sql: &str) -> Self {
        Self {
            dialect,
            sql: sql.to_owned(),
            args: Vec::new(),
        }
    }

    pub(super) fn push(mut self, sql: &str) -> Self {
        self.sql.push_str(sql);
        self
    }

    /// One argument.
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.placeholder(value.into());
        self
    }

    /// A list in brackets: a row to insert or to compare with.
    pub(super) fn row(mut self, values: impl IntoIterator<Item = Value>) -> Self {
        self.sql.push('(');
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.sql.push(',');
            }
            self.placeholder(value);
        }
        self.sql.push(')');
        self
    }

    /// Several of them.
    pub(super) fn rows(mut self, rows: impl IntoIterator<Item = Vec<Value>>) -> Self {
        for (index, values) in rows.into_iter().enumerate() {
            if index > 0 {
                self.sql.push(',');
            }
            self = self.row(values);
        }
        self
    }

    /// A condition and an `and`, if there is a value; `column` has its comparison.
    pub(super) fn only(self, column: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.push(column).bind(value).push(" and "),
            None => self,
        }
    }

    /// The end of a list by time and id, newest first: what is in the range, as much as a page takes.
    pub(super) fn newest_first(self, time: &str, range: &Range<Place>, limit: usize) -> Self {
        self.push(time)
            .push(" >= ")
            .bind(range.start.at)
            .push(&format!(" and ({time}, id) < "))
            .row([range.end.at.into(), Uuid::from_u128(range.end.id).into()])
            .push(&format!(" order by {time} desc, id desc limit "))
            .bind(page::fetch(limit))
    }

    /// A condition: the column before it is one of these.
    pub(super) fn one_of(self, ids: &[Uuid]) -> Self {
        match self.dialect {
            #[cfg(feature = "sqlite")]
            Dialect::Sqlite => {
                // The last is repeated, so that few lengths are prepared.
                let last = ids.last().copied();
                let length = ids.len().next_power_of_two();
                let ids = ids.iter().copied().chain(last.into_iter().cycle());
                self.push(" in ")
                    .row(ids.take(length).map(|id| Value::Uuid(Some(id))))
            }
            #[cfg(feature = "postgres")]
            Dialect::Postgres => {
                let mut this = self.push(" = any(");
                this.placeholder(Value::Uuids(ids.to_vec()));
                this.push(")")
            }
        }
    }

    fn placeholder(&mut self, value: Value) {
        self.args.push(value);
        match self.dialect {
            // One with a name is looked for among all of them each time it is bound.
            #[cfg(feature = "sqlite")]
            Dialect::Sqlite => self.sql.push('?'),
            #[cfg(feature = "postgres")]
            Dialect::Postgres => {
                self.sql.push('$');
                self.sql.push_str(&self.args.len().to_string());
            }
        }
    }
}

/// Cuts rows into portions of few different lengths.
pub(super) fn portions<T>(mut rows: Vec<T>) -> Vec<Vec<T>> {
    let mut portions = Vec::new();
    for size in PORTIONS {
        while rows.len() >= size {
            let rest = rows.split_off(size);
            portions.push(std::mem::replace(&mut rows, rest));
        }
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_into_portions_of_few_lengths_in_their_order() {
        let cut = portions((0..290).collect());
        let lengths: Vec<usize> = cut.iter().map(Vec::len).collect();
        assert_eq!(lengths, [256, 16, 16, 1, 1]);
        assert_eq!(cut.concat(), (0..290).collect::<Vec<_>>());
        assert!(portions(Vec::<u8>::new()).is_empty());
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_list_of_ids_is_filled_up_with_its_last() {
        let ids: Vec<Uuid> = (1..=3).map(Uuid::from_u128).collect();
        let statement = Statement::new(Dialect::Sqlite, "id").one_of(&ids);
        assert_eq!(statement.sql, "id in (?,?,?,?)");
        assert_eq!(statement.args[3], Value::from(ids[2]));
        let none = Statement::new(Dialect::Sqlite, "id").one_of(&[]);
        assert_eq!((none.sql.as_str(), none.args.len()), ("id in ()", 0));
    }
}
