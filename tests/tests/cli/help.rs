//! What `derms` says of itself.

use derms_tests::Program;

/// Flag of every command, variable, default.
const FLAGS: [(&str, &str, &str); 5] = [
    ("--headend-url", "DERMS_URL", "http://127.0.0.1:3001"),
    ("--token-file", "DERMS_TOKEN_FILE", "none"),
    ("--ca", "DERMS_CA", "those that browsers trust"),
    ("--timeout", "DERMS_TIMEOUT", "30s"),
    ("--json", "", ""),
];

async fn help(command: &[&str]) -> String {
    let program = Program::new("derms").args(command.iter().copied());
    let output = program.args(["--help"]).run().await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    output.stdout
}

#[tokio::test]
async fn help_names_every_flag_its_variable_its_default_and_the_exit_codes() {
    for command in [
        &[][..],
        &["dispatch"],
        &["dispatch", "list"],
        &["export"],
        &["watch"],
    ] {
        let help = help(command).await;
        for (flag, variable, default) in FLAGS {
            let start = help.find(&format!("\n      {flag}"));
            let start = start.unwrap_or_else(|| panic!("{command:?} has no {flag}:\n{help}"));
            let section = &help[start + 1..];
            let end = section.find("\n      --").unwrap_or(section.len());
            let section = &section[..end];
            assert!(section.contains(default), "no {default} in:\n{section}");
            let named = variable.is_empty() || section.contains(&format!("[env: {variable}"));
            assert!(named, "no {variable} in:\n{section}");
        }
    }
    let help = help(&[]).await;
    assert!(
        help.contains("2 the headend refused") && help.contains("64 bad usage"),
        "{help}"
    );
}

#[tokio::test]
async fn the_version_is_one_line_and_a_shell_gets_its_completions() {
    let output = Program::new("derms").args(["--version"]).run().await;
    let line = format!("derms {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((output.code, output.stdout), (Some(0), line));
    for shell in ["bash", "zsh", "fish"] {
        // Needs no headend: there is none.
        let output = Program::new("derms")
            .args(["completion", shell])
            .run()
            .await;
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
        for word in ["dispatch", "rebalance", "telemetry"] {
            assert!(output.stdout.contains(word), "{shell} knows no {word}");
        }
    }
}
