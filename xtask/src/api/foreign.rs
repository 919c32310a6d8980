//! Whose types may show in our API: their next major release would be ours too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::shell::Result;

/// Everybody has these.
const STANDARD: [&str; 3] = ["alloc", "core", "std"];

/// For each library the crates, and names of other crates' items, that its API may show.
#[derive(Debug)]
pub(crate) struct Allowed(BTreeMap<String, BTreeSet<String>>);

impl Allowed {
    /// Reads the table of a document: a row for each library, its name and then the names, each
    /// in backticks.
    pub(crate) fn read(document: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(document)
            .map_err(|error| format!("cannot read {}: {error}", document.display()))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let rows = text.lines().filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|');
            let library = quoted(cells.next()?).next()?.to_owned();
            let names = quoted(cells.next()?).map(str::to_owned).collect();
            Some((library, names))
        });
        Self(rows.collect())
    }

    /// Fails if the API of this library shows another crate, or no longer one that is allowed.
    pub(crate) fn check(&self, library: &str, shown: &BTreeMap<String, String>) -> Result<()> {
        let allowed = self.0.get(library).ok_or_else(|| {
            format!("{library} has no row in the table of docs/api/README.md; add one")
        })?;
        let own = library.replace('-', "_");
        let is_given = |name: &str| STANDARD.contains(&name) || name == own;
        for (name, line) in shown {
            if !is_given(name) && !allowed.contains(name) {
                return Err(format!(
                    "{library} shows `{name}`, which docs/api/README.md does not allow it to:\n  \
                     {line}\nhide it behind a type of ours"
                )
                .into());
            }
        }
        match allowed.iter().find(|name| !shown.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(format!(
                "{library} no longer shows `{name}`; take it out of docs/api/README.md"
            )
            .into()),
        }
    }
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "text\n\n| library | shows |\n|---|---|\n| `a-b` | `http`, `uuid` | why |\n";

    fn check(shown: &[&str]) -> std::result::Result<(), String> {
        let shown = shown
            .iter()
            .map(|name| ((*name).to_owned(), "pub x".to_owned()));
        let allowed = Allowed::parse(TABLE);
        allowed
            .check("a-b", &shown.collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_table_says_and_what_everybody_has_may_show() {
        check(&["a_b", "alloc", "core", "http", "std", "uuid"]).unwrap();
    }

    #[test]
    fn another_crate_is_named_with_the_line_that_shows_it() {
        let error = check(&["http", "tonic", "uuid"]).unwrap_err();
        assert!(error.starts_with("a-b shows `tonic`"), "{error}");
        assert!(error.contains("pub x"), "{error}");
    }

    #[test]
    fn a_permission_that_is_not_used_is_an_error() {
        let error = check(&["http"]).unwrap_err();
        assert!(error.starts_with("a-b no longer shows `uuid`"), "{error}");
    }

    #[test]
    fn a_library_without_a_row_is_an_error() {
        let error = Allowed::parse(TABLE)
            .check("c", &BTreeMap::new())
            .unwrap_err();
        assert!(error.to_string().starts_with("c has no row"));
    }
}
