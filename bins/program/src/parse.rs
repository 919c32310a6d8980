//! From arguments to a checked configuration, and from a result to an exit code.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Parser};

use crate::Failure;

/// Why a program does not go on.
#[derive(Debug)]
pub enum Stop {
    /// `--help` or `--version`: this text.
    Text(String),
    /// It failed.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Reads the arguments (the program's name first) and the environment.
///
/// # Errors
/// `--help` or `--version` was asked for, or a mistake was made: one line that names the flag and
/// its variable.
pub fn parse<A: Parser>(args: impl IntoIterator<Item = OsString>) -> Result<A, Stop> {
    parse_by(A::command(), args)
}

/// The same by `command`, which is `A`'s with another help; see [`list_only`].
///
/// # Errors
/// As [`parse`].
pub fn parse_by<A: Parser>(
    command: Command,
    args: impl IntoIterator<Item = OsString>,
) -> Result<A, Stop> {
    let matches = command.try_get_matches_from(args);
    let parsed = matches.and_then(|matches| A::from_arg_matches(&matches));
    parsed.map_err(|error| {
        if error.use_stderr() {
            Stop::Failed(Failure::configuration(message::<A>(&error)))
        } else {
            Stop::Text(error.to_string())
        }
    })
}

/// Lists in the help of a subcommand of those flags of the program that may stand behind it
/// (`global`) only these that `used` has, too. The others are taken there as before.
#[must_use]
pub fn list_only(command: Command, subcommand: &[&str], used: &Command) -> Command {
    let is_used = |flag: &Arg| used.get_arguments().any(|it| it.get_id() == flag.get_id());
    let flags = command.get_arguments().filter(|flag| flag.is_global_set());
    let others = flags.filter(|flag| !is_used(flag));
    let hidden: Vec<Arg> = others.map(|flag| flag.clone().hide(true)).collect();
    with_args(command, subcommand, &hidden)
}

fn with_args(command: Command, subcommand: &[&str], args: &[Arg]) -> Command {
    let Some((name, rest)) = subcommand.split_first() else {
        return command.args(args);
    };
    // `mut_subcommand` would move it behind its siblings.
    command.mut_subcommands(|sub| {
        if sub.get_name() == *name {
            with_args(sub, rest, args)
        } else {
            sub
        }
    })
}

/// What clap says, without its usage, and with the variable of a flag whose value is wrong: it may
/// be the one that was set.
fn message<A: Parser>(error: &clap::Error) -> String {
    let text = error.to_string();
    // The command that it is about, and its own command line.
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
    let words = usage.unwrap_or_default().split_whitespace();
    let command: Vec<&str> = words
        .take_while(|word| !word.starts_with(['<', '[', '-']))
        .collect();
    let help = format!("`{} --help` lists what there is", command.join(" "));
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return format!("say what to do; {help}");
    }
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .collect();
    let text = lines.join("\n");
    let text = text.trim_end();
    let text = text.strip_prefix("error: ").unwrap_or(text).to_owned();
    let unknown = [ErrorKind::UnknownArgument, ErrorKind::InvalidSubcommand];
    if unknown.contains(&error.kind()) && !text.contains('\n') {
        return format!("{text}; {help}");
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return text;
    };
    let mut command = A::command();
    // An argument that is not built can't be shown.
    command.build();
    let variable = command
        .get_arguments()
        .find(|arg| arg.to_string() == *flag)
        .and_then(|arg| arg.get_env());
    match variable {
        Some(variable) => {
            let quoted = format!("'{flag}'");
            let named = format!("{quoted} ({})", variable.display());
            text.replacen(&quoted, &named, 1)
        }
        None => text,
    }
}

/// Ends a program: prints what there is to say, to stdout or as one line to stderr, and gives the
/// exit code.
pub fn exit(program: &str, result: Result<(), Stop>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Text(text)) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(Stop::Failed(failure)) => {
            // With stderr gone there is nobody to tell; the exit code remains.
            let _ = writeln!(std::io::stderr(), "{program}: {}", failure.line());
            ExitCode::from(failure.code())
        }
    }
}

