//! What happens now, as a stream that reconnects.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use derms_proto::LiveItem;
use futures_core::{FusedStream, Stream};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Call, Wanted};
use crate::sse::{Event, Parser};
use crate::transport::AnswerBody;
use crate::{Client, Error, LiveQuery, retry};

/// The headend says every 15 s that it is there.
const SILENCE: Duration = Duration::from_secs(45);
/// A connection that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(5);

impl Client {
    /// What happens from now on (`GET /stream`): measurements, orders, sessions, events. Nothing is
    /// sent before the first item is asked for. See [`Live`].
    pub fn live(&self, mut query: LiveQuery) -> Live {
        let last_event_id = query.take_after();
        let trouble = Trouble::default();
        let call = Call {
            wanted: Wanted::Events,
            ..Call::get("/stream", &query.query())
        };
        let link = Link {
            client: self.clone(),
            call,
            connection: None,
            last_event_id: last_event_id.clone(),
            repeat: 0,
            wait: Duration::ZERO,
            trouble: Arc::clone(&trouble),
        };
        Live {
            next: Next::Ask(Box::new(link)),
            last_event_id,
            trouble,
        }
    }
}

type Trouble = Arc<Mutex<Option<Arc<Error>>>>;

/// A stream of what happens, made by [`Client::live`].
///
/// It begins with [`LiveItem::Reset`]: read the lists then, and keep them current by what follows.
/// Nothing is missing and nothing comes twice between two resets; what happens while the lists are
/// read may be in both. A connection that breaks, or says nothing for 45 s, is opened again after a
/// random delay of up to 0.5 s, then 1 s, 2 s … 30 s, and what `Retry-After` asks for; the stream
/// goes on where it was, or says with another `Reset` that it can't, for the headend was restarted
/// or does not remember as much.
///
/// The stream ends only after an error that another try would not mend: a call that is refused
/// (401, 403, 404, 400), and an answer that no headend gives. Whatever else fails is tried again
/// for ever; [`trouble`](Self::trouble) tells what it was.
///
/// A reader that is slower than what happens is cut by the headend, and gets a `Reset`.
///
/// ```no_run
/// # async fn f(client: derms_client::Client) -> Result<(), derms_client::Error> {
/// use derms_client::{LiveQuery, proto::{LiveItem, LiveKind}};
///
/// let mut live = client.live(LiveQuery::new().kind(LiveKind::Dispatch));
/// while let Some(item) = live.next().await {
///     match item? {
///         LiveItem::Reset { reason } => println!("read the lists ({reason:?})"),
///         LiveItem::Dispatch(dispatch) => println!("{} is {:?}", dispatch.id, dispatch.status),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Live {
    next: Next,
    last_event_id: Option<String>,
    trouble: Trouble,
}

type Step = dyn Future<Output = (Box<Link>, Result<LiveItem, Error>)> + Send;

enum Next {
    /// Nothing is under way.
    Ask(Box<Link>),
    /// The next item is on its way; leads to `Ask`, or to `End` with an error.
    Wait(Pin<Box<Step>>),
    /// An error was the last item.
    End,
}

/// The one who connects and reads.
struct Link {
    client: Client,
    call: Call,
    connection: Option<Connection>,
    /// The place that the next connection goes on from.
    last_event_id: Option<String>,
    /// How often it was connected in vain.
    repeat: u32,
    /// Before it is connected again.
    wait: Duration,
    trouble: Trouble,
}

struct Connection {
    body: AnswerBody,
    parser: Parser,
    events: VecDeque<Event>,
    since: Instant,
}

