//! What a file of tokens may hold, and what becomes of a change.

use std::path::PathBuf;

use super::*;

const JERSEY: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("derms-tokens-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("tokens.yaml")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn noon() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn what_is_appended_is_read_with_role_sites_and_end() {
    let folder = Folder::new();
    let site: SiteId = JERSEY.parse().unwrap();
    let ann = Principal::new("ann: \"#1\"")
        .with_role(Role::Operator)
        .limited_to([site]);
    let bob = Principal::new("bob").with_role(Role::Viewer);
    TokenFile::append(folder.file(), &ann, TokenHash::of("a"), None).unwrap();
    TokenFile::append(folder.file(), &bob, TokenHash::of("b"), Some(noon())).unwrap();
    let file = TokenFile::open(folder.file()).unwrap();
    assert_eq!(file.find("a", noon()), Ok(ann));
    assert_eq!(file.find("c", noon()), Err(Refused::Unknown));
    let before = noon().saturating_sub(std::time::Duration::from_secs(1));
    assert_eq!(file.find("b", before), Ok(bob));
    assert_eq!(
        file.find("b", noon()),
        Err(Refused::Bad("the token has expired"))
    );
    let text = std::fs::read_to_string(folder.file()).unwrap();
    assert!(text.contains(&TokenHash::of("a").to_string()));
}

#[test]
fn a_fault_is_told_in_a_line_however_long_the_value_is() {
    let folder = Folder::new();
    let name = "ä".repeat(10_000);
    let text = format!("tokens:\n  - {{name: {name}, role: viewer, sha256: ab}}\n");
    std::fs::write(folder.file(), text).unwrap();
    let fault = TokenFile::open(folder.file()).unwrap_err();
    assert!(fault.what.starts_with("token of `ä"), "{fault}");
    assert_eq!(fault.what.chars().count(), MAX_FAULT + 1);
}

#[cfg(unix)]
#[test]
fn a_new_file_is_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let principal = Principal::new("ann");
    TokenFile::append(folder.file(), &principal, TokenHash::of("a"), None).unwrap();
    let mode = std::fs::metadata(folder.file())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_line_is_taken_out_is_withdrawn_and_a_slip_withdraws_none() {
    let folder = Folder::new();
    for (name, token) in [("ann", "a"), ("bob", "b")] {
        let principal = Principal::new(name);
        TokenFile::append(folder.file(), &principal, TokenHash::of(token), None).unwrap();
    }
    let file = TokenFile::open(folder.file()).unwrap();
    let knows = |token| file.find(token, noon()).is_ok();
    let text = std::fs::read_to_string(folder.file()).unwrap();
    let without: String = text
        .lines()
        .filter(|line| !line.contains("ann"))
        .map(|l| format!("{l}\n"))
        .collect();
    std::fs::write(folder.file(), without).unwrap();
    file.0.look().await;
    assert!(knows("a"), "looked at no oftener than once a second");
    a_second_later(&file).await;
    assert!(!knows("a") && knows("b"));

    std::fs::write(folder.file(), "tokens: [oops").unwrap();
    a_second_later(&file).await;
    assert!(knows("b"), "what was read before goes on counting");
    std::fs::remove_file(folder.file()).unwrap();
    a_second_later(&file).await;
    assert!(knows("b"));
}

