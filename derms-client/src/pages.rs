//! Long lists: one page, or a stream over all.

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec;

use derms_proto::{Cursor, Page};
use futures_core::{FusedStream, Stream};
use http::StatusCode;
use serde::de::DeserializeOwned;

use crate::client::Call;
use crate::query::Query;
use crate::{Client, CsvPages, Error};

/// A list that comes in pages, newest first.
///
/// Awaited, it gives one [`Page`]; [`items`](Self::items) gives all of its items, and
/// [`csv`](Self::csv) the same as text for spreadsheets.
#[must_use = "nothing is fetched until it is awaited or its items are read"]
pub struct PageRequest<T> {
    client: Client,
    path: String,
    query: Query,
    cursor: Option<Cursor>,
    item: PhantomData<fn() -> T>,
}

impl<T> PageRequest<T> {
    pub(crate) fn new(
        client: &Client,
        path: impl Into<String>,
        query: Query,
        cursor: Option<Cursor>,
    ) -> Self {
        Self {
            client: client.clone(),
            path: path.into(),
            query,
            cursor,
            item: PhantomData,
        }
    }
}

impl<T: DeserializeOwned + Send + 'static> PageRequest<T> {
    /// All items from here to the end, page after page.
    pub fn items(self) -> Items<T> {
        Items {
            page: Vec::new().into_iter(),
            next: Next::Request,
            request: self,
        }
    }

    /// All items from here to the end as CSV, page after page.
    pub fn csv(self) -> CsvPages {
        CsvPages::new(self.client, self.path, self.query, self.cursor)
    }

    fn fetch(&self) -> PageFuture<T> {
        let client = self.client.clone();
        let query = self.query.clone();
        let query = query.with("cursor", self.cursor.as_ref().map(Cursor::as_str));
        let call = Call::get(&self.path, &query);
        PageFuture(Box::pin(async move { client.call(&call).await }))
    }
}

impl<T: DeserializeOwned + Send + 'static> IntoFuture for PageRequest<T> {
    type Output = Result<Page<T>, Error>;
    type IntoFuture = PageFuture<T>;

    fn into_future(self) -> PageFuture<T> {
        self.fetch()
    }
}

impl<T> fmt::Debug for PageRequest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageRequest")
            .field("target", &self.query.after(&self.path))
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

/// The future of one page.
#[must_use = "nothing is fetched until it is awaited"]
pub struct PageFuture<T>(Pin<Box<dyn Future<Output = Result<Page<T>, Error>> + Send>>);

impl<T> Future for PageFuture<T> {
    type Output = Result<Page<T>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for PageFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageFuture").finish_non_exhaustive()
    }
}

/// A stream of the items of a list, made by [`PageRequest::items`].
///
/// A page is fetched when the one before it is used up, never ahead. The stream ends after the
/// last page, and after an error; to go on after one, ask again with the cursor or the time of
/// the last item.
///
/// ```no_run
/// # async fn f(client: derms_client::Client) -> Result<(), derms_client::Error> {
/// use derms_client::HistoryQuery;
///
/// let mut sessions = client.agents_history(HistoryQuery::new()).items();
/// while let Some(session) = sessions.next().await {
///     println!("{:?}", session?.cause);
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Items<T> {
    page: vec::IntoIter<T>,
    next: Next<T>,
    request: PageRequest<T>,
}

enum Next<T> {
    /// Ask for the page at the request's cursor once this one is used up.
    Request,
    /// Wait for it; leads to `Request`, or to `End` with the last page or an error.
    Fetch(PageFuture<T>),
    /// Nothing comes after this page.
    End,
}

impl<T: DeserializeOwned + Send + 'static> Items<T> {
    /// The next item; `None` after the last one or after an error. May be dropped and called
    /// again without losing an item.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn turn(&mut self, page: Page<T>) -> Result<(), Error> {
        let unmoved = page.next_cursor.is_some() && page.next_cursor == self.request.cursor;
        if unmoved {
            // Following it would never end.
            return Err(Error::InvalidResponse {
                status: StatusCode::OK,
                reason: "a next_cursor that leads back to the same page".to_owned(),
                retry_after: None,
                repeatable: true,
                source: None,
            });
        }
        self.next = match page.next_cursor {
            Some(_) => Next::Request,
            None => Next::End,
        };
        self.request.cursor = page.next_cursor;
        self.page = page.items.into_iter();
        Ok(())
    }
}

// Nothing inside is pinned in place: the future is boxed.
impl<T> Unpin for Items<T> {}

impl<T: DeserializeOwned + Send + 'static> Stream for Items<T> {
    type Item = Result<T, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(item) = this.page.next() {
                return Poll::Ready(Some(Ok(item)));
            }
            match &mut this.next {
                Next::Request => this.next = Next::Fetch(this.request.fetch()),
                Next::Fetch(future) => {
                    let page = ready!(Pin::new(future).poll(cx));
                    if let Err(error) = page.and_then(|page| this.turn(page)) {
                        this.next = Next::End;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Next::End => return Poll::Ready(None),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.page.len();
        let end = matches!(self.next, Next::End);
        (left, end.then_some(left))
    }
}

impl<T: DeserializeOwned + Send + 'static> FusedStream for Items<T> {
    fn is_terminated(&self) -> bool {
        self.page.len() == 0 && matches!(self.next, Next::End)
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}
