//! The OpenAPI document against a headend that runs: requests are made from it, and answers are
//! judged by it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::headend::{Headend, Running};
use crate::shell::{self, Result};
use crate::venv;
use crate::workspace::Workspace;

const REQUIREMENTS: &str = "tests/schemathesis/requirements.txt";
const CONFIG: &str = "tests/schemathesis/schemathesis.toml";
const HOOKS: &str = "tests/schemathesis/hooks.py";

/// The site that has an agent.
const SITE: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

/// The operation that the document is taken from.
const OWN: &str = "GET /openapi.json";

/// What is broken in a document to see that it is found: this operation has 400 no more.
const BROKEN: &str = "/assets/{id}";

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Anyone, where nobody is asked who they are.
    Anyone,
    /// A viewer, where everybody is asked.
    Viewer,
    /// Somebody without a token, where everybody is asked.
    Stranger,
}

impl Caller {
    const fn name(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Viewer => "viewer",
            Self::Stranger => "stranger",
        }
    }

    /// How much is tried: roles do not hang on what exactly is asked for, and a stranger is soon told
    /// that too many logins have failed.
    const fn extent(self) -> &'static [&'static str] {
        match self {
            Self::Anyone => &["--phases=coverage,fuzzing,stateful"],
            Self::Viewer => &[
                "--phases=coverage,fuzzing",
                "--mode=positive",
                "--max-examples=8",
            ],
            Self::Stranger => &["--phases=coverage", "--mode=positive"],
        }
    }

    /// Whether what takes `role` is to be done for them.
    fn may(self, role: &str) -> bool {
        match self {
            Self::Anyone => true,
            Self::Viewer => ["none", "viewer"].contains(&role),
            Self::Stranger => role == "none",
        }
    }

    /// So many calls of an operation must have been accepted at least.
    const fn least(self) -> u64 {
        match self {
            Self::Anyone => 2,
            Self::Viewer | Self::Stranger => 1,
        }
    }
}

/// Tries the document with each kind of caller.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let python = venv::environment(
        workspace,
        "schemathesis",
        REQUIREMENTS,
        "import schemathesis",
    )?;
    let folder = workspace.empty_folder("contract")?;
    let database = format!("sqlite:{}", folder.join("headend.db").display());
    let open = Fleet::start(workspace, &folder, "open", &["--database-url", &database])?;
    let text = open.headend.get("/openapi.json")?;
    let document: Value = serde_json::from_str(&text)?;
    let url = format!("http://{}/openapi.json", open.headend.http);
    let tries = Tries {
        python,
        folder: folder.clone(),
        document: &document,
    };
    tries.run(Caller::Anyone, &url, &open)?;
    tries.find_what_is_broken(&open)?;
    drop(open);

    let tokens = folder.join("tokens.yaml");
    let token = |role| token(workspace, &tokens, role);
    let (admin, viewer) = (token("admin")?, token("viewer")?);
    let asking = Fleet {
        admin: Some(admin),
        viewer: Some(viewer),
        ..Fleet::start(
            workspace,
            &folder,
            "asking",
            &[
                "--database-url",
                "memory",
                "--tokens",
                &tokens.to_string_lossy(),
                // What is tried is not how often one may call.
                "--rate-limit",
                "1000000",
            ],
        )?
    };
    // Of this headend it would take a token.
    let file = folder.join("openapi.json");
    std::fs::write(&file, text)?;
    for caller in [Caller::Viewer, Caller::Stranger] {
        tries.run(caller, &file.to_string_lossy(), &asking)?;
    }
    Ok(())
}

/// A headend with an agent.
struct Fleet {
    headend: Headend,
    _agent: Running,
    admin: Option<String>,
    viewer: Option<String>,
}

