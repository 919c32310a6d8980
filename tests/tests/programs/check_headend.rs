//! `der_headend check`: each thing that keeps a headend from starting is named, and nothing changes.

use std::collections::BTreeSet;
use std::path::Path;

use derms_agent_sdk::doctor::CHECKS;
use derms_tests::{FIRST_SCHEMA, FREE, Folder, HeadendProcess, Pki, Program, Wanted};
use time::Duration as Span;
use tokio::net::TcpListener;

use crate::check::Report;

async fn check(flags: &[&str]) -> Report {
    Report::of("der_headend", flags).await
}

const BOTH_FREE: [&str; 4] = ["--http-addr", FREE, "--grpc-addr", FREE];

/// With the store forgotten, unless something else is said of it.
async fn looked(flags: &[&str]) -> Report {
    let memory = ["--database-url", "memory"];
    check(&[&BOTH_FREE[..], &memory, flags].concat()).await
}

fn entries(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[tokio::test]
async fn what_is_right_is_ok_and_nothing_is_written() {
    let folder = Folder::new();
    let data = folder.file("data").display().to_string();
    let report = check(&[&BOTH_FREE[..], &["--data-dir", &data]].concat()).await;
    assert_eq!(report.code, Some(0), "{:#}", report.json);
    for name in [
        "fleet",
        "safe_start",
        "data_folder",
        "store",
        "schema",
        "store_lock",
        "clock",
    ] {
        assert_eq!(report.status(name), "ok", "{name} in {:#}", report.json);
    }
    assert_eq!(entries(folder.path()), BTreeSet::new());
}

#[tokio::test]
async fn a_headend_that_runs_is_known_by_its_answer_and_by_its_database() {
    let headend = HeadendProcess::start().await;
    let folder = headend.data.as_ref().unwrap();
    let data = folder.path().display().to_string();
    let before = entries(folder.path());
    let addresses = ["--http-addr", &headend.http, "--grpc-addr", &headend.grpc];
    let report = check(&[&addresses[..], &["--data-dir", &data]].concat()).await;
    assert_eq!(report.code, Some(0), "{:#}", report.json);
    for name in ["rest_address", "link_address", "store_lock"] {
        assert_eq!(report.status(name), "warn", "{name} in {:#}", report.json);
    }
    assert_eq!(report.status("schema"), "ok");
    assert_eq!(entries(folder.path()), before);
    // By its answer alone.
    let report = check(&[&addresses[..], &["--database-url", "memory"]].concat()).await;
    assert_eq!(report.status("rest_address"), "warn", "{:#}", report.json);
    assert_eq!(headend.process.terminated().await, Some(0));
}

#[tokio::test]
async fn a_port_of_another_program_is_told_apart_from_ours() {
    let listener = TcpListener::bind(FREE).await.unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let memory = ["--database-url", "memory"];
    let report =
        check(&[&memory[..], &["--http-addr", FREE, "--grpc-addr", &taken]].concat()).await;
    report.assert_fails(&["link_address"], "another program listens there");
    drop(listener);
    let away = [
        "--http-addr",
        "192.0.2.1:0",
        "--grpc-addr",
        FREE,
        "--insecure",
    ];
    let report = check(&[&memory[..], &away].concat()).await;
    report.assert_fails(&["rest_address"], "no such address");
}

#[tokio::test]
async fn the_fleet_is_read_and_what_is_odd_in_it_is_told() {
    let folder = Folder::new();
    let file = folder.file("assets.yaml");
    let path = file.display().to_string();
    std::fs::write(&file, "sites: [\n").unwrap();
    looked(&["--assets", &path])
        .await
        .assert_fails(&["fleet"], &path);
    let text = "sites:\n  - {id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, name: Full, location: A}\n  \
                - {id: 6ba7b811-9dad-11d1-80b4-00c04fd430c8, name: Empty, location: A}\nassets:\n  \
                - {id: 7ba7b810-9dad-11d1-80b4-00c04fd430c8, name: B, type: battery, capacity_mwhr: 0, \
                site_id: 6ba7b810-9dad-11d1-80b4-00c04fd430c8, max_mw: 1, min_mw: -1, efficiency: 1, \
                ramp_rate_mw_per_min: 1}\n";
    std::fs::write(&file, text).unwrap();
    let report = looked(&["--assets", &path]).await;
    assert_eq!(report.code, Some(0), "{:#}", report.json);
    let text = report.json.to_string();
    assert!(text.contains("site `Empty` has no assets"), "{text}");
    assert!(text.contains("battery `B` has no capacity"), "{text}");
}

#[tokio::test]
async fn certificates_are_judged_by_their_dates_names_and_keys() {
    let pki = Pki::new();
    let file = |name: &str| pki.file(name).display().to_string();
    let of = |certificate: &str, key: &str| {
        [
            "--tls-cert".to_owned(),
            file(certificate),
            "--tls-key".to_owned(),
            file(key),
        ]
    };
    let look = async |flags: [String; 4], more: &[&str]| {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        looked(&[&flags[..], more].concat()).await
    };
    let (ca, crl) = (file("ca.pem"), file("crl.pem"));
    let trust = ["--client-ca", &ca, "--crl", &crl];
    let report = look(of("headend.pem", "headend-key.pem"), &trust).await;
    assert_eq!(report.code, Some(0), "{:#}", report.json);
    let own = report.check("tls_certificate")["text"].as_str().unwrap();
    assert!(own.contains("127.0.0.1"), "{own}");
    for name in ["client_ca", "revocation_list"] {
        assert_ne!(report.status(name), "skip", "{:#}", report.json);
    }

    pki.issue("other", &Wanted::agent(1, crate::BESS_1));
    let report = look(of("headend.pem", "other-key.pem"), &[]).await;
    report.assert_fails(&["tls_files"], "don't go together");
    let report = look(of("nowhere.pem", "other-key.pem"), &[]).await;
    report.assert_fails(&["tls_files"], "nowhere.pem");
    let old = Wanted {
        until: Span::minutes(-1),
        ..Wanted::agent(2, crate::BESS_1)
    };
    pki.issue("old", &old);
    let report = look(of("old.pem", "old-key.pem"), &[]).await;
    report.assert_fails(&["tls_certificate"], "has expired");
}

/// A certificate of the headend, its client CA, and this revocation list.
async fn judged_by(pki: &Pki, crl: &Path) -> Report {
    let file = |name: &str| pki.file(name).display().to_string();
    let (certificate, key) = (file("headend.pem"), file("headend-key.pem"));
    let (ca, crl) = (file("ca.pem"), crl.display().to_string());
    looked(&[
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
        "--client-ca",
        &ca,
        "--crl",
        &crl,
    ])
    .await
}

#[tokio::test]
async fn an_overdue_revocation_list_is_warned_of_and_one_that_can_not_be_read_fails() {
    let pki = Pki::new();
    let crl = pki.file("crl.pem");
    let current = judged_by(&pki, &crl).await;
    assert_eq!(
        (current.code, current.status("revocation_list")),
        (Some(0), "ok")
    );

    pki.revoke_until(&[7], Span::minutes(-1));
    let overdue = judged_by(&pki, &crl).await;
    // Agents are judged by it all the same.
    assert_eq!(overdue.code, Some(0), "{:#}", overdue.json);
    let told = overdue.check("revocation_list");
    assert_eq!(told["status"], "warn", "{told}");
    let text = told["text"].as_str().unwrap();
    assert!(text.contains("should have been replaced by 20"), "{text}");
    assert_eq!(told["remedy"], "fetch the new list from the CA");

    std::fs::write(
        &crl,
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    )
    .unwrap();
    let junk = judged_by(&pki, &crl).await;
    junk.assert_fails(&["tls_files"], "holds a revocation list that can't be read");
    assert_eq!(junk.status("revocation_list"), "skip");
    std::fs::write(&crl, "half of a li").unwrap();
    let cut = judged_by(&pki, &crl).await;
    cut.assert_fails(&["tls_files"], "holds no certificate revocation list");
    std::fs::remove_file(&crl).unwrap();
    let gone = judged_by(&pki, &crl).await;
    gone.assert_fails(&["tls_files"], "crl.pem");
    // A folder can be read by nobody, not even by root.
    let folder = judged_by(&pki, Folder::new().path()).await;
    folder.assert_fails(&["tls_files"], "can't read");
}

#[tokio::test]
async fn an_older_schema_is_left_to_the_start_and_a_newer_one_fails_both() {
    let data = Folder::new();
    let url = format!("sqlite:{}", data.file("derms.sqlite").display());
    let sql = async |sql: &'static str| {
        let url = format!("{url}?mode=rwc");
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        sqlx::raw_sql(sql).execute(&pool).await.unwrap();
        pool.close().await;
    };
    let flags = [&BOTH_FREE[..], &["--database-url", &url]].concat();
    sql(FIRST_SCHEMA).await;
    for _ in 0..2 {
        let older = check(&flags).await;
        assert_eq!(older.code, Some(0), "{:#}", older.json);
        let told = older.check("schema");
        assert_eq!(told["status"], "warn", "{told}");
        let text = told["text"].as_str().unwrap();
        assert!(text.starts_with("version 1; the start brings "), "{text}");
        assert_eq!(
            told["remedy"],
            "keep a copy of the database before the start"
        );
    }
    let headend = HeadendProcess::at(FREE, FREE, &url).await;
    assert_eq!(headend.process.terminated().await, Some(0));
    let current = check(&flags).await;
    assert_eq!(current.status("schema"), "ok", "{:#}", current.json);

    sql("insert into schema_versions values (99, 'of next year', 0)").await;
    let newer = check(&flags).await;
    newer.assert_fails(&["schema"], "version 99, newer than this program");
    let remedy = &newer.check("schema")["remedy"];
    assert_eq!(*remedy, "use the newer program, or a database of its own");
    let start = Program::new("der_headend").args(flags.iter().copied());
    let refused = start.run().await;
    assert_eq!(refused.code, Some(1));
    let said = &refused.stderr;
    assert!(said.contains("use the newer program"), "{said}");
}

