//! Who gives orders: one connection, one order at a time.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;

use crate::fleet;

#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) socket: TcpStream,
    /// HTTP, or lines of the bare server.
    rest: bool,
    answer: Vec<u8>,
    /// The order under way: its agent, and when it was given.
    pub(crate) order: Option<(u32, Instant)>,
}

impl Operator {
    pub(crate) fn connect(to: SocketAddr, rest: bool) -> io::Result<Self> {
        let socket = std::net::TcpStream::connect(to)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: TcpStream::from_std(socket),
            rest,
            answer: Vec::new(),
            order: None,
        })
    }

    /// Orders 1 MW from an agent's asset.
    pub(crate) fn give(&mut self, agent: u32, now: Instant) -> io::Result<()> {
        let text = if self.rest {
            let body = format!(r#"{{"asset_id":"{}","mw":1.0}}"#, fleet::asset_id(agent));
            format!(
                "POST /dispatch?wait_s=5 HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            )
        } else {
            format!("{agent}\n")
        };
        self.order = Some((agent, now));
        // Far below what a socket takes at once.
        self.socket.write_all(text.as_bytes())
    }

    /// Reads; the order when its answer is there.
    ///
    /// # Errors
    /// The connection is over, or the answer is no success.
    pub(crate) fn read(&mut self) -> io::Result<Option<(u32, Instant)>> {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.answer.extend(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let whole = if self.rest {
            is_whole(&self.answer)
        } else {
            self.answer.contains(&b'\n')
        };
        if !whole {
            return Ok(None);
        }
        let answer = std::mem::take(&mut self.answer);
        if self.rest && !(answer.starts_with(b"HTTP/1.1 202") && contains(&answer, b"\"active\"")) {
            return Err(io::Error::other(
                String::from_utf8_lossy(&answer).into_owned(),
            ));
        }
        Ok(self.order.take())
    }
}

/// Whether head and body are there.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    length
        .and_then(|length| length.trim().parse().ok())
        .is_some_and(|length: usize| body.len() >= length)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
        assert!(is_whole(answer));
        assert!(!is_whole(&answer[..answer.len() - 1]));
        assert!(!is_whole(b"HTTP/1.1 202"));
    }
}