/// Tells the user, on stdout; the log goes to stderr.
pub fn say(text: &str) {
    let mut stdout = std::io::stdout();
    // A reader that went away is no reason to stop.
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Shows that it is help.
    #[derive(Debug, Parser)]
    #[command(name = "program", version)]
    struct Args {
        /// How many
        #[arg(long, env = "DERMS_PROGRAM_TEST_COUNT", default_value_t = 1)]
        count: u8,

        /// Whether
        #[arg(long)]
        really: bool,
    }

    fn args(args: &[&str]) -> Result<Args, Stop> {
        let all = std::iter::once(&"program").chain(args);
        parse(all.map(OsString::from))
    }

    fn bad(flags: &[&str]) -> String {
        match args(flags) {
            Err(Stop::Failed(failure)) => {
                assert_eq!(failure.code(), 64);
                failure.line().to_owned()
            }
            other => panic!("{flags:?} gave {other:?}"),
        }
    }

    #[test]
    fn a_wrong_value_is_one_line_with_the_flag_and_its_variable() {
        let line = bad(&["--count", "many"]);
        assert!(
            line.contains("'--count <COUNT>' (DERMS_PROGRAM_TEST_COUNT)"),
            "{line}"
        );
        assert!(line.contains("'many'") && !line.contains("Usage"), "{line}");
    }

    #[test]
    fn a_flag_that_does_not_exist_is_one_line_with_the_one_that_was_meant() {
        let line = bad(&["--realy"]);
        assert!(
            line.contains("'--realy'") && line.contains("'--really'"),
            "{line}"
        );
        assert!(!line.contains('\n') && !line.contains("--help"), "{line}");
    }

    #[test]
    fn what_is_like_nothing_there_is_says_where_to_look() {
        let line = bad(&["--zzz"]);
        assert!(
            line.ends_with("'--zzz' found; `program --help` lists what there is"),
            "{line}"
        );
    }

    #[derive(Debug, Parser)]
    #[command(
        name = "tool",
        subcommand_required = true,
        arg_required_else_help = true
    )]
    struct Tool {
        #[command(subcommand)]
        task: Task,
    }

    #[test]
    fn a_program_that_was_not_told_what_to_do_asks_in_one_line() {
        match parse::<Tool>(["tool"].map(OsString::from)) {
            Err(Stop::Failed(failure)) => assert_eq!(
                failure.line(),
                "say what to do; `tool --help` lists what there is"
            ),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn help_and_version_are_text_and_no_failure() {
        for (flag, words) in [
            ("--help", "Shows that it is help"),
            ("--version", "program "),
        ] {
            match args(&[flag]) {
                Err(Stop::Text(text)) => assert!(text.contains(words), "{text}"),
                other => panic!("{flag} gave {other:?}"),
            }
        }
    }

    #[derive(Debug, Parser)]
    struct Program {
        #[arg(long, global = true)]
        port: Option<u16>,
        #[arg(long, global = true, default_value_t = 1)]
        level: u8,
        #[command(subcommand)]
        task: Option<Task>,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Task {
        Make {
            #[command(subcommand)]
            what: What,
        },
        Check,
    }

    #[derive(Debug, clap::Subcommand)]
    enum What {
        Key,
    }

    #[test]
    fn a_subcommand_lists_the_flags_that_it_uses_and_takes_the_others_all_the_same() {
        let run = |words: &[&str]| {
            let used = Command::new("used").arg(Arg::new("level"));
            let command = list_only(Program::command(), &["make"], &used);
            let all = std::iter::once(&"program").chain(words);
            parse_by::<Program>(command, all.map(OsString::from))
        };
        for (words, all) in [
            (&["make", "--help"][..], false),
            (&["make", "key", "--help"], false),
            (&["check", "--help"], true),
            (&["--help"], true),
        ] {
            let Err(Stop::Text(help)) = run(words) else {
                panic!("{words:?}");
            };
            assert!(help.contains("--level"), "{help}");
            assert_eq!(help.contains("--port"), all, "{help}");
        }
        for words in [
            &["--port", "7", "--level", "3", "make", "key"][..],
            &["make", "--level", "3", "key", "--port", "7"],
        ] {
            let program = run(words).unwrap();
            assert_eq!((program.port, program.level), (Some(7), 3), "{words:?}");
        }
    }

    #[test]
    fn what_is_right_is_taken() {
        let args = args(&["--count", "3", "--really"]).unwrap();
        assert_eq!((args.count, args.really), (3, true));
    }
}
