//! docs/commissioning.md: each command is run in the order of the page, in one shell in an empty
//! folder, and prints what the page shows.

use std::process::Stdio;
use std::time::Duration;

use derms_tests::{Folder, build_programs, lasting_address, program, root};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::Instant;

use crate::page::{self, Part};

/// A lease, a failsafe and the way back of an agent, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether what was printed is what is shown. `…` stands for anything within a line, alone for any
/// lines.
fn fits(shown: &[String], said: &[String]) -> bool {
    match shown {
        [] => said.is_empty(),
        [rest, shown @ ..] if rest == "…" => {
            (0..=said.len()).any(|left| fits(shown, &said[left..]))
        }
        [line, shown @ ..] => said
            .split_first()
            .is_some_and(|(here, said)| line_fits(line, here) && fits(shown, said)),
    }
}

fn line_fits(shown: &str, said: &str) -> bool {
    let Some((start, rest)) = shown.split_once('…') else {
        return shown == said;
    };
    let Some(said) = said.strip_prefix(start) else {
        return false;
    };
    let ends = said.char_indices().map(|(at, _)| at).chain([said.len()]);
    ends.into_iter().any(|at| line_fits(rest, &said[at..]))
}

/// Whether a command changes nothing and so may be repeated.
fn only_looks(command: &str) -> bool {
    match command.split_whitespace().next() {
        Some("grep" | "curl") => true,
        Some("derms") => !command.contains("dispatch --"),
        _ => false,
    }
}

/// A shell with the programs in its path, in a folder of its own. What it started in the background
/// ends with it.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _folder: Folder,
    /// Ports of the page, with those that stand in their places here.
    ports: [(&'static str, String); 2],
}

impl Shell {
    fn start() -> Self {
        build_programs();
        let programs = program("der_headend");
        let path = format!("{}:/usr/bin:/bin", programs.parent().unwrap().display());
        let folder = Folder::new();
        let mut child = tokio::process::Command::new("sh")
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let port = || lasting_address().port().to_string();
        Self {
            stdin: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
            _folder: folder,
            ports: [("50051", port()), ("3001", port())],
        }
    }

    /// What a command prints.
    async fn run(&mut self, command: &str) -> Vec<String> {
        const END: &str = "-- that was all --";
        let mut typed = command.to_owned();
        for (page, here) in &self.ports {
            typed = typed.replace(page, here);
        }
        let typed = format!("{{ {typed}\n}} 2>&1\nprintf '\\n{END}\\n'\n");
        self.stdin.write_all(typed.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        loop {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("`{command}` does not end: {said:?}"));
            let mut line = line
                .unwrap()
                .unwrap_or_else(|| panic!("the shell ended at `{command}`"));
            if line == END {
                break;
            }
            for (page, here) in &self.ports {
                line = line.replace(here, page);
            }
            said.push(line);
        }
        // The line break before the mark.
        if said.last().is_some_and(String::is_empty) {
            said.pop();
        }
        said
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_checklist_prints_what_the_checklist_shows() {
    let mut shell = Shell::start();
    let mut steps = 0;
    for part in page::parts(&page::read("commissioning.md")) {
        let Part::Block(language, lines) = part else {
            continue;
        };
        if language != "console" {
            continue;
        }
        for command in page::commands(&lines) {
            steps += 1;
            let end = Instant::now() + PATIENCE;
            loop {
                let said = shell.run(&command.typed).await;
                if fits(&command.shown, &said) {
                    break;
                }
                assert!(
                    only_looks(&command.typed) && Instant::now() < end,
                    "`{}` printed:\n{}\nthe page shows:\n{}",
                    command.typed,
                    said.join("\n"),
                    command.shown.join("\n")
                );
            }
        }
    }
    assert!(steps > 35, "{steps} commands");
}

#[test]
fn the_programs_that_are_built_are_those_of_the_workspace() {
    let page = page::read("commissioning.md");
    let packages: Vec<&str> = page
        .split("--package ")
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next())
        .collect();
    assert_eq!(packages.len(), 3);
    for package in packages {
        assert!(root().join("bins").join(package).is_dir(), "{package}");
    }
}

#[test]
fn what_is_left_out_is_anything_and_all_else_is_word_for_word() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let said = lines("a 1 b\nc\nd");
    for good in [
        "a 1 b\nc\nd",
        "a … b\n…\nd",
        "…\nd",
        "a…\n…",
        "…b\nc\n…d…",
        "…\na 1 b\nc\nd\n…",
    ] {
        assert!(fits(&lines(good), &said), "{good}");
    }
    for bad in [
        "",
        "a 1 b\nc",
        "a … c\n…",
        "…\nc",
        "a 1\nc\nd",
        "…\nd\nd",
        "a 1 b\nc\nd\ne",
    ] {
        assert!(!fits(&lines(bad), &said), "{bad}");
    }
    assert!(only_looks("derms dispatch list --from -1h") && only_looks("grep a b"));
    assert!(!only_looks("derms dispatch --asset A 1") && !only_looks("kill 1"));
}