impl Fleet {
    fn start(workspace: &Workspace, folder: &Path, name: &str, flags: &[&str]) -> Result<Self> {
        let log = |what| folder.join(format!("{name}-{what}.log"));
        let headend = Headend::start_with(&workspace.built("der_headend"), flags, &log("headend"))?;
        let agent = headend.gateway(&workspace.built("edge_agent"), SITE, &log("agent"))?;
        Ok(Self {
            headend,
            _agent: agent,
            admin: None,
            viewer: None,
        })
    }
}

struct Tries<'a> {
    python: PathBuf,
    folder: PathBuf,
    document: &'a Value,
}

impl Tries<'_> {
    /// Tries the document at `source`, a URL or a file, with a caller.
    fn run(&self, caller: Caller, source: &str, fleet: &Fleet) -> Result<()> {
        let report = self.folder.join(format!("{}.json", caller.name()));
        let mut command = self.command(source, fleet, &report);
        command.args(caller.extent());
        if let (Caller::Viewer, Some(token)) = (caller, &fleet.viewer) {
            command.env("DERMS_CALLER_TOKEN", token);
        }
        let told = |error| {
            let log = fleet.headend.see_log();
            let name = caller.name();
            format!(
                "{error}, called by {name}; the same is tried again by `cargo xtask ci --only \
                 contract-rest`, for the seed is in {CONFIG}; {log}"
            )
        };
        shell::run(&mut command).map_err(|error| told(error.to_string()))?;
        let report: Value = serde_json::from_slice(&std::fs::read(report)?)?;
        judge(caller, self.document, &report).map_err(told)?;
        Ok(())
    }

    /// A document that lacks a status must be found wrong: else nothing that was found right is.
    fn find_what_is_broken(&self, fleet: &Fleet) -> Result<()> {
        let mut document = self.document.clone();
        document["paths"][BROKEN]["get"]["responses"]
            .as_object_mut()
            .and_then(|responses| responses.remove("400"))
            .ok_or_else(|| format!("the document has no 400 of GET {BROKEN} to leave out"))?;
        let file = self.folder.join("broken.json");
        std::fs::write(&file, document.to_string())?;
        let report = self.folder.join("broken-report.json");
        println!("a document without the status 400 of GET {BROKEN} must be found wrong");
        let output = self
            .command(&file.to_string_lossy(), fleet, &report)
            .args(["--phases", "coverage", "--include-path", BROKEN])
            .output()?;
        let report: Value = serde_json::from_slice(&std::fs::read(report)?)?;
        let failures = report["failures"].as_array().into_iter().flatten();
        let kinds: Vec<&str> = failures.filter_map(|it| it["type"].as_str()).collect();
        if output.status.success() || kinds != ["UndefinedStatusCode"] {
            let text = String::from_utf8_lossy(&output.stdout);
            return Err(format!("it was not; failures were {kinds:?}\n{text}").into());
        }
        Ok(())
    }

    fn command(&self, source: &str, fleet: &Fleet, report: &Path) -> Command {
        let url = format!("http://{}", fleet.headend.http);
        let mut command = Command::new(&self.python);
        command
            .args(["-m", "schemathesis.cli", "--config-file", CONFIG])
            .args(["run", source, "--url", &url, "--no-color"])
            .args(["--report", "json", "--report-json-path"])
            .arg(report)
            .env("DERMS_URL", url)
            .env("SCHEMATHESIS_HOOKS", HOOKS)
            .env(
                "HYPOTHESIS_STORAGE_DIRECTORY",
                self.folder.join("hypothesis"),
            )
            .env("PYTHONDONTWRITEBYTECODE", "1");
        if let Some(token) = &fleet.admin {
            command.env("DERMS_ADMIN_TOKEN", token);
        }
        command
    }
}

/// A new token of a role, all sites.
fn token(workspace: &Workspace, file: &Path, role: &str) -> Result<String> {
    let token = shell::read(
        Command::new(workspace.built("der_headend"))
            .args(["token", "new", "--name", role, "--role", role, "--tokens"])
            .arg(file),
    )?;
    Ok(String::from_utf8(token)?.trim().to_owned())
}

