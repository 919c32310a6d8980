//! `der_headend check`: each thing that keeps a headend from starting is named, and nothing changes.

use std::collections::BTreeSet;
use std::path::Path;

use derms_agent_sdk::doctor::CHECKS;
use derms_tests::{FREE, Folder, HeadendProcess, Pki, Program, Wanted};
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
