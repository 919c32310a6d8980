//! TimescaleDB for the tests of stores: the Apache edition, in a folder of its own with a copy of
//! Debian's PostgreSQL. Nothing of it is installed on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::postgres;
use crate::shell::{self, Result};
use crate::system;
use crate::workspace::Workspace;

/// Debian's source, which is without what is not free: the edition under the Apache licence.
const VERSION: &str = "2.19.3";
const SOURCE: &str =
    "http://deb.debian.org/debian/pool/main/t/timescaledb/timescaledb_2.19.3+dfsg.orig.tar.xz";
const SHA256: &str = "09fd11191768c220b071f61a108df9bd1df5522fbe4e7c2229f30f69b195454a";

/// The versions of PostgreSQL that this source takes.
const TAKES: std::ops::RangeInclusive<u32> = 14..=17;

/// Part of apt: downloads as apt does, through its proxy, and keeps only what has the right hash.
const DOWNLOAD: &str = "/usr/lib/apt/apt-helper";

/// Runs the tests that measurements in the database concern against a server that has it.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    postgres::ensure()?;
    let version = postgres::newest().ok_or(
        "this step copies Debian's PostgreSQL, and there is none: `apt-get install postgresql`",
    )?;
    let server = server(workspace, version)?;
    let reached = Reached::by_its_user(&server)?;
    let bin = reached.0.join(programs(version));
    let test = |binary: &str| {
        let mut test = shell::cargo();
        test.args([
            "test",
            "--workspace",
            "--all-features",
            "--test",
            binary,
            "--",
        ])
        .env("DERMS_TEST_POSTGRES", &bin);
        test
    };
    // Those of hypertables are ignored where there are none. What is skipped measures, and passes always.
    shell::run(test("stores").args(["--include-ignored", "--skip=speed::", "--skip=scale::"]))?;
    shell::run(test("programs").arg("db::"))
}

/// A folder with the server and the extension in it, made when it is not there.
fn server(workspace: &Workspace, version: u32) -> Result<PathBuf> {
    let name = format!("timescaledb/{VERSION}-postgresql-{version}");
    let folder = workspace.target().join(&name);
    let stamp = folder.join("complete");
    if stamp.is_file() {
        return Ok(folder);
    }
    let folder = workspace.empty_folder(&name)?;
    for package in [
        format!("postgresql-{version}"),
        format!("postgresql-client-{version}"),
    ] {
        system::unpack(&package, &folder)?;
    }
    let packed = format!("postgresql-{version}-timescaledb");
    if shell::probe(Command::new("apt-cache").args(["show", &packed])).is_some() {
        system::unpack(&packed, &folder)?;
    } else {
        build(workspace, version, &folder)?;
    }
    let control = format!("usr/share/postgresql/{version}/extension/timescaledb.control");
    if !folder.join(control).is_file() {
        return Err(format!("{} has no timescaledb in it", folder.display()).into());
    }
    std::fs::write(stamp, VERSION)?;
    Ok(folder)
}

/// Where the programs of a server are in its folder.
fn programs(version: u32) -> PathBuf {
    format!("usr/lib/postgresql/{version}/bin").into()
}

fn build(workspace: &Workspace, version: u32, folder: &Path) -> Result<()> {
    if !TAKES.contains(&version) {
        return Err(format!(
            "TimescaleDB {VERSION} does not take PostgreSQL {version}, and Debian has no package \
             postgresql-{version}-timescaledb here: take a newer source in xtask/src/timescaledb.rs, \
             or a PostgreSQL of {} to {}",
            TAKES.start(),
            TAKES.end()
        )
        .into());
    }
    for package in [
        format!("postgresql-server-dev-{version}"),
        "libpq-dev".to_owned(),
    ] {
        // Unpacked: installed, it brings a second compiler.
        system::unpack(&package, folder)?;
    }
    let works = |tool: &str| shell::probe(Command::new(tool).arg("--version")).is_some();
    if !works("cmake") || !works("make") {
        system::install(&["cmake", "make"])?;
    }
    let work = workspace.empty_folder("timescaledb/build")?;
    let archive = work.join("source.tar.xz");
    shell::run(
        Command::new(DOWNLOAD)
            .args(["download-file", SOURCE])
            .arg(&archive)
            .arg(format!("SHA256:{SHA256}")),
    )?;
    let cmake = || {
        let mut cmake = Command::new("cmake");
        cmake.current_dir(&work);
        cmake
    };
    shell::run(cmake().args(["-E", "tar", "xf", "source.tar.xz"]))?;
    let pg_config = folder.join(programs(version)).join("pg_config");
    shell::run(
        cmake()
            .args(["-S", &format!("timescaledb-{VERSION}"), "-B", "made"])
            .arg(format!("-DPG_CONFIG={}", pg_config.display()))
            .args([
                "-DCMAKE_BUILD_TYPE=Release",
                "-DAPACHE_ONLY=1",
                "-DREGRESS_CHECKS=OFF",
                "-DTAP_CHECKS=OFF",
                "-DWARNINGS_AS_ERRORS=OFF",
                "-DGENERATE_DOWNGRADE_SCRIPT=OFF",
                // Both are for telling its makers of its use.
                "-DUSE_OPENSSL=OFF",
                "-DUSE_TELEMETRY=OFF",
            ]),
    )?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    shell::run(cmake().args(["--build", "made", "--parallel", &jobs.to_string()]))?;
    shell::run(cmake().args(["--install", "made"]))?;
    std::fs::remove_dir_all(work)?;
    Ok(())
}

/// A server where its user can read it; a copy, which is removed when dropped, if its own folder is
/// closed to that user.
struct Reached(PathBuf, bool);

impl Reached {
    fn by_its_user(server: &Path) -> Result<Self> {
        let closed = system::is_root()
            && shell::probe(
                Command::new("setpriv")
                    .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
                    .args(["--", "test", "-r"])
                    .arg(server.join("complete")),
            )
            .is_none();
        if !closed {
            return Ok(Self(server.to_owned(), false));
        }
        let name = format!("derms-timescaledb-{}", std::process::id());
        let copy = Self(std::env::temp_dir().join(name), true);
        shell::run(Command::new("cp").arg("-r").arg(server).arg(&copy.0))?;
        Ok(copy)
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        if self.1 {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
