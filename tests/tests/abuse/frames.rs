//! HTTP/2 by hand: no library would send what is sent here.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head, payload.to_vec()].concat()
}

/// A literal field, not indexed; `name` is encoded already. RFC 7541.
fn literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend(name);
    out.push(value.len() as u8);
    out.extend(value);
}

/// The fields of the call that every agent makes.
pub(crate) fn agents_call() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    literal(&mut block, &[0x04], b"/derms.v1.AgentLink/Stream");
    literal(&mut block, &[0x01], b"abuse");
    literal(&mut block, &[0x0f, 0x10], b"application/grpc");
    literal(&mut block, b"\x00\x02te", b"trailers");
    block
}

/// The fields of a GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    literal(&mut block, &[0x04], path.as_bytes());
    literal(&mut block, &[0x01], b"abuse");
    block
}

/// Opens a connection whose kernel keeps little of what is not read.
pub(crate) async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4 << 10)?;
    let mut stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    let mut hello = PREFACE.to_vec();
    hello.extend(frame(SETTINGS, 0, 0, &[]));
    stream.write_all(&hello).await?;
    Ok(stream)
}

/// Reads until the other side is done; tells whether it said goodbye, as a server does that has
/// noticed.
pub(crate) async fn goodbye(stream: &mut TcpStream) -> bool {
    let mut read = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut read))
        .await
        .expect("the connection is ended");
    kinds(&read).contains(&GOAWAY)
}

/// The kinds of whole frames.
fn kinds(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut kinds = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        kinds.push(head[3]);
        rest = after.get(length..).unwrap_or_default();
    }
    kinds
}
