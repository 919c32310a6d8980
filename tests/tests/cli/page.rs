//! The commands in docs/cli.md, run in their order against a headend with agents: what they print
//! has the shape that the page shows.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use derms_client::proto::{AssetId, AssetStatus, Timestamp};
use derms_tests::{Folder, program, root, until};

use crate::world::World;

/// What is taken for another value of the same kind.
#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Id,
    Time,
    Number,
    Word(&'a str),
}

fn piece(token: &str) -> Piece<'_> {
    let bare = token.trim_matches(['(', ')', ',', ':', ';', '"', '`']);
    if bare.parse::<AssetId>().is_ok() {
        return Piece::Id;
    }
    if bare.parse::<Timestamp>().is_ok() {
        return Piece::Time;
    }
    let number = bare.trim_end_matches(['%', 's', 'm']);
    if number.parse::<f64>().is_ok() || number.parse::<std::net::SocketAddr>().is_ok() {
        return Piece::Number;
    }
    Piece::Word(token)
}

fn shape(line: &str) -> Vec<Piece<'_>> {
    line.split_whitespace().map(piece).collect()
}

/// Ids of the page, with those that stand in their places here.
fn learn(ids: &mut HashMap<String, String>, page: &str, here: &str) {
    let bare = |token: &str| {
        token
            .trim_matches(['(', ')', ',', ':', ';', '"', '`'])
            .to_owned()
    };
    for (page, here) in page.split_whitespace().zip(here.split_whitespace()) {
        let (page, here) = (bare(page), bare(here));
        if page.parse::<AssetId>().is_ok() && here.parse::<AssetId>().is_ok() {
            ids.entry(page).or_insert(here);
        }
    }
}

/// Each command of the page with what is shown below it.
fn commands(page: &str) -> Vec<(String, Vec<String>)> {
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            commands.push((command.to_owned(), Vec::new()));
        } else if inside && let Some((_, shown)) = commands.last_mut() {
            shown.push(line.to_owned());
        }
    }
    commands
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_command_of_the_page_prints_what_the_page_shows() {
    let world = World::start().await;
    // An agent tells what its device has accepted with its first heartbeat, 30 s after the start.
    until("accepted powers", Duration::from_secs(60), async || {
        let assets = world.client().assets().await.ok()?;
        let told = |it: &AssetStatus| it.control.as_ref().is_some_and(|it| it.mw.is_some());
        (assets.iter().filter(|it| told(it)).count() == 3).then_some(())
    })
    .await;
    world.trouble("the inverter is hot").await;
    let folder = Folder::new();
    let page = std::fs::read_to_string(root().join("docs/cli.md")).unwrap();
    let commands = commands(&page);
    assert!(commands.len() >= 20, "{} commands", commands.len());
    let path = program("derms");
    let path = path.parent().unwrap().display();
    let mut ids: HashMap<String, String> = HashMap::new();
    for (command, shown) in commands {
        let mut here = command.clone();
        for (page, actual) in &ids {
            here = here.replace(page, actual);
        }
        let output = Command::new("sh")
            .args(["-c", &format!("{here} 2>&1")])
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", format!("{path}:/usr/bin:/bin"))
            .env("DERMS_URL", world.url())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        // `…` stands for lines that are left out.
        let cut = shown.last().is_some_and(|line| line == "…");
        let wanted = &shown[..shown.len() - usize::from(cut)];
        let fits = if cut {
            lines.len() > wanted.len()
        } else {
            lines.len() == wanted.len()
        };
        assert!(
            fits,
            "`{here}` printed:\n{said}\nthe page shows:\n{}",
            shown.join("\n")
        );
        for (wanted, line) in wanted.iter().zip(&lines) {
            assert_eq!(shape(line), shape(wanted), "`{here}` printed:\n{said}");
            learn(&mut ids, wanted, line);
        }
    }
}