#[tokio::test]
async fn files_of_tokens_and_an_unsafe_start_are_told() {
    let folder = Folder::new();
    let file = folder.file("none").display().to_string();
    let report = looked(&["--tokens", &file]).await;
    report.assert_fails(&["rest_proof"], "(DERMS_TOKENS)");
    let report = looked(&["--agent-tokens", &file]).await;
    report.assert_fails(&["agent_proof"], "(HEADEND_AGENT_TOKENS)");
    let report = looked(&["--jwks", &file]).await;
    report.assert_fails(&["rest_proof"], "--jwt-issuer");
    let open = [
        "--http-addr",
        "0.0.0.0:0",
        "--grpc-addr",
        FREE,
        "--database-url",
        "memory",
    ];
    check(&open)
        .await
        .assert_fails(&["safe_start"], "can be reached from other machines");
    let told = check(&[&open[..], &["--insecure"]].concat()).await;
    assert_eq!((told.code, told.status("safe_start")), (Some(0), "warn"));
}

#[tokio::test]
async fn a_store_that_is_away_no_database_or_in_no_folder_is_told() {
    let away = "postgres://me:secret@127.0.0.1:1/derms";
    let report = check(&[&BOTH_FREE[..], &["--database-url", away]].concat()).await;
    report.assert_fails(&["store"], "database");
    assert!(!report.json.to_string().contains("secret"));
    let folder = Folder::new();
    let file = folder.file("a.sqlite");
    std::fs::write(
        &file,
        "this is a letter, and no database at all\n".repeat(100),
    )
    .unwrap();
    let url = format!("sqlite:{}", file.display());
    let report = check(&[&BOTH_FREE[..], &["--database-url", &url]].concat()).await;
    report.assert_fails(&["store"], "can't use the database");
    let report = check(&[&BOTH_FREE[..], &["--data-dir", "/proc/derms"]].concat()).await;
    report.assert_fails(&["data_folder", "disk_space"], "can't be written");
    let report = check(&[&BOTH_FREE[..], &["--database-url", "mysql://x"]].concat()).await;
    report.assert_fails(&["store"], "(DATABASE_URL)");
}