/// Whether a run without failures has tried what it is for: each operation was called, with success
/// by those who may and without by all others.
fn judge(caller: Caller, document: &Value, report: &Value) -> std::result::Result<(), String> {
    if report["complete"] != true {
        return Err("the run did not come to its end".to_owned());
    }
    let mut tried = 0;
    for (operation, role) in operations(document).filter(|(operation, _)| operation != OWN) {
        // One of which every call was refused to who is calling has none.
        let phases = report["valid_rates"][&operation].as_object();
        let phases = phases.into_iter().flat_map(serde_json::Map::values);
        let accepted: u64 = phases.filter_map(|phase| phase["accepted"].as_u64()).sum();
        tried += 1;
        match caller.may(role) {
            true if accepted < caller.least() => {
                return Err(format!(
                    "{operation} was called with success {accepted} times: nothing of its answers is \
                     known; look what {HOOKS} gives it"
                ));
            }
            false if accepted > 0 => {
                return Err(format!("{operation} takes a {role}, and was done"));
            }
            _ => {}
        }
    }
    match tried {
        0 => Err("the document has no operations".to_owned()),
        _ => Ok(()),
    }
}

/// Every operation of the document, `GET /path`, with the least role that it takes.
fn operations(document: &Value) -> impl Iterator<Item = (String, &str)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let operations = item.as_object().into_iter().flatten();
        operations.map(move |(method, operation)| {
            let role = operation["x-role"].as_str().unwrap_or("none");
            (format!("{} {path}", method.to_uppercase()), role)
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({"paths": {
            "/healthz": {"get": {"x-role": "none"}},
            "/assets": {"get": {"x-role": "viewer"}},
            "/stop": {"get": {"x-role": "viewer"}, "post": {"x-role": "operator"}},
            "/openapi.json": {"get": {"x-role": "viewer"}},
        }})
    }

    /// What was accepted of `/healthz`, `/assets`, and `/stop` read and made.
    fn report(accepted: [u64; 4]) -> Value {
        let rate = |accepted: u64| json!({"coverage": {"accepted": accepted, "rejected": 9}});
        json!({"complete": true, "valid_rates": {
            "GET /healthz": rate(accepted[0]),
            "GET /assets": rate(accepted[1]),
            "GET /stop": rate(accepted[2]),
            "POST /stop": rate(accepted[3]),
        }})
    }

    #[test]
    fn a_run_counts_when_each_operation_was_done_for_those_who_may() {
        let judge = |caller, accepted| judge(caller, &document(), &report(accepted));
        judge(Caller::Anyone, [2, 2, 2, 2]).unwrap();
        judge(Caller::Viewer, [1, 1, 1, 0]).unwrap();
        judge(Caller::Stranger, [1, 0, 0, 0]).unwrap();
        for (caller, accepted, operation) in [
            (Caller::Anyone, [2, 2, 2, 1], "POST /stop"),
            (Caller::Anyone, [0, 2, 2, 2], "GET /healthz"),
            (Caller::Viewer, [1, 0, 1, 0], "GET /assets"),
            (Caller::Viewer, [1, 1, 1, 1], "POST /stop"),
            (Caller::Stranger, [1, 1, 0, 0], "GET /assets"),
        ] {
            let error = judge(caller, accepted).unwrap_err();
            assert!(error.starts_with(operation), "{error}");
        }
    }

    #[test]
    fn a_run_that_left_something_out_does_not_count() {
        let whole = report([2, 2, 2, 2]);
        let judge =
            |document: &Value, report: &Value| judge(Caller::Anyone, document, report).unwrap_err();
        let mut without = whole.clone();
        without["valid_rates"]
            .as_object_mut()
            .unwrap()
            .remove("GET /stop");
        let error = judge(&document(), &without);
        assert!(
            error.starts_with("GET /stop was called with success 0 times"),
            "{error}"
        );
        let mut broken_off = whole.clone();
        broken_off["complete"] = json!(false);
        judge(&document(), &broken_off);
        judge(&json!({"paths": {}}), &whole);
    }
}