async fn a_second_later(file: &TokenFile) {
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    file.0.look().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_is_seen_though_time_and_length_of_the_file_stay_what_they_were() {
    let folder = Folder::new();
    let principal = Principal::new("ann");
    TokenFile::append(folder.file(), &principal, TokenHash::of("a"), None).unwrap();
    let file = TokenFile::open(folder.file()).unwrap();
    let (old, new) = (TokenHash::of("a"), TokenHash::of("b"));
    let written = std::fs::metadata(folder.file())
        .unwrap()
        .modified()
        .unwrap();
    let text = std::fs::read_to_string(folder.file()).unwrap();
    let text = text.replace(&old.to_string(), &new.to_string());
    std::fs::write(folder.file(), text).unwrap();
    let again = std::fs::File::options()
        .write(true)
        .open(folder.file())
        .unwrap();
    again.set_modified(written).unwrap();
    a_second_later(&file).await;
    assert_eq!(file.find("a", noon()), Err(Refused::Unknown));
    file.find("b", noon()).unwrap();
}

#[test]
fn every_fault_of_a_file_is_told_without_the_hash() {
    let hash = TokenHash::of("a").to_string();
    let line = |name: &str, role: &str, hash: &str| {
        format!("  - {{name: \"{name}\", role: {role}, sha256: {hash}}}\n")
    };
    let cases = [
        (String::new(), ""),
        ("tokens: 5\n".to_owned(), ""),
        (format!("tokens:\n{}", line("a", "root", &hash)), "root"),
        (format!("tokens:\n{}", line("", "viewer", &hash)), "name"),
        (
            format!("tokens:\n{}", line("jwt:a", "viewer", &hash)),
            "begin",
        ),
        (
            format!("tokens:\n{}", line("urn:derms:agent:a", "viewer", &hash)),
            "begin",
        ),
        (format!("tokens:\n{}", line("a", "viewer", "secret")), "64"),
        (
            format!(
                "tokens:\n{}{}",
                line("a", "viewer", &hash),
                line("b", "admin", &hash)
            ),
            "same",
        ),
        (
            format!(
                "tokens:\n{}",
                line("a", "viewer", &TokenHash::of("").to_string())
            ),
            "nothing",
        ),
        (
            format!("tokens:\n  - {{name: a, role: viewer, sha256: {hash}, site: x}}\n"),
            "site",
        ),
    ];
    for (text, words) in cases {
        let what = parse(&text).map(|_| text.clone()).unwrap_err();
        assert!(what.contains(words) && !what.contains(&hash), "{what}");
        assert!(!what.contains("secret"), "{what}");
    }
    assert!(parse("tokens: []\n").unwrap().is_empty(), "nobody may in");
}

#[test]
fn a_line_that_could_not_be_read_is_not_written() {
    let folder = Folder::new();
    let ann = Principal::new("ann");
    TokenFile::append(folder.file(), &ann, TokenHash::of("a"), None).unwrap();
    let before = std::fs::read_to_string(folder.file()).unwrap();
    for (principal, hash) in [(ann, "a"), (Principal::new("two\nlines"), "b")] {
        TokenFile::append(folder.file(), &principal, TokenHash::of(hash), None).unwrap_err();
    }
    assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), before);
    assert_eq!(
        std::fs::read_dir(&folder.0).unwrap().count(),
        1,
        "no file is left beside"
    );
}

#[cfg(unix)]
#[test]
fn lines_that_are_added_at_one_time_are_all_there() {
    let folder = Folder::new();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let file = folder.file();
            scope.spawn(move || {
                let principal = Principal::new(format!("p{n}"));
                let hash = TokenHash::of(&n.to_string());
                TokenFile::append(file, &principal, hash, None).unwrap();
            });
        }
    });
    let text = std::fs::read_to_string(folder.file()).unwrap();
    assert_eq!(parse(&text).unwrap().len(), 8);
}

#[cfg(unix)]
#[test]
fn a_link_to_a_file_and_its_owner_stay_when_a_line_is_added() {
    use std::os::unix::fs::{MetadataExt as _, chown, symlink};
    let folder = Folder::new();
    let add = |name: &str, path: &Path| {
        TokenFile::append(path, &Principal::new(name), TokenHash::of(name), None).unwrap();
    };
    add("ann", &folder.file());
    // Only root may give a file away.
    let given = chown(folder.file(), Some(4_321), Some(4_322)).is_ok();
    let link = folder.0.join("link.yaml");
    symlink("tokens.yaml", &link).unwrap();
    add("bob", &link);
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    let text = std::fs::read_to_string(folder.file()).unwrap();
    assert!(text.contains("ann") && text.contains("bob"));
    let owner = std::fs::metadata(folder.file()).unwrap();
    assert!(!given || (owner.uid(), owner.gid()) == (4_321, 4_322));
}
