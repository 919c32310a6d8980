//! One HTTP/2 connection with one gRPC stream, by hand: the load must cost less than what it
//! measures, and ten thousand clients of a library would not.
//!
//! It does what the server may rely on: answers SETTINGS and PING, keeps to the windows, gives
//! window back. It is no client for anything else.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;
use prost::Message;
use socket2::{Domain, Protocol, Socket, Type};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATH: &[u8] = b"/derms.v1.AgentLink/Stream";
/// What RFC 9113 gives both sides at first.
const WINDOW: i64 = 65_535;
/// Read so much, then give it back.
const GIVE_BACK: u32 = 16 << 10;
const STREAM: u32 = 1;

mod frame {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const ACK: u8 = 1;
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) socket: TcpStream,
    /// Bytes that the socket did not take yet.
    unsent: Vec<u8>,
    /// The beginning of a frame.
    partial: Vec<u8>,
    /// The beginning of a message.
    message: Vec<u8>,
    stream_window: i64,
    connection_window: i64,
    initial_window: i64,
    read_since: u32,
}

/// The connection is over.
#[derive(Debug)]
pub(crate) struct Ended;

impl Link {
    /// Begins to connect from an address of the loopback net; `small` leaves little room for what
    /// is not read.
    pub(crate) fn connect(from: SocketAddr, to: SocketAddr, small: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // Cut means cut, and no port is left waiting.
        socket.set_linger(Some(std::time::Duration::ZERO))?;
        if small {
            socket.set_recv_buffer_size(4 << 10)?;
        }
        socket.bind(&from.into())?;
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => return Err(error),
            _ => {}
        }
        Ok(Self {
            socket: TcpStream::from_std(socket.into()),
            unsent: opening(),
            partial: Vec::new(),
            message: Vec::new(),
            stream_window: WINDOW,
            connection_window: WINDOW,
            initial_window: WINDOW,
            read_since: 0,
        })
    }

    /// Queues a message and writes; `false` when the peer's window is full.
    pub(crate) fn send(
        &mut self,
        message: &impl Message,
        scratch: &mut Vec<u8>,
    ) -> io::Result<bool> {
        scratch.clear();
        let length = message.encoded_len();
        head(scratch, length + 5, frame::DATA, 0, STREAM);
        scratch.push(0);
        scratch.extend((length as u32).to_be_bytes());
        // A vector grows as needed.
        let _ = message.encode(scratch);
        let cost = (length + 5) as i64;
        if self.stream_window < cost || self.connection_window < cost {
            return Ok(false);
        }
        self.stream_window -= cost;
        self.connection_window -= cost;
        self.write(scratch)?;
        Ok(true)
    }

    /// The socket takes bytes again.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write(&[])
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = bytes;
        while self.unsent.is_empty() && !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_later(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.unsent.extend(bytes);
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if is_later(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads all there is and gives each message to `take`.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), Ended> {
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return Err(Ended),
                Ok(count) => {
                    self.frames(&buffer[..count], &mut take)?;
                    if count < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if is_later(&error) => return Ok(()),
                Err(_) => return Err(Ended),
            }
        }
    }

    fn frames(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8])) -> Result<(), Ended> {
        let whole;
        let mut rest = bytes;
        if !self.partial.is_empty() {
            self.partial.extend(bytes);
            whole = std::mem::take(&mut self.partial);
            rest = &whole;
        }
        while let Some((kind, flags, payload, after)) = cut(rest) {
            rest = after;
            match kind {
                frame::DATA => self.data(payload, take)?,
                frame::HEADERS if flags & frame::END_STREAM == 0 => {}
                frame::SETTINGS if flags & frame::ACK == 0 => self.settings(payload)?,
                frame::PING if flags & frame::ACK == 0 => {
                    self.say(frame::PING, frame::ACK, 0, payload)?;
                }
                frame::WINDOW_UPDATE => {
                    let more = i64::from(number(payload) & (u32::MAX >> 1));
                    // The payload is behind the head, which says whose window it is.
                    if flags & WHOLE_CONNECTION == 0 {
                        self.stream_window += more;
                    } else {
                        self.connection_window += more;
                    }
                }
                frame::HEADERS | frame::GOAWAY | frame::RST_STREAM => return Err(Ended),
                _ => {}
            }
        }
        self.partial.extend(rest);
        Ok(())
    }

    fn data(&mut self, payload: &[u8], take: &mut impl FnMut(&[u8])) -> Result<(), Ended> {
        self.read_since += payload.len() as u32;
        if self.read_since >= GIVE_BACK {
            let more = std::mem::take(&mut self.read_since).to_be_bytes();
            self.say(frame::WINDOW_UPDATE, 0, 0, &more)?;
            self.say(frame::WINDOW_UPDATE, 0, STREAM, &more)?;
        }
        let whole;
        let mut rest = payload;
        if !self.message.is_empty() {
            self.message.extend(payload);
            whole = std::mem::take(&mut self.message);
            rest = &whole;
        }
        while rest.len() >= 5 {
            let length = number(&rest[1..]) as usize + 5;
            let Some(message) = rest.get(5..length) else {
                break;
            };
            take(message);
            rest = &rest[length..];
        }
        self.message.extend(rest);
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), Ended> {
        for setting in payload.chunks_exact(6) {
            if u16::from_be_bytes([setting[0], setting[1]]) == frame::INITIAL_WINDOW_SIZE {
                let window = i64::from(number(&setting[2..]));
                self.stream_window += window - self.initial_window;
                self.initial_window = window;
            }
        }
        self.say(frame::SETTINGS, frame::ACK, 0, &[])
    }

    fn say(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), Ended> {
        let mut bytes = Vec::with_capacity(9 + payload.len());
        head(&mut bytes, payload.len(), kind, flags, stream);
        bytes.extend(payload);
        self.write(&bytes).map_err(|_| Ended)
    }
}

