//! A throw-away PostgreSQL server for the tests of one process.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What to do when there is no server to start.
const MISSING: &str = "PostgreSQL is not installed: `apt-get install postgresql`, or let \
                       `cargo xtask ci` do it";

/// Names the folder of the programs of another server than that of this machine.
const CHOSEN: &str = "DERMS_TEST_POSTGRES";

/// What a server with TimescaleDB starts with; it asks nobody whether there is a newer version.
const TIMESCALEDB: [&str; 2] = [
    "shared_preload_libraries=timescaledb",
    "timescaledb.telemetry_level=off",
];

/// A cluster of its own, listening on loopback; stopped and removed when dropped.
///
/// Its programs are those in the folder `DERMS_TEST_POSTGRES`, or those of this machine. TimescaleDB
/// is loaded if that folder is given and has it.
#[derive(Debug)]
pub struct PostgresServer {
    bin: PathBuf,
    folder: PathBuf,
    data: PathBuf,
    port: u16,
    /// Beside what it always has: `name=value`.
    settings: Vec<String>,
    databases: AtomicU32,
}

impl PostgresServer {
    /// Makes and starts a cluster.
    ///
    /// # Panics
    /// PostgreSQL is not installed, or does not start; says what to do.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Makes and starts a cluster with settings of its own, `name=value` each.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_with(settings: &[&str]) -> Self {
        Self::make(settings, None)
    }

    /// Makes and starts a cluster that has all its data on this disk.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_on(disk: &Path) -> Self {
        Self::make(&[], Some(disk))
    }

    fn make(settings: &[&str], disk: Option<&Path>) -> Self {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let bin = programs();
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        // Not in the target folder: the user that runs the server need not be able to reach it.
        let name = format!("derms-postgres-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder for the cluster");
        let mut server = Self {
            bin,
            data: disk.unwrap_or(&folder).join("data"),
            folder,
            port: 0,
            settings: Vec::new(),
            databases: AtomicU32::new(0),
        };
        if has_timescaledb(&server.bin) {
            server.set(&TIMESCALEDB);
        }
        server.set(settings);
        give_to_server(&server.folder);
        if let Some(disk) = disk {
            give_to_server(disk);
        }
        let init = server
            .command("initdb")
            .args([
                "--auth=trust",
                "--username=postgres",
                "--no-sync",
                "--encoding=UTF8",
            ])
            .arg("--locale=C")
            .arg(&server.data)
            .output();
        succeeded("initdb", &init.expect(MISSING));
        // Another process may take a free port before the server does.
        for attempt in 1.. {
            server.port = free_port();
            if server.up() {
                break;
            }
            assert!(attempt < 5, "the server does not start:\n{}", server.log());
        }
        server
    }

    /// Whether it loads TimescaleDB.
    #[must_use]
    pub fn has_timescaledb(&self) -> bool {
        self.sql("postgres", "show shared_preload_libraries") == "timescaledb"
    }

    /// Adds settings for the next start, `name=value` each; the last one of a name counts.
    pub fn set(&mut self, settings: &[&str]) {
        self.settings
            .extend(settings.iter().map(|setting| (*setting).to_owned()));
    }

    /// A database that nobody else uses, as a URL.
    ///
    /// # Panics
    /// It can't be made.
    #[must_use]
    pub fn database(&self) -> String {
        let name = self.next_name();
        self.sql("postgres", &format!("create database {name}"));
        self.url(&name)
    }

    /// As [`database`](Self::database), with its tables in this folder, which is empty; what is
    /// written ahead stays with the cluster.
    ///
    /// # Panics
    /// As [`database`](Self::database).
    #[must_use]
    pub fn database_in(&self, folder: &Path) -> String {
        give_to_server(folder);
        let (name, folder) = (self.next_name(), folder.display());
        let space = format!("create tablespace {name} location '{folder}'");
        self.sql("postgres", &space);
        self.sql(
            "postgres",
            &format!("create database {name} tablespace {name}"),
        );
        self.url(&name)
    }

    /// Runs SQL in a database (the last part of its URL will do); gives what psql prints.
    ///
    /// # Panics
    /// It fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let database = database.rsplit('/').next().unwrap_or(database);
        let args = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"];
        let args = [&args[..], &["--set=ON_ERROR_STOP=1", "--command", sql]].concat();
        self.run("psql", &[&args[..], &[&self.url(database)]].concat())
    }

    /// Runs one of the programs that come with the server, such as `pg_dump`; gives what it prints.
    ///
    /// # Panics
    /// It fails.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(self.bin.join(program)).args(args).output();
        let output = output.expect(MISSING);
        succeeded(&args.join(" "), &output);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Stops it at once, as when its machine is switched off.
    ///
    /// # Panics
    /// It does not stop.
    pub fn stop(&self) {
        let stop = self.control().args(["stop", "-m", "immediate"]).output();
        succeeded("pg_ctl stop", &stop.expect("pg_ctl"));
    }

    /// Starts it again at the same address.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_again(&self) {
        assert!(self.up(), "the server does not start:\n{}", self.log());
    }

    /// Whether it runs, be it that it lets nobody in.
    ///
    /// # Panics
    /// That can't be found out.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let status = self.control().arg("status").output().expect("pg_ctl");
        // 3: it does not.
        if status.status.code() != Some(3) {
            succeeded("pg_ctl status", &status);
        }
        status.status.success()
    }

    fn next_name(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        format!("test_{number}")
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn up(&self) -> bool {
        let mut settings = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1",
            self.port,
            self.folder.display()
        );
        for setting in &self.settings {
            settings.push_str(&format!(" -c '{setting}'"));
        }
        let start = self
            .control()
            .args(["start", "-o", &settings, "-l"])
            .arg(self.folder.join("log"))
            // A pipe would stay open as long as the server runs.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        start.is_ok_and(|status| status.success())
    }

    fn control(&self) -> Command {
        let mut command = self.command("pg_ctl");
        command.args(["-w", "-t", "60", "-D"]).arg(&self.data);
        command
    }

    /// A program of the server, which refuses to be run by root.
    fn command(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args([
                    "--reuid=postgres",
                    "--regid=postgres",
                    "--init-groups",
                    "--",
                ])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let _ = self.control().args(["stop", "-m", "immediate"]).output();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Where `initdb` and the others are: Debian keeps them out of the path.
fn programs() -> PathBuf {
    let has = |folder: &Path| folder.join("initdb").is_file() && folder.join("psql").is_file();
    if let Some(chosen) = chosen() {
        assert!(has(&chosen), "{CHOSEN} names no folder with PostgreSQL");
        return chosen;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let mut debian: Vec<PathBuf> = versions
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|folder| has(folder))
        .collect();
    debian.sort_by_key(|folder| {
        let version = folder
            .parent()
            .and_then(Path::file_name)
            .and_then(OsStr::to_str);
        version.and_then(|version| version.parse::<u32>().ok())
    });
    std::env::split_paths(&path)
        .find(|folder| has(folder))
        .or_else(|| debian.pop())
        .expect(MISSING)
}

fn chosen() -> Option<PathBuf> {
    std::env::var_os(CHOSEN).map(PathBuf::from)
}

/// Whether the chosen programs have the extension beside them.
fn has_timescaledb(bin: &Path) -> bool {
    if chosen().is_none() {
        return false;
    }
    let share = Command::new(bin.join("pg_config"))
        .arg("--sharedir")
        .output()
        .expect("pg_config beside the server");
    succeeded("pg_config", &share);
    let share = String::from_utf8_lossy(&share.stdout).trim().to_owned();
    Path::new(&share)
        .join("extension/timescaledb.control")
        .is_file()
}

/// The server does not run as root.
fn give_to_server(folder: &Path) {
    if is_root() {
        let owner = Command::new("chown").arg("postgres").arg(folder).output();
        succeeded("chown", &owner.expect("chown"));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

fn succeeded(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
