use derms_tests::{Folder, HeadendProcess, Output, PostgresServer, Program};

async fn db(args: &[&str], flags: &[&str]) -> Output {
    let program = Program::new("der_headend").args(["db"]);
    program
        .args(args.iter().copied())
        .args(flags.iter().copied())
        .run()
        .await
}

async fn said(args: &[&str], flags: &[&str]) -> String {
    let output = db(args, flags).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    output.stdout
}

#[tokio::test]
async fn an_administrator_sees_makes_and_prunes_a_database() {
    let (folder, server) = (Folder::new(), PostgresServer::start());
    let (data, url) = (folder.path().display().to_string(), server.database());
    for (flags, newest, added) in [
        (["--data-dir", &data], 7, "1, 2, 3, 4, 5, 6, 7"),
        (["--database-url", &url], 8, "1, 2, 3, 4, 5, 6, 7, 8"),
    ] {
        let status = said(&["status"], &flags).await;
        let brings = format!("schema     none yet; this program brings {newest}");
        assert!(status.contains(&brings), "{status}");
        let migrated = said(&["migrate"], &flags).await;
        assert_eq!(migrated, format!("added schema {added}\n"));
        assert_eq!(
            said(&["migrate"], &flags).await,
            "the schema is up to date\n"
        );
        let status = said(&["status"], &flags).await;
        let up_to_date = format!("schema     {newest}, up to date");
        assert!(status.contains(&up_to_date), "{status}");
        assert!(status.contains("size "), "{status}");
        let old = said(&["prune", "--dry-run", "--telemetry-days", "1"], &flags).await;
        assert!(
            old.starts_with("older than its retention: 0 measurements,"),
            "{old}"
        );
        assert_eq!(old.lines().count(), 1, "{old}");
        let pruned = said(&["prune"], &flags).await;
        assert!(pruned.contains("\nforgotten: 0 measurements,"), "{pruned}");
    }
}

#[tokio::test]
async fn a_database_is_looked_after_while_its_headend_runs() {
    let headend = HeadendProcess::start().await;
    let data = headend.data.as_ref().unwrap().path().display().to_string();
    let flags = ["--data-dir", &data];
    assert!(said(&["status"], &flags).await.contains("up to date"));
    assert!(said(&["prune"], &flags).await.contains("forgotten"));
    let refused = db(&["migrate"], &flags).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("in use by another headend"),
        "{}",
        refused.stderr
    );
    assert_eq!(headend.process.terminated().await, Some(0));
}

#[tokio::test]
async fn a_data_folder_is_made_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = Folder::new();
    let data = folder.file("deep/er");
    said(&["migrate"], &["--data-dir", data.to_str().unwrap()]).await;
    let mode = std::fs::metadata(&data).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(data.join("derms.sqlite").is_file());
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_with_what_to_do() {
    let server = PostgresServer::start();
    let url = server.database();
    let flags = [
        "--database-url",
        url.as_str(),
        "--database-schema",
        "plant_7",
    ];
    said(&["migrate"], &flags).await;
    let newer = "insert into plant_7.schema_versions values (9, 'of next year', now())";
    server.sql(&url, newer);
    let output = db(&["migrate"], &flags).await;
    assert_eq!(output.code, Some(1));
    assert!(
        output.stderr.contains("use the newer program"),
        "{}",
        output.stderr
    );
    let status = said(&["status"], &flags).await;
    assert!(
        status.contains("9, newer than this program, which knows"),
        "{status}"
    );
}
