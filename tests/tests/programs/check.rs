//! `edge_agent check`: each thing that keeps an agent from its work is named, and no agent is
//! disturbed.

use std::time::Duration;

use derms_agent_sdk::testing::FakeHeadend;
use derms_tests::{
    FREE, Folder, HeadendProcess, Pki, PostgresServer, Process, Program, Wanted, until,
};
use serde_json::Value;
use time::Duration as Span;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::{BESS_1, BESS_2, JERSEY};

const SOON: Duration = Duration::from_secs(30);

/// What a check has printed.
pub(crate) struct Report {
    pub(crate) code: Option<i32>,
    pub(crate) json: Value,
}

impl Report {
    pub(crate) async fn of(program: &str, flags: &[&str]) -> Self {
        let program = Program::new(program).args(["check", "--json"]);
        let output = program.args(flags.iter().copied()).run().await;
        let json = serde_json::from_str(&output.stdout);
        let json = json.unwrap_or_else(|_| panic!("no JSON: {output:?}"));
        let report = Self {
            code: output.code,
            json,
        };
        let ok = report.json["ok"].as_bool().unwrap();
        assert_eq!(report.code, Some(i32::from(!ok)), "{}", report.json);
        report
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        let checks = self.json["checks"].as_array().unwrap().iter();
        checks
            .map(|check| check["name"].as_str().unwrap())
            .collect()
    }

    /// The first of this name.
    pub(crate) fn check(&self, name: &str) -> &Value {
        let mut checks = self.json["checks"].as_array().unwrap().iter();
        let found = checks.find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {:#}", self.json))
    }

    pub(crate) fn status(&self, name: &str) -> &str {
        self.check(name)["status"].as_str().unwrap()
    }

    /// These alone have failed, the first with these words and with something to do.
    pub(crate) fn assert_fails(&self, names: &[&str], words: &str) {
        let checks = self.json["checks"].as_array().unwrap().iter();
        let failed: Vec<&str> = checks
            .filter(|check| check["status"] == "fail")
            .map(|check| check["name"].as_str().unwrap())
            .collect();
        assert_eq!(failed, names, "{:#}", self.json);
        assert_eq!(self.code, Some(1));
        let first = self.check(names[0]);
        let text = first["text"].as_str().unwrap();
        assert!(text.contains(words), "`{words}` is not in: {text}");
        assert!(first["remedy"].is_string(), "{first}");
    }
}

async fn check(headend: &str, flags: &[&str]) -> Report {
    let all = [&["--asset-id", BESS_1, "--headend", headend], flags].concat();
    Report::of("edge_agent", &all).await
}

#[tokio::test]
async fn an_agent_that_runs_keeps_its_session_while_the_same_asset_is_checked() {
    let (headend, folder) = (HeadendProcess::start().await, Folder::new());
    let state = folder.file("state").display().to_string();
    let flags = [
        "--asset-id",
        BESS_1,
        "--headend",
        &headend.grpc,
        "--state-dir",
        &state,
    ];
    let before = check(&headend.grpc, &["--state-dir", &state]).await;
    assert_eq!((before.code, before.status("state_lock")), (Some(0), "ok"));
    assert!(!folder.file("state").exists(), "a check makes nothing");

    let agent = Process::start("edge_agent", &flags);
    until("the agent", SOON, async || {
        (headend.client.agents().await.unwrap().len() == 1).then_some(())
    })
    .await;
    for _ in 0..3 {
        let report = check(&headend.grpc, &["--state-dir", &state]).await;
        assert_eq!(report.code, Some(0), "{:#}", report.json);
        for name in [
            "configuration",
            "tcp",
            "protocol",
            "link",
            "clock",
            "grant",
            "read",
        ] {
            assert_eq!(report.status(name), "ok", "{name} in {:#}", report.json);
        }
        assert_eq!(report.status("state_lock"), "warn");
        assert_eq!(report.status("write_default"), "skip");
        let link = report.check("link")["text"].as_str().unwrap();
        assert!(link.contains("is connected and stays so"), "{link}");
        let agents = headend.client.agents().await.unwrap();
        assert_eq!((agents.len(), agents[0].epoch), (1, Some(1)));
    }
    let refused = check(&headend.grpc, &["--write-default"]).await;
    refused.assert_fails(&["write_default"], "an agent of this id runs");
    assert_eq!(headend.client.agents().await.unwrap()[0].epoch, Some(1));

    assert_eq!(agent.terminated().await, Some(0));
    let alone = check(&headend.grpc, &["--write-default"]).await;
    assert_eq!(alone.status("write_default"), "ok", "{:#}", alone.json);
}

#[tokio::test]
async fn a_headend_that_is_down_and_a_port_of_something_else_are_told_apart() {
    let listener = TcpListener::bind(FREE).await.unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let report = check(&nobody, &[]).await;
    report.assert_fails(&["tcp"], "refused");
    assert_eq!(report.status("link"), "skip");
    assert_eq!(
        report.status("read"),
        "ok",
        "the device is looked at all the same"
    );

    let headend = HeadendProcess::start().await;
    let rest = check(&headend.http, &[]).await;
    rest.assert_fails(&["protocol"], "does not speak the agent link");

    let other = TcpListener::bind(FREE).await.unwrap();
    let address = other.local_addr().unwrap().to_string();
    let speaking = tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        }
    });
    let ssh = check(&address, &[]).await;
    ssh.assert_fails(&["protocol"], "does not speak the agent link");
    let ca = Pki::new().file("ca.pem").display().to_string();
    let secure = format!("https://{address}");
    // Its files are gone with the CA.
    let files = check(&secure, &["--ca", &ca]).await;
    files.assert_fails(&["tls_files"], "can't read");
    let tls = check(&secure, &[]).await;
    assert_eq!(tls.status("tls"), "fail", "{:#}", tls.json);
    speaking.abort();

    let unknown = check("http://headend.invalid:50051", &[]).await;
    unknown.assert_fails(&["name_resolution"], "headend.invalid");
}

