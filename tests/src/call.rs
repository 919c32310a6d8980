//! A call of REST with headers that the client does not send.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Calls `host:port` over HTTP/1.1 with a JSON body and one more header (`name: value`, or nothing).
/// Gives head and body of the answer.
///
/// # Panics
/// There is no whole answer.
pub async fn call(
    address: &str,
    method: &str,
    path: &str,
    header: &str,
    body: &str,
) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let header = if header.is_empty() {
        String::new()
    } else {
        format!("{header}\r\n")
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("it reads");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer).await;
    read.expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer of HTTP");
    (head.to_owned(), body.to_owned())
}