/// The names in the table below a heading of docs/doctor.md.
fn documented(heading: &str) -> Vec<String> {
    let text = std::fs::read_to_string(derms_tests::root().join("docs/doctor.md")).unwrap();
    let (_, section) = text.split_once(heading).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_documentation_lists_the_checks_that_are_made_in_their_order() {
    assert_eq!(documented("## edge_agent check"), CHECKS);
    let mut made = looked(&[])
        .await
        .names()
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    made.dedup();
    assert_eq!(documented("## der_headend check"), made);
    let edge = Report::of(
        "edge_agent",
        &["--asset-id", crate::BESS_1, "--headend", "127.0.0.1:1"],
    );
    let edge = edge.await;
    let made: BTreeSet<&str> = edge.names().into_iter().collect();
    assert_eq!(made, CHECKS.into_iter().collect(), "{:#}", edge.json);
}

#[tokio::test]
async fn help_names_what_a_check_adds_and_the_flags_of_a_run() {
    for (program, flags) in [
        (
            "edge_agent",
            &["--write-default", "--json", "--headend", "--state-dir"][..],
        ),
        (
            "der_headend",
            &["--json", "--tls-cert", "--http-addr", "--tokens"],
        ),
    ] {
        let output = Program::new(program).args(["check", "--help"]).run().await;
        assert_eq!(output.code, Some(0));
        for flag in flags {
            assert!(
                output.stdout.contains(flag),
                "no {flag} in {}",
                output.stdout
            );
        }
    }
}
