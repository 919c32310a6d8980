//! Bearer tokens in a file that holds their hashes.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use derms_proto::{SiteId, Timestamp};
use serde::{Deserialize, Serialize};

use super::watched::Watched;
use super::{AuthFileError, Authenticate, Principal, Refused, Role, TokenHash, jwt};
use crate::identity::URN;

/// The longest name, characters.
const MAX_NAME: usize = 200;
/// The longest text that tells what is wrong, characters.
const MAX_FAULT: usize = 500;

/// Static bearer tokens.
///
/// The file holds no secret, only hashes:
///
/// ```yaml
/// tokens:
///   - name: control-room
///     role: operator                    # viewer | operator | admin
///     sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
///   - name: site-jersey
///     role: viewer
///     sites: [6ba7b810-9dad-11d1-80b4-00c04fd430c8]   # absent: all sites
///     expires_at: 2027-01-01T00:00:00Z                # absent: never
///     sha256: cb8379ac2098aa165029e3938a51da0bcecfc008fd6795f401178647f96c5b34
/// ```
///
/// It is read again within a second when it has changed, so taking a line out withdraws the token.
/// While it can't be read, what was read before goes on counting, and the log says so. Two lines may
/// have the same name: two tokens of one principal, to replace one by the other. No name begins with
/// `jwt:` or `urn:derms:agent:`, as those of JWTs and agents do.
#[derive(Debug)]
pub struct TokenFile(Watched<Vec<Entry>>);

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sites: Option<Vec<SiteId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    sha256: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    tokens: Vec<Line>,
}

#[derive(Debug)]
struct Entry {
    hash: TokenHash,
    principal: Principal,
    expires_at: Option<Timestamp>,
}

impl TokenFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, or is not of this form.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, AuthFileError> {
        Watched::open(path, parse).map(Self)
    }

    /// Adds a token of this principal to a file, which is made, for this user alone, if it is
    /// missing.
    ///
    /// # Errors
    /// The file can't be read or written, is not of this form, or the name is empty or too long.
    pub fn append(
        path: impl AsRef<Path>,
        principal: &Principal,
        hash: TokenHash,
        expires_at: Option<Timestamp>,
    ) -> Result<(), AuthFileError> {
        let path = path.as_ref();
        append(path, principal, hash, expires_at).map_err(|what| AuthFileError {
            path: path.to_owned(),
            what,
        })
    }

    fn find(&self, token: &str, now: Timestamp) -> Result<Principal, Refused> {
        let shown = TokenHash::of(token);
        let entries = self.0.get();
        // All are looked at, so that the time tells nothing about which one it is.
        let found = entries.iter().fold(None, |found, entry| {
            if entry.hash.is(&shown) {
                Some(entry)
            } else {
                found
            }
        });
        match found {
            None => Err(Refused::Unknown),
            Some(entry) if entry.expires_at.is_some_and(|end| end <= now) => {
                Err(Refused::Bad("the token has expired"))
            }
            Some(entry) => Ok(entry.principal.clone()),
        }
    }
}

#[async_trait]
impl Authenticate for TokenFile {
    async fn authenticate(&self, token: &str) -> Result<Principal, Refused> {
        self.0.look().await;
        self.find(token, Timestamp::now())
    }
}

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    entries(text).map_err(|mut what| {
        // A slip may make one value of all that follows it.
        if let Some((end, _)) = what.char_indices().nth(MAX_FAULT) {
            what.truncate(end);
            what.push('…');
        }
        what
    })
}

fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
    };
    let file: FileText =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    let mut entries: Vec<Entry> = Vec::new();
    for line in file.tokens {
        let name = line.name;
        let fault = |what: &str| format!("token of `{name}`: {what}");
        check_name(&name).map_err(fault)?;
        let role: Role = line
            .role
            .parse()
            .map_err(|what| fault(&format!("role `{}`: {what}", line.role)))?;
        let hash: TokenHash = line.sha256.parse().map_err(fault)?;
        if hash.is(&TokenHash::of("")) {
            return Err(fault("this is the sha256 of nothing at all"));
        }
        if let Some(other) = entries.iter().find(|entry| entry.hash.is(&hash)) {
            let other = other.principal.name();
            return Err(fault(&format!(
                "`{other}` has the same sha256; give each its own token"
            )));
        }
        let mut principal = Principal::new(name.clone()).with_role(role);
        if let Some(sites) = line.sites {
            principal = principal.limited_to(sites);
        }
        entries.push(Entry {
            hash,
            principal,
            expires_at: line.expires_at,
        });
    }
    Ok(entries)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let good = |c: char| !c.is_control();
    if name.is_empty() || name.chars().count() > MAX_NAME || !name.chars().all(good) {
        return Err("give a name of 1 to 200 characters on one line");
    }
    if [jwt::NAMES, URN]
        .iter()
        .any(|others| name.starts_with(others))
    {
        return Err("give a name that does not begin with `jwt:` or `urn:derms:agent:`");
    }
    Ok(())
}

fn append(
    path: &Path,
    principal: &Principal,
    hash: TokenHash,
    expires_at: Option<Timestamp>,
) -> Result<(), String> {
    check_name(principal.name()).map_err(str::to_owned)?;
    // A link goes on leading to it.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    #[cfg(unix)]
    let _alone = lock_folder(path).map_err(|error| error.to_string())?;
    let old = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.to_string()),
    };
    let line = Line {
        name: principal.name().to_owned(),
        role: principal.role().to_string(),
        sites: principal
            .sites()
            .map(|sites| sites.iter().copied().collect()),
        expires_at,
        sha256: hash.to_string(),
    };
    // JSON on one line is YAML too, and quotes whatever a name holds.
    let line = serde_json::to_string(&line).map_err(|error| error.to_string())?;
    let mut text = if old.trim().is_empty() {
        "# Tokens of the REST interface: hashes, no secrets. Take a line out to withdraw its token.\n\
         tokens:\n"
            .to_owned()
    } else {
        old
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("  - {line}\n"));
    // What would not be read must not take the place of what is.
    parse(&text).map_err(|what| format!("can't add a line: {what}"))?;
    replace(path, &text).map_err(|error| error.to_string())
}

/// Two that add a line at a time do so one after the other. What is locked is the folder, for the
/// file itself is replaced.
#[cfg(unix)]
fn lock_folder(path: &Path) -> std::io::Result<std::fs::File> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = std::fs::File::open(folder.unwrap_or(Path::new(".")))?;
    match folder.lock() {
        // A file system without locks.
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => Ok(folder),
        locked => locked.map(|()| folder),
    }
}

/// Writes a new file beside the old one, for this user alone or whoever has the old one, and puts it
/// in its place: a headend that looks meanwhile sees one or the other.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    let written = take_after(&file, path)
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // A leftover would stand in the way of the next try.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Gives a new file the owner and the mode of the old one, if there is one.
fn take_after(new: &std::fs::File, old: &Path) -> std::io::Result<()> {
    let Ok(old) = std::fs::metadata(old) else {
        return Ok(());
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let has = new.metadata()?;
        if (has.uid(), has.gid()) != (old.uid(), old.gid()) {
            fchown(new, Some(old.uid()), Some(old.gid()))?;
        }
    }
    new.set_permissions(old.permissions())
}

#[cfg(test)]
#[path = "token_file_tests.rs"]
mod tests;
