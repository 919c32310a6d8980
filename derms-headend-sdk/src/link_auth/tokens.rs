//! Agents that are known by a secret token.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use derms_proto::AgentId;
use parking_lot::RwLock;

use super::settled::settled;
use crate::auth::TokenHash;

type Table = HashMap<TokenHash, AgentId>;

/// The tokens of agents, from a file that is read again when it changes; cheap to clone.
///
/// For sites that can't have a certificate, or whose TLS a proxy ends. A line of the file is an
/// agent's id and the SHA-256 of its token in hexadecimal digits; the token itself is kept by the
/// agent alone. An agent may have several lines, so that a token can be exchanged. Empty lines and
/// what follows a `#` are skipped.
///
/// To change it write another file and rename it over this one. A file that is written in place is
/// taken when it was the same at two looks a tenth of a second apart; one that has no token any more
/// is not taken.
///
/// ```text
/// # BESS-1
/// 7ba7b810-9dad-11d1-80b4-00c04fd430c8 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
/// ```
#[derive(Clone)]
pub struct AgentTokens {
    path: Arc<Path>,
    table: Arc<RwLock<Table>>,
}

/// Why a file of agent tokens can't be used. Nothing of its content is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The file can't be read.
    #[error("can't read the agent tokens in `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("`{}` line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to change.
        problem: &'static str,
    },
    /// There is no token any more: a file that is being written, or was emptied by mistake.
    #[error("`{}` holds no token any more; to let nobody in, leave one that nobody has", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl AgentTokens {
    /// Reads the file.
    ///
    /// # Errors
    /// See [`TokensError`].
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, TokensError> {
        let path = path.into();
        let table = read(&path)?;
        Ok(Self {
            path: path.into(),
            table: Arc::new(RwLock::new(table)),
        })
    }

    /// Reads the file again; tells whether anything has changed. With an error all stays as it is.
    pub(crate) fn reload(&self) -> Result<bool, TokensError> {
        let is_held = |table: &Table| *self.table.read() == *table;
        let Some(table) = settled(is_held, || read(&self.path))? else {
            return Ok(false);
        };
        if table.is_empty() {
            return Err(TokensError::Empty {
                path: self.path.to_path_buf(),
            });
        }
        *self.table.write() = table;
        Ok(true)
    }

    /// Whose token this is.
    ///
    /// How long the table takes tells of the hash alone, from which nobody finds a token; the hash
    /// itself is compared in constant time all the same.
    pub(crate) fn agent(&self, hash: &TokenHash) -> Option<AgentId> {
        let table = self.table.read();
        let (held, agent) = table.get_key_value(hash)?;
        held.is(hash).then_some(*agent)
    }
}

impl fmt::Debug for AgentTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentTokens")
            .field("path", &self.path)
            .field("tokens", &self.table.read().len())
            .finish()
    }
}

fn read(path: &Path) -> Result<Table, TokensError> {
    let text = std::fs::read_to_string(path).map_err(|source| TokensError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|(line, problem)| TokensError::Line {
        path: path.to_owned(),
        line,
        problem,
    })
}

fn parse(text: &str) -> Result<Table, (usize, &'static str)> {
    let mut table = Table::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(agent) = words.next() else {
            continue;
        };
        let fail = |problem| (number + 1, problem);
        let agent = agent
            .parse()
            .map_err(|_| fail("the first word is no agent's id; write a UUID"))?;
        let hash = words.next().and_then(|word| word.parse().ok());
        let hash: TokenHash = hash.ok_or_else(|| {
            fail("after the id comes the SHA-256 of the token, 64 hexadecimal digits")
        })?;
        if hash == TokenHash::of("") {
            return Err(fail("it is the SHA-256 of nothing; make a token"));
        }
        if words.next().is_some() {
            return Err(fail("something follows the hash; put a `#` before it"));
        }
        if table
            .insert(hash, agent)
            .is_some_and(|other| other != agent)
        {
            return Err(fail("two agents have one token; give each its own"));
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
    const B: &str = "7ba7b811-9dad-11d1-80b4-00c04fd430c8";
    /// Of `test`.
    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    /// Of `abc`.
    const OTHER: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_line_is_an_agent_and_the_hash_of_its_token_and_an_agent_may_have_several() {
        let table = parse(&format!("# all\n\n{A} {HASH} # old\n {A}\t{OTHER}\n")).unwrap();
        let agent: AgentId = A.parse().unwrap();
        assert_eq!(table.get(&TokenHash::of("test")), Some(&agent));
        assert_eq!(table.get(&TokenHash::of("abc")), Some(&agent));
        assert_eq!(table.get(&TokenHash::of("tesT")), None);
    }

    #[test]
    fn a_wrong_line_is_named_and_not_shown() {
        for (text, number) in [
            (format!("\nx {HASH}"), 2),
            (A.to_owned(), 1),
            (format!("{A} secret"), 1),
            (format!("{A} {}ü", &HASH[2..]), 1),
            (format!("{A} +{}", &HASH[1..]), 1),
            (format!("{A} {NOTHING}"), 1),
            (format!("{A} {HASH} more"), 1),
            (format!("{A} {HASH}\n{B} {HASH}"), 2),
        ] {
            let (line, problem) = parse(&text).unwrap_err();
            assert_eq!(line, number, "{text}");
            assert!(!problem.contains("secret") && !problem.contains(HASH));
        }
    }
}