/// `EINPROGRESS` on Linux, where the benchmark runs.
const IN_PROGRESS: i32 = 115;
/// Not a flag of WINDOW_UPDATE, which has none: set by [`cut`] for stream 0.
const WHOLE_CONNECTION: u8 = 0x80;

fn is_later(error: &io::Error) -> bool {
    // Not connected: what was queued goes out when it is.
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::WouldBlock | K::Interrupted | K::NotConnected
    )
}

fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    out.extend(&(length as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
}

/// The first frame: kind, flags, payload, and what follows it.
fn cut(bytes: &[u8]) -> Option<(u8, u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(9)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (payload, rest) = rest.split_at_checked(length)?;
    let mut flags = head[4];
    if head[3] == frame::WINDOW_UPDATE && number(&head[5..]) == 0 {
        flags |= WHOLE_CONNECTION;
    }
    Some((head[3], flags, payload, rest))
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Preface, our settings, and the request. RFC 7541: static names, literal values.
fn opening() -> Vec<u8> {
    let mut headers = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &[u8]| {
        headers.extend(name);
        headers.push(value.len() as u8);
        headers.extend(value);
    };
    literal(&[0x04], PATH);
    literal(&[0x01], b"bench");
    literal(&[0x0f, 0x10], b"application/grpc");
    literal(b"\x00\x02te", b"trailers");
    let mut bytes = PREFACE.to_vec();
    head(&mut bytes, 0, frame::SETTINGS, 0, 0);
    head(
        &mut bytes,
        headers.len(),
        frame::HEADERS,
        frame::END_HEADERS,
        STREAM,
    );
    bytes.extend(headers);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_cut_only_when_it_is_whole() {
        let mut bytes = Vec::new();
        head(&mut bytes, 4, frame::WINDOW_UPDATE, 0, 0);
        bytes.extend(7_u32.to_be_bytes());
        for end in 0..bytes.len() {
            assert!(cut(&bytes[..end]).is_none());
        }
        bytes.push(9);
        let (kind, flags, payload, rest) = cut(&bytes).unwrap();
        assert_eq!((kind, flags), (frame::WINDOW_UPDATE, WHOLE_CONNECTION));
        assert_eq!((number(payload), rest), (7, &[9][..]));
    }
}