/// A headend with the certificates of this CA.
async fn secured(pki: &Pki) -> HeadendProcess {
    let file = |name: &str| pki.file(name).display().to_string();
    let program = Program::new("der_headend")
        .args([
            "--http-addr",
            FREE,
            "--grpc-addr",
            FREE,
            "--database-url",
            "memory",
        ])
        .args([
            "--tls-cert",
            &file("headend.pem"),
            "--tls-key",
            &file("headend-key.pem"),
        ])
        .args(["--client-ca", &file("ca.pem"), "--crl", &file("crl.pem")]);
    HeadendProcess::of(program).await
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said_of_the_one_that_it_is_wrong_with() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    pki.revoke(&[7]);
    let headend = secured(&pki).await;
    let url = format!("https://{}", headend.grpc);
    let show = |path: std::path::PathBuf| path.display().to_string();
    let ca = show(pki.file("ca.pem"));
    let issued = |pki: &Pki, name: &str, wanted: &Wanted| {
        let (certificate, key) = pki.issue(name, wanted);
        [show(certificate), show(key)]
    };
    let looked = async |ca: &str, [certificate, key]: &[String; 2], more: &[&str]| {
        let flags = [&["--ca", ca, "--cert", certificate, "--key", key], more].concat();
        check(&url, &flags).await
    };

    let good = issued(&pki, "good", &Wanted::agent(1, BESS_1));
    let report = looked(&ca, &good, &[]).await;
    assert_eq!(report.code, Some(0), "{:#}", report.json);
    let link = report.check("link")["text"].as_str().unwrap();
    assert!(
        link.contains(&format!("urn:derms:agent:{BESS_1}")),
        "{link}"
    );
    let tls = report.check("tls")["text"].as_str().unwrap();
    assert!(tls.contains("TLSv1_3") && tls.contains("test CA"), "{tls}");
    assert_eq!(
        report.status("own_certificate"),
        "warn",
        "good for an hour alone"
    );

    let other_ca = show(stranger.file("ca.pem"));
    let report = looked(&other_ca, &good, &[]).await;
    report.assert_fails(&["tls"], "is of a CA that the agent does not trust");
    let report = looked(&ca, &good, &["--server-name", "other.example"]).await;
    report.assert_fails(&["tls"], "is for another name");
    let remedy = report.check("tls")["remedy"].as_str().unwrap();
    assert!(remedy.contains("127.0.0.1"), "{remedy}");

    let revoked = issued(&pki, "revoked", &Wanted::agent(7, BESS_1));
    let report = looked(&ca, &revoked, &[]).await;
    report.assert_fails(&["tls"], "refuses the agent's certificate: it is revoked");
    let foreign = issued(&stranger, "foreign", &Wanted::agent(1, BESS_1));
    let report = looked(&ca, &foreign, &[]).await;
    report.assert_fails(&["tls"], "refuses the agent's certificate: it is of a CA");

    let of_another = issued(&pki, "another", &Wanted::agent(2, BESS_2));
    let report = looked(&ca, &of_another, &[]).await;
    report.assert_fails(&["own_certificate", "link"], "is not among them");
    let old = Wanted {
        until: Span::minutes(-1),
        ..Wanted::agent(3, BESS_1)
    };
    let report = looked(&ca, &issued(&pki, "old", &old), &[]).await;
    report.assert_fails(&["own_certificate", "tls"], "has expired");
    let swapped = [good[0].clone(), of_another[1].clone()];
    let report = looked(&ca, &swapped, &[]).await;
    report.assert_fails(&["tls_files"], "don't go together");

    let no_tls = check(&headend.grpc, &[]).await;
    no_tls.assert_fails(&["protocol"], "does not speak the agent link");
    let nobody = check(&url, &["--ca", &ca]).await;
    nobody.assert_fails(&["link"], "does not know who is calling");
}

