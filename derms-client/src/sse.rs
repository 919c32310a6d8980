//! Server-sent events, read from pieces of any size
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! By hand, for no reader in a crate has a bound on what it keeps of an endless line.

use std::collections::VecDeque;

/// What stands between two blank lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// The id that was set, if one was; an empty one takes the last back.
    pub(crate) id: Option<String>,
    /// `None`: it only says where the reader is.
    pub(crate) data: Option<String>,
}

/// An event is longer than may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {0} bytes")]
pub(crate) struct TooLong(usize);

/// Reads one connection.
#[derive(Debug)]
pub(crate) struct Parser {
    most: usize,
    line: Vec<u8>,
    /// A line has ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The first line may begin with a byte order mark.
    first: bool,
    data: Option<String>,
    id: Option<String>,
}

impl Parser {
    /// Events are no longer than `most` bytes.
    pub(crate) const fn new(most: usize) -> Self {
        Self {
            most,
            line: Vec::new(),
            after_cr: false,
            first: true,
            data: None,
            id: None,
        }
    }

    /// Reads a piece; what is whole by now goes into `events`.
    pub(crate) fn push(
        &mut self,
        mut piece: &[u8],
        events: &mut VecDeque<Event>,
    ) -> Result<(), TooLong> {
        while !piece.is_empty() {
            if std::mem::take(&mut self.after_cr) && piece.first() == Some(&b'\n') {
                piece = piece.get(1..).unwrap_or_default();
                continue;
            }
            let end = piece.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let (line, rest) = piece.split_at(end.unwrap_or(piece.len()));
            let kept = self.line.len() + self.data.as_ref().map_or(0, String::len);
            if kept + line.len() > self.most {
                return Err(TooLong(self.most));
            }
            self.line.extend_from_slice(line);
            piece = match rest.split_first() {
                Some((last, rest)) => {
                    self.after_cr = *last == b'\r';
                    let line = std::mem::take(&mut self.line);
                    self.line(&line, events);
                    rest
                }
                None => rest,
            };
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], events: &mut VecDeque<Event>) {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(line) if self.first => line,
            _ => line,
        };
        self.first = false;
        let line = String::from_utf8_lossy(line);
        if line.is_empty() {
            let (id, data) = (self.id.take(), self.data.take());
            if id.is_some() || data.is_some() {
                events.push_back(Event { id, data });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => data.extend(["\n", value]),
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments (an empty name) too.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<Event> {
        let (mut parser, mut events) = (Parser::new(100), VecDeque::new());
        for piece in pieces {
            parser.push(piece, &mut events).unwrap();
        }
        events.into()
    }

    fn event(id: Option<&str>, data: Option<&str>) -> Event {
        Event {
            id: id.map(str::to_owned),
            data: data.map(str::to_owned),
        }
    }

    #[test]
    fn lines_may_end_in_three_ways_and_pieces_anywhere() {
        let text = "\u{feff}: hello\nid: a-1\nevent: x\ndata: one\ndata:  two\n\nid: a-2\n\ndata\n\n\
                    data: \u{e4}\n\nretry: 5\n\ndata: not whole\n";
        let expected = [
            event(Some("a-1"), Some("one\n two")),
            event(Some("a-2"), None),
            event(None, Some("")),
            event(None, Some("\u{e4}")),
        ];
        for end in ["\n", "\r", "\r\n"] {
            let text = text.replace('\n', end);
            let bytes = text.as_bytes();
            assert_eq!(read(&[bytes]), expected, "{end:?}");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(read(&single), expected, "{end:?}, byte by byte");
            for cut in 0..=bytes.len() {
                let (before, after) = bytes.split_at(cut);
                assert_eq!(read(&[before, after]), expected, "{end:?}, cut at {cut}");
            }
        }
    }

    #[test]
    fn an_id_that_no_header_could_hold_is_passed_over() {
        assert_eq!(read(&[b"id: a\0b\ndata: x\n\n"]), [event(None, Some("x"))]);
    }

    #[test]
    fn an_event_that_is_too_long_is_refused_before_it_is_kept() {
        let mut events = VecDeque::new();
        let mut one_line = Parser::new(100);
        one_line.push(&[b'x'; 100], &mut events).unwrap();
        assert_eq!(one_line.push(b"x", &mut events), Err(TooLong(100)));
        let mut many_lines = Parser::new(100);
        let result = (0..30).try_for_each(|_| many_lines.push(b"data: 12345\n", &mut events));
        assert_eq!(result, Err(TooLong(100)));
        assert!(events.is_empty());
    }
}
