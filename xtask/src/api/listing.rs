//! What a library shows, line by line.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use public_api::PublicItem;
use public_api::tokens::Token;
use serde::Deserialize;

use crate::shell::Result;

/// Generated from the .proto and shown as it is: its contract is the .proto, held by tests of its
/// own, and it is the one place where prost and tonic may show.
const GENERATED: &str = "derms_proto::pb";

/// Says nothing that a user would notice.
const NOISE: [&str; 6] = [
    "core::marker::Freeze",
    "core::marker::StructuralPartialEq",
    "core::marker::Unpin",
    "core::marker::UnsafeUnpin",
    "core::panic::unwind_safe::RefUnwindSafe",
    "core::panic::unwind_safe::UnwindSafe",
];

/// The public API of one library.
#[derive(Debug)]
pub(crate) struct Listing {
    lines: Vec<String>,
    foreign: BTreeMap<String, String>,
}

/// Whether this JSON of rustdoc is in the form that we read.
pub(crate) fn can_read(json: &Path, format: u64) -> Result<bool> {
    #[derive(Deserialize)]
    struct Head {
        format_version: u64,
    }
    let file =
        File::open(json).map_err(|error| format!("cannot read {}: {error}", json.display()))?;
    let head: Head = serde_json::from_reader(BufReader::new(file))?;
    Ok(head.format_version == format)
}

impl Listing {
    /// Reads the JSON that rustdoc wrote of a library.
    pub(crate) fn read(json: &Path) -> Result<Self> {
        let api = public_api::Builder::from_rustdoc_json(json)
            .omit_blanket_impls(true)
            .build()?;
        let of_traits: HashSet<_> = api
            .items()
            .filter(|item| is_impl_of_trait(&tokens(item)))
            .map(PublicItem::id)
            .collect();
        let items: Vec<_> = api
            .items()
            // What the trait prescribes is in its line; what its author chose is not.
            .filter(|item| {
                let prescribed = item.parent_id().is_some_and(|id| of_traits.contains(&id));
                !prescribed || item.to_string().starts_with("pub type")
            })
            .map(tokens)
            .collect();
        Ok(Self::of(items))
    }

    fn of(items: Vec<Vec<Token>>) -> Self {
        let mut listing = Self {
            lines: Vec::new(),
            foreign: BTreeMap::new(),
        };
        for item in items {
            let paths = paths(&item);
            let shown_raw = subject(&item).is_some_and(|path| is_in(&path, GENERATED));
            let noise = paths.iter().any(|path| NOISE.contains(&path.as_str()));
            if shown_raw || noise {
                continue;
            }
            let line: String = item.iter().map(Token::text).collect();
            for name in paths.iter().filter_map(|path| path.split("::").next()) {
                let first = || line.clone();
                listing.foreign.entry(name.to_owned()).or_insert_with(first);
            }
            // The line of a re-export has our name for it and not whose it is.
            if let Some(path) = line.strip_prefix("pub use ") {
                let name = path.rsplit("::").next().unwrap_or(path).to_owned();
                listing.foreign.insert(name, line.clone());
            }
            listing.lines.push(line);
        }
        listing
    }

    /// As it is checked in.
    pub(crate) fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The crates whose items show, and names of other crates that are re-exported, each with the
    /// first line that shows it.
    pub(crate) fn foreign(&self) -> &BTreeMap<String, String> {
        &self.foreign
    }
}

fn tokens(item: &PublicItem) -> Vec<Token> {
    item.tokens().cloned().collect()
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Keyword(text) | Token::Kind(text) if text == word)
}

fn before_where(item: &[Token]) -> &[Token] {
    let end = item.iter().position(|token| is_word(token, "where"));
    &item[..end.unwrap_or(item.len())]
}

fn is_impl_of_trait(item: &[Token]) -> bool {
    item.first().is_some_and(|first| is_word(first, "impl")) && after_for(item).is_some()
}

/// What stands behind the last ` for ` (the one of `for<'a>` has no space behind it).
fn after_for(item: &[Token]) -> Option<&[Token]> {
    let item = before_where(item);
    let at = item
        .windows(2)
        .rposition(|pair| is_word(&pair[0], "for") && pair[1] == Token::Whitespace)?;
    Some(&item[at..])
}

/// The path of what an item is, belongs to or is implemented for.
fn subject(item: &[Token]) -> Option<String> {
    let is_impl = item.first().is_some_and(|first| is_word(first, "impl"));
    let part = match after_for(item) {
        Some(part) if is_impl => part,
        _ => item,
    };
    paths(part).into_iter().next()
}

/// Every path that begins with the name of a crate.
fn paths(item: &[Token]) -> Vec<String> {
    let is_separator = |token: &Token| token.text() == "::";
    let is_part = |token: &Token| {
        matches!(
            token,
            Token::Identifier(_) | Token::Type(_) | Token::Function(_)
        )
    };
    let mut paths = Vec::new();
    for (index, token) in item.iter().enumerate() {
        let begins = matches!(token, Token::Identifier(_))
            && !index
                .checked_sub(1)
                .is_some_and(|at| is_separator(&item[at]))
            && item.get(index + 1).is_some_and(is_separator);
        if begins {
            let rest = item[index..].iter();
            let path = rest.take_while(|token| is_part(token) || is_separator(token));
            paths.push(path.map(Token::text).collect());
        }
    }
    paths
}

fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by hand: a path's parts, the separators and the words between them.
    fn item(text: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        for word in text.split_inclusive(' ') {
            let (word, space) = (word.trim_end(), word.ends_with(' '));
            match word {
                "impl" | "for" | "where" => tokens.push(Token::Keyword(word.to_owned())),
                "pub" | "use" => tokens.push(Token::Qualifier(word.to_owned())),
                _ => {
                    for (index, part) in word.split("::").enumerate() {
                        if index > 0 {
                            tokens.push(Token::Symbol("::".to_owned()));
                        }
                        tokens.push(Token::Identifier(part.to_owned()));
                    }
                }
            }
            if space {
                tokens.push(Token::Whitespace);
            }
        }
        tokens
    }

    fn foreign(text: &str) -> Vec<String> {
        let listing = Listing::of(vec![item(text)]);
        listing.foreign.into_keys().collect()
    }

    #[test]
    fn crates_are_found_wherever_a_path_begins() {
        assert_eq!(
            foreign("impl tonic::Status for ours::Error where serde::Serialize"),
            ["ours", "serde", "tonic"]
        );
    }

    #[test]
    fn the_generated_code_may_show_anything_and_what_is_made_of_it_may_not() {
        let generated: [&str; 0] = [];
        assert_eq!(
            foreign("impl prost::Message for derms_proto::pb::Ack"),
            generated
        );
        assert_eq!(foreign("pub derms_proto::pb::Ack::encode"), generated);
        assert_eq!(
            foreign("impl tonic::Convert derms_proto::pb::Ack for derms_proto::link::Ack"),
            ["derms_proto", "tonic"]
        );
        assert_eq!(foreign("pub derms_proto::pbx::Ack"), ["derms_proto"]);
    }

    #[test]
    fn a_re_export_counts_by_its_name() {
        assert_eq!(
            foreign("pub use ours::async_trait"),
            ["async_trait", "ours"]
        );
    }

    #[test]
    fn what_the_compiler_derives_of_itself_is_left_out() {
        let listing = Listing::of(vec![
            item("impl core::marker::Freeze for ours::A"),
            item("impl core::marker::Send for ours::A"),
        ]);
        assert_eq!(listing.text(), "impl core::marker::Send for ours::A\n");
    }
}
