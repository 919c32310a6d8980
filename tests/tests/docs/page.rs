//! A page as a list of what a test looks at.

use derms_tests::root;

/// A part of a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Heading(String),
    /// A block of this language, without its fences.
    Block(String, Vec<String>),
    /// A line of text.
    Text(String),
}

/// What is typed, with what is shown below it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) typed: String,
    pub(crate) shown: Vec<String>,
}

/// The text of a page in `docs/`.
pub(crate) fn read(name: &str) -> String {
    let file = root().join("docs").join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

pub(crate) fn parts(page: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut block: Option<(String, Vec<String>)> = None;
    for line in page.lines() {
        match (block.take(), line.strip_prefix("```")) {
            (Some((language, lines)), Some(_)) => parts.push(Part::Block(language, lines)),
            (Some((language, mut lines)), None) => {
                lines.push(line.to_owned());
                block = Some((language, lines));
            }
            (None, Some(language)) => block = Some((language.to_owned(), Vec::new())),
            (None, None) if line.starts_with('#') => {
                parts.push(Part::Heading(
                    line.trim_start_matches('#').trim().to_owned(),
                ));
            }
            (None, None) => parts.push(Part::Text(line.to_owned())),
        }
    }
    assert!(block.is_none(), "a block without an end: {block:?}");
    parts
}

/// The commands of a block of the language `console`: lines that begin with `$ `, each with those
/// that go on after a backslash, or to the end of `<<END`.
pub(crate) fn commands(block: &[String]) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    // Whether a text goes on to its END, or the line before ends in a backslash.
    let (mut text, mut goes_on) = (false, false);
    for line in block {
        if let Some(typed) = line.strip_prefix("$ ").filter(|_| !text) {
            commands.push(Command {
                typed: typed.to_owned(),
                shown: Vec::new(),
            });
            text = line.ends_with("<<END");
        } else {
            let last = commands.last_mut().expect("a block begins with a command");
            if !text && !goes_on {
                last.shown.push(line.to_owned());
                continue;
            }
            last.typed = format!("{}\n{line}", last.typed);
            text &= line != "END";
        }
        goes_on = line.ends_with('\\');
    }
    commands
}

#[test]
fn a_page_is_headings_text_and_blocks_and_a_command_may_have_several_lines() {
    let page = "# A `b`\ntext\n```console\n$ one \\\n  two\nsaid\n$ cat > x <<END\n$ y\nEND\n$ three\n```\n";
    let parts = parts(page);
    assert_eq!(
        parts[..2],
        [Part::Heading("A `b`".into()), Part::Text("text".into())]
    );
    let Part::Block(language, lines) = &parts[2] else {
        panic!("{parts:?}");
    };
    assert_eq!(language, "console");
    let commands = commands(lines);
    assert_eq!(
        (commands[0].typed.as_str(), &commands[0].shown[..]),
        ("one \\\n  two", &["said".to_owned()][..])
    );
    assert_eq!(commands[1].typed, "cat > x <<END\n$ y\nEND");
    assert_eq!((commands.len(), commands[2].typed.as_str()), (3, "three"));
}
