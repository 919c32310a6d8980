use std::net::SocketAddr;
use std::time::{Duration, Instant};

use derms_tests::{FREE, HeadendProcess, Process, Program, lasting_address, until};
use rustix::process::Signal;
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};

use crate::{BESS_1, BESS_2};

const SOON: Duration = Duration::from_secs(20);
/// What an end may take with nothing in its way.
const AT_ONCE: Duration = Duration::from_secs(5);

fn agent(asset: &str, headend: &str) -> Process {
    Process::start("edge_agent", &["--asset-id", asset, "--headend", headend])
}

async fn until_agents(headend: &HeadendProcess, count: usize) {
    until(&format!("{count} agents"), SOON, async || {
        (headend.client.agents().await.ok()?.len() == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_agent_without_a_headend_says_one_line_an_attempt_and_stops_when_told() {
    // Bound but not listening: nobody else can take the port, and every attempt is refused.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    let mut agent = agent(BESS_1, &address);
    agent.says("serving simulated devices").await;
    for _ in 0..3 {
        let line = agent.says("").await;
        assert!(
            line.contains("can't reach the headend, will try again"),
            "{line}"
        );
        assert!(
            line.contains(&address) && line.contains("refused"),
            "{line}"
        );
        assert!(line.contains("retry_in_s="), "{line}");
    }
    agent.signal(Signal::TERM);
    let (code, said) = agent.ended().await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn an_agent_whose_log_nobody_reads_any_more_goes_on() {
    // Every attempt fails, so every attempt is logged.
    let listener = TcpListener::bind(FREE).await.unwrap();
    let mut agent = agent(BESS_1, &listener.local_addr().unwrap().to_string());
    drop(listener.accept().await.unwrap());
    agent.says("will try again").await;
    agent.stop_reading();
    for _ in 0..2 {
        let attempt = tokio::time::timeout(SOON, listener.accept()).await;
        drop(attempt.expect("the agent tries on").unwrap());
    }
    assert_eq!(agent.terminated().await, Some(0));
}

#[tokio::test]
async fn a_headend_with_agents_drains_when_told_although_its_stdin_is_open() {
    let program = Program::new("der_headend")
        .args([
            "--http-addr",
            FREE,
            "--grpc-addr",
            FREE,
            "--database-url",
            "memory",
            "--exit-with-parent",
        ])
        .with_stdin();
    let headend = HeadendProcess::of(program).await;
    let mut agents = [agent(BESS_1, &headend.grpc), agent(BESS_2, &headend.grpc)];
    until_agents(&headend, 2).await;
    headend.process.signal(Signal::TERM);
    let told = Instant::now();
    let (code, said) = headend.process.ended().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(told.elapsed() < AT_ONCE, "it took {:?}", told.elapsed());
    assert!(said.contains("stopped"), "{said}");
    for agent in &mut agents {
        let line = agent.says("disconnected, will try again").await;
        assert!(line.contains("draining"), "{line}");
    }
    for agent in agents {
        assert_eq!(agent.terminated().await, Some(0));
    }
}

#[tokio::test]
async fn a_program_ends_with_whoever_started_it() {
    let program = Program::new("der_headend")
        .args([
            "--http-addr",
            FREE,
            "--grpc-addr",
            FREE,
            "--database-url",
            "memory",
            "--exit-with-parent",
        ])
        .with_stdin();
    let mut headend = HeadendProcess::of(program).await;
    let mut agent = Program::new("edge_agent")
        .args([
            "--asset-id",
            BESS_1,
            "--headend",
            &headend.grpc,
            "--exit-with-parent",
        ])
        .with_stdin()
        .start();
    until_agents(&headend, 1).await;
    agent.close_stdin();
    assert_eq!(agent.ended().await.0, Some(0));
    until_agents(&headend, 0).await;
    headend.process.close_stdin();
    let (code, said) = headend.process.ended().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the launcher is gone"), "{said}");
}

#[tokio::test]
async fn one_address_for_both_is_one_port() {
    let address = lasting_address().to_string();
    let headend = HeadendProcess::at(&address, &address, "memory").await;
    assert_eq!((&headend.http, &headend.grpc), (&address, &address));
    let agent = agent(BESS_1, &address);
    until_agents(&headend, 1).await;
    assert_eq!(agent.terminated().await, Some(0));
    assert_eq!(headend.process.terminated().await, Some(0));
}

#[tokio::test]
async fn a_headend_says_its_addresses_on_stdout_and_logs_objects_to_stderr() {
    let program = Program::new("der_headend")
        .args([
            "--http-addr",
            "0.0.0.0:0",
            "--grpc-addr",
            FREE,
            "--log-format",
            "json",
            "--database-url",
            "memory",
        ])
        .args(["--insecure", "--exit-with-parent"]);
    // Its stdin is at its end from the start, so it stops by itself.
    let output = program.run().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(output.stdout.lines().count(), 1, "{}", output.stdout);
    let addresses: Value = serde_json::from_str(&output.stdout).unwrap();
    let lines = output
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    let line = |words: &str| {
        let says = |line: &&Value| line["message"].as_str().unwrap().contains(words);
        lines
            .iter()
            .find(says)
            .unwrap_or_else(|| panic!("no `{words}` in {lines:?}"))
    };
    for name in ["http_addr", "grpc_addr"] {
        assert_eq!(line("headend listens")[name], addresses[name]);
    }
    // Each thing that is missing is warned of.
    for words in [
        "INSECURE: REST can be reached",
        "is not encrypted",
        "operators are not asked",
    ] {
        assert_eq!(line(words)["level"], "WARN");
    }
    let warnings = lines.iter().filter(|line| line["level"] == "WARN").count();
    assert_eq!(warnings, 2, "{lines:?}");
}
