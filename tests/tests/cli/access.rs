//! Roles, as an operator meets them.

use derms_tests::{FREE, Folder, HeadendProcess, Output, Program};

pub(crate) async fn token(folder: &Folder, role: &str) -> String {
    let tokens = folder.file("tokens.yaml").display().to_string();
    let args = [
        "token", "new", "--tokens", &tokens, "--name", role, "--role", role,
    ];
    let output = Program::new("der_headend").args(args).run().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let file = folder.file(role);
    std::fs::write(&file, output.stdout.trim()).unwrap();
    file.display().to_string()
}

#[tokio::test]
async fn each_role_gets_as_far_as_it_may_and_is_told_what_it_lacks() {
    let folder = Folder::new();
    let viewer = token(&folder, "viewer").await;
    let operator = token(&folder, "operator").await;
    let admin = token(&folder, "admin").await;
    let program = Program::new("der_headend").args(["--http-addr", FREE, "--grpc-addr", FREE]);
    let tokens = folder.file("tokens.yaml").display().to_string();
    let program = program.args(["--database-url", "memory", "--tokens", &tokens]);
    let headend = HeadendProcess::of(program).await;
    let derms = async |file: &str, args: &[&str]| -> Output {
        let program = Program::new("derms").env("DERMS_URL", &format!("http://{}", headend.http));
        let program = program.env("DERMS_TOKEN_FILE", file);
        program.args(args.iter().copied()).run().await
    };
    let order = ["dispatch", "--asset", "BESS-1", "1", "--yes", "--json"];
    let out = folder.file("audit.csv");
    let export = ["export", "audit", "--out", out.to_str().unwrap()];
    for (file, args, code, words) in [
        (&viewer, &["assets"][..], 0, ""),
        (&viewer, &order, 2, "higher role"),
        (&viewer, &["stop", "--all", "--yes"], 2, "[forbidden]"),
        (
            &viewer,
            &["dispatch", "--asset", "BESS-1", "1", "--preview"],
            0,
            "",
        ),
        (&operator, &order, 0, "idempotency key"),
        (&operator, &["audit"], 2, "higher role"),
        (&operator, &export, 2, "[forbidden]"),
    ] {
        let output = derms(file, args).await;
        assert_eq!(output.code, Some(code), "{args:?}: {}", output.stderr);
        assert!(output.stderr.contains(words), "{args:?}: {}", output.stderr);
    }
    assert!(!out.exists() && !folder.file("audit.csv.part").exists());
    assert_eq!(derms(&admin, &export).await.code, Some(0));
    assert!(
        std::fs::read_to_string(&out)
            .unwrap()
            .contains("submit_dispatch")
    );
    let trail = derms(&admin, &["audit", "--principal", "viewer"])
        .await
        .stdout;
    let rows = trail
        .lines()
        .skip(1)
        .filter(|row| row.contains("  viewer  "));
    assert_eq!((trail.lines().count(), rows.count()), (3, 2), "{trail}");

    std::fs::write(folder.file("wrong"), "derms_nobody-has-this").unwrap();
    let wrong = folder.file("wrong").display().to_string();
    let output = derms(&wrong, &["assets"]).await;
    assert_eq!(output.code, Some(2));
    assert!(
        output.stderr.contains("--token-file (DERMS_TOKEN_FILE)"),
        "{}",
        output.stderr
    );
    assert!(
        !output.stderr.contains("nobody-has-this"),
        "{}",
        output.stderr
    );
}