#[tokio::test]
async fn a_headends_certificate_that_is_out_of_its_time_is_told_with_its_dates() {
    for (from, until, words) in [
        (Span::hours(-2), Span::hours(-1), "has expired"),
        (Span::hours(1), Span::hours(2), "is not valid yet"),
    ] {
        let pki = Pki::new();
        let wanted = Wanted {
            from,
            until,
            ..Wanted::agent(1, JERSEY)
        };
        pki.issue("headend", &wanted);
        let headend = secured(&pki).await;
        let ca = pki.file("ca.pem").display().to_string();
        let report = check(&format!("https://{}", headend.grpc), &["--ca", &ca]).await;
        report.assert_fails(&["tls", "server_certificate"], words);
    }
}

#[tokio::test]
async fn what_the_headend_does_not_grant_is_told_with_the_reason() {
    let headend = HeadendProcess::start().await;
    let foreign = check(&headend.grpc, &["--agent-id", BESS_2]).await;
    foreign.assert_fails(&["grant"], "this agent may not serve it");
    let nobody = "00000000-0000-4000-8000-000000000001";
    let unknown = check(&headend.grpc, &["--agent-id", nobody]).await;
    unknown.assert_fails(&["link"], "may serve no asset of this fleet");
    let flags = [
        "--asset-id",
        nobody,
        "--site-id",
        JERSEY,
        "--agent-id",
        JERSEY,
    ];
    let flags = [
        &flags[..],
        &["--max-mw", "1", "--min-mw=-1", "--headend", &headend.grpc],
    ]
    .concat();
    let absent = Report::of("edge_agent", &flags).await;
    absent.assert_fails(&["grant"], "has no asset");
    let _gateway = Process::start(
        "edge_agent",
        &["--site-id", JERSEY, "--headend", &headend.grpc],
    );
    until("the gateway", SOON, async || {
        (headend.client.agents().await.unwrap().len() == 1).then_some(())
    })
    .await;
    let elsewhere = check(&headend.grpc, &[]).await;
    elsewhere.assert_fails(&["grant"], "another agent that is connected serves it");
}