impl Live {
    /// The next item; `None` after an error. May be dropped and called again without losing an item.
    pub async fn next(&mut self) -> Option<Result<LiveItem, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The id of the item that was given last, to go on behind it in another life of this program
    /// ([`LiveQuery::after`]); `None` before the first.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_event_id.as_deref()
    }

    /// Why the stream is not connected, if it is not: it tries again by itself. To be looked at
    /// when no item comes.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<Error>> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Link {
    async fn step(mut self: Box<Self>) -> (Box<Self>, Result<LiveItem, Error>) {
        let item = self.item().await;
        (self, item)
    }

    /// The next item for the caller, over as many connections as it takes.
    async fn item(&mut self) -> Result<LiveItem, Error> {
        loop {
            let read = match self.connection.as_mut() {
                Some(connection) => connection.event(&self.client, &self.call).await,
                None => {
                    self.connect().await?;
                    continue;
                }
            };
            let Event { id, data } = match read {
                Ok(Some(event)) => event,
                Ok(None) => {
                    self.disconnected(None);
                    continue;
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => {
                    self.disconnected(Some(error));
                    continue;
                }
            };
            // Only what is known whole is behind us.
            let item = data.map(|data| serde_json::from_str(&data)).transpose();
            let item = item.map_err(|error| not_an_item(error.into()))?;
            if let Some(id) = id {
                self.last_event_id = Some(id).filter(|id| !id.is_empty());
            }
            match item {
                // The connection ends after it, which is what we act on.
                None | Some(LiveItem::End { .. } | LiveItem::Unknown) => {}
                Some(item) => return Ok(item),
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        sleep(self.wait).await;
        let id = self.last_event_id.as_deref();
        // An id that no header can hold is none of a headend's.
        self.call.last_event_id = id.and_then(|id| HeaderValue::from_str(id).ok());
        match self.client.open(&self.call).await {
            Ok(body) => {
                self.connection = Some(Connection {
                    body,
                    parser: Parser::new(self.client.max_response_bytes()),
                    events: VecDeque::new(),
                    since: Instant::now(),
                });
                self.is_in_trouble(None);
                Ok(())
            }
            Err(error) if is_final(&error) => Err(error),
            Err(error) => {
                self.disconnected(Some(error));
                Ok(())
            }
        }
    }

    fn disconnected(&mut self, error: Option<Error>) {
        let lasted = self.connection.take().map(|it| it.since.elapsed());
        if lasted.is_some_and(|lasted| lasted >= GOOD) {
            self.repeat = 0;
        }
        let asked = error.as_ref().and_then(Error::retry_after);
        self.wait = retry::reconnect(self.repeat, asked);
        self.repeat = self.repeat.saturating_add(1);
        self.is_in_trouble(error);
    }

    fn is_in_trouble(&self, error: Option<Error>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = error.map(Arc::new);
    }
}

impl Connection {
    /// The next event; `None` at the end of the connection.
    async fn event(&mut self, client: &Client, call: &Call) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let Ok(frame) = timeout(SILENCE, self.body.frame()).await else {
                return Err(Error::Timeout {
                    limit: SILENCE,
                    repeatable: true,
                });
            };
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(source)) => return Err(client.broke_off(call, source)),
                None => return Ok(None),
            };
            if let Ok(piece) = frame.into_data() {
                let read = self.parser.push(&piece, &mut self.events);
                read.map_err(|error| not_an_item(error.into()))?;
            }
        }
    }
}

fn not_an_item(source: crate::BoxError) -> Error {
    Error::InvalidResponse {
        status: StatusCode::OK,
        reason: "an event that is no item of a live stream".to_owned(),
        retry_after: None,
        repeatable: false,
        source: Some(source),
    }
}

/// Whether another try would fare no better: the call was refused, or this is no headend.
fn is_final(error: &Error) -> bool {
    match error {
        Error::InvalidRequest { .. } => true,
        Error::Api { status, .. } | Error::InvalidResponse { status, .. } => {
            !status.is_server_error() && !matches!(status.as_u16(), 408 | 429)
        }
        _ => false,
    }
}

// Nothing inside is pinned in place: the future is boxed.
impl Unpin for Live {}

impl Stream for Live {
    type Item = Result<LiveItem, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match std::mem::replace(&mut this.next, Next::End) {
                Next::Ask(link) => this.next = Next::Wait(Box::pin(link.step())),
                Next::Wait(mut step) => {
                    let Poll::Ready((link, item)) = step.as_mut().poll(cx) else {
                        this.next = Next::Wait(step);
                        return Poll::Pending;
                    };
                    if item.is_ok() {
                        this.last_event_id.clone_from(&link.last_event_id);
                        this.next = Next::Ask(link);
                    }
                    return Poll::Ready(Some(item));
                }
                Next::End => return Poll::Ready(None),
            }
        }
    }
}

impl FusedStream for Live {
    fn is_terminated(&self) -> bool {
        matches!(self.next, Next::End)
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("last_event_id", &self.last_event_id)
            .field("ended", &matches!(self.next, Next::End))
            .finish_non_exhaustive()
    }
}
