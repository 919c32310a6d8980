//! A headend that is encrypted and asks who calls, as its operator meets it.

use derms_tests::{FREE, Folder, HeadendProcess, Output, Pki, Program};

use crate::access::token;

/// A headend with a certificate of a CA of its own, and tokens.
struct Secure {
    pki: Pki,
    token: String,
    headend: HeadendProcess,
    _folder: Folder,
}

impl Secure {
    async fn start() -> Self {
        let (pki, folder) = (Pki::new(), Folder::new());
        let token = token(&folder, "viewer").await;
        let file = |name: &str| pki.file(name).display().to_string();
        let tokens = folder.file("tokens.yaml").display().to_string();
        let program = Program::new("der_headend")
            .args(["--http-addr", FREE, "--grpc-addr", FREE])
            .args(["--database-url", "memory", "--tokens", &tokens])
            .args(["--tls-cert", &file("headend.pem")])
            .args(["--tls-key", &file("headend-key.pem")]);
        let headend = HeadendProcess::of(program).await;
        Self {
            pki,
            token,
            headend,
            _folder: folder,
        }
    }

    fn ca(&self) -> String {
        self.pki.file("ca.pem").display().to_string()
    }

    async fn derms(&self, scheme: &str, args: &[&str]) -> Output {
        let url = format!("{scheme}://{}", self.headend.http);
        let program = Program::new("derms").env("DERMS_URL", &url);
        program.args(args.iter().copied()).run().await
    }
}

#[tokio::test]
async fn with_the_headends_ca_and_a_token_it_works_and_without_them_the_flags_are_named() {
    let secure = Secure::start().await;
    let (ca, token) = (&*secure.ca(), &*secure.token);
    let other = Pki::named("other");
    let other = &*other.file("ca.pem").display().to_string();
    for (scheme, args, code, words) in [
        ("https", &["--ca", ca, "--token-file", token][..], 0, ""),
        (
            "https",
            &["--ca", other, "--token-file", token],
            3,
            "--ca (DERMS_CA)",
        ),
        // Browsers do not trust it.
        ("https", &["--token-file", token], 3, "--ca (DERMS_CA)"),
        ("https", &["--ca", "nowhere.pem"], 64, "nowhere.pem"),
        ("https", &["--ca", ca], 2, "--token-file (DERMS_TOKEN_FILE)"),
        (
            "http",
            &["--token-file", token],
            3,
            "--headend-url https://",
        ),
        ("http", &["--ca", ca, "--token-file", token], 64, "https://"),
    ] {
        let output = secure.derms(scheme, &[args, &["assets"]].concat()).await;
        assert_eq!(output.code, Some(code), "{args:?}: {}", output.stderr);
        assert!(output.stderr.contains(words), "{args:?}: {}", output.stderr);
        let lines = output.stderr.lines().count();
        assert_eq!(lines, usize::from(code != 0), "{}", output.stderr);
        assert_eq!(output.stdout.contains("BESS-1"), code == 0);
    }
}

#[tokio::test]
async fn a_watch_over_tls_begins_with_the_lists() {
    let secure = Secure::start().await;
    let ca = secure.ca();
    let url = format!("https://{}", secure.headend.http);
    let mut watch = Program::new("derms")
        .env("DERMS_URL", &url)
        .env("DERMS_CA", &ca)
        .env("DERMS_TOKEN_FILE", &secure.token)
        .args(["watch", "--json"])
        .start();
    let first = watch
        .line("the first item", |line| Some(line.to_owned()))
        .await;
    assert_eq!(first, r#"{"kind":"reset","reason":"began"}"#);
    assert_eq!(watch.terminated().await, Some(0));
}