#[tokio::test]
async fn a_clock_an_hour_off_fails_and_an_older_headend_is_no_failure() {
    let headend = FakeHeadend::on_loopback().await.unwrap();
    let address = headend.uri().to_string();
    let older = check(&address, &[]).await;
    assert_eq!((older.code, older.status("protocol")), (Some(0), "skip"));
    assert_eq!(
        (older.status("link"), older.status("clock")),
        ("skip", "skip")
    );
    assert_eq!(headend.attempts(), 0, "no stream was opened");
    for (micros, status) in [(3_600_000_000, "fail"), (-5_000_000, "warn"), (0, "ok")] {
        headend.answer_probes(micros);
        let report = check(&address, &[]).await;
        assert_eq!(report.status("clock"), status, "{:#}", report.json);
    }
    headend.answer_probes(3_600_000_000);
    check(&address, &[])
        .await
        .assert_fails(&["clock"], "behind the headend");
}

#[tokio::test]
async fn a_device_that_fails_or_does_not_answer_is_told_in_its_words() {
    let (headend, folder) = (HeadendProcess::start().await, Folder::new());
    let faults = folder.path().display().to_string();
    std::fs::write(folder.file(BESS_1), "bus fault 7").unwrap();
    let report = check(&headend.grpc, &["--faults-dir", &faults, "--write-default"]).await;
    report.assert_fails(&["read", "write_default"], "bus fault 7");
    std::fs::write(folder.file(BESS_1), "hang").unwrap();
    let report = check(&headend.grpc, &["--faults-dir", &faults]).await;
    report.assert_fails(&["read"], "no answer within");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_headend_whose_store_is_down_is_told() {
    let server = PostgresServer::start();
    let headend = HeadendProcess::at(FREE, FREE, &server.database()).await;
    let up = check(&headend.grpc, &[]).await;
    assert_eq!(up.code, Some(0), "{:#}", up.json);
    server.stop();
    let down = check(&headend.grpc, &[]).await;
    down.assert_fails(&["link"], "store can't be reached");
}

#[tokio::test]
async fn a_wrong_file_fails_the_configuration_and_a_wrong_flag_is_none() {
    let folder = Folder::new();
    let file = folder.file("assets.yaml");
    std::fs::write(&file, "sites: [\n").unwrap();
    let file = file.display().to_string();
    let report = check("http://127.0.0.1:1", &["--assets", &file]).await;
    report.assert_fails(&["configuration"], &file);
    assert_eq!(report.status("tcp"), "skip");
    let output = Program::new("edge_agent")
        .args(["check", "--jsno"])
        .run()
        .await;
    assert_eq!((output.code, output.stdout.as_str()), (Some(64), ""));
}

#[tokio::test]
async fn a_state_directory_that_can_not_be_written_or_is_anothers_is_told() {
    // Not even root may write there, and there is no room.
    let report = check("http://127.0.0.1:1", &["--state-dir", "/proc/derms"]).await;
    report.assert_fails(&["state_directory", "disk_space", "tcp"], "/proc/derms");
    let folder = Folder::new();
    let state = folder.path().display().to_string();
    let headend = FakeHeadend::on_loopback().await.unwrap();
    let address = headend.uri().to_string();
    let flags = [
        "--asset-id",
        BESS_2,
        "--headend",
        &address,
        "--state-dir",
        &state,
    ];
    let mut agent = Process::start("edge_agent", &flags);
    // By then the directory is its own; signals may not be handled yet.
    agent.says("serving simulated devices").await;
    agent.terminated().await;
    let report = check(&address, &["--state-dir", &state]).await;
    report.assert_fails(&["state_directory"], &format!("belongs to agent {BESS_2}"));
}

#[tokio::test]
async fn people_read_lines_with_the_remedy_below() {
    let program = Program::new("edge_agent").args(["check", "--asset-id", BESS_1]);
    let output = program.args(["--headend", "127.0.0.1:1"]).run().await;
    assert_eq!(output.code, Some(1));
    assert!(
        output.stdout.starts_with("ok    configuration "),
        "{}",
        output.stdout
    );
    assert!(
        output.stdout.contains("-> start the headend"),
        "{}",
        output.stdout
    );
    assert!(
        output.stderr.contains("1 check failed"),
        "{}",
        output.stderr
    );
}
