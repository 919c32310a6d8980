//! What the model consists of, and its bounds.

use derms_proto::DispatchStatus;

pub(crate) type Tick = u8;

/// An order may be started for this many ticks after it was committed.
pub(crate) const TTL: Tick = 1;
/// Each order has a lease of this many ticks.
pub(crate) const LEASE: Tick = 1;
/// Sessions, one after the other.
pub(crate) const SESSIONS: u8 = 2;
/// How often the agent is killed and started again. The headend may be at any time.
pub(crate) const RESTARTS: u8 = 1;

/// What a headend says to an agent: the first order, the second one, or the cancel of one of them.
pub(crate) type What = usize;
pub(crate) const ORDERS: [What; 2] = [0, 1];
pub(crate) const RELEASE: What = 2;

/// Which protocol is searched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model {
    /// The agent has a state directory.
    pub(crate) durable: bool,
    /// Time ends here. Orders are given before.
    pub(crate) last_tick: Tick,
    pub(crate) weakness: Option<Weakness>,
}

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// The agent says and starts what is not on the disk yet.
    AcceptBeforeDurable,
    /// The agent takes an order whatever its revision is.
    NoRevisionCheck,
    /// The start deadline is checked when an order comes, and not again when it starts.
    DeadlineOnReceiptOnly,
    /// The headend ends a sent order when its time to live is over.
    ExpireSent,
    /// A cancel has no place in the one order of commands.
    ReleaseWithoutRevision,
    /// The agent obeys a message of an earlier session.
    EpochNotChecked,
    /// The headend sends an unanswered order again although the agent has lost its report log.
    ResendAfterLogLost,
    /// An order that was accepted starts although a newer one was accepted after it.
    StartAfterSupersede,
    /// The headend says yes to an operator before its store has the order.
    AcknowledgeBeforeCommit,
    /// A report moves an order on whatever the life cycle says.
    ReportsKnowNoLifeCycle,
    /// A cancel that comes after a newer order was accepted is refused although what it cancels is
    /// in force.
    LateReleaseRefused,
    /// The order that a cancel found waiting is not written down beside the cancel.
    WaitingOrderForgotten,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) now: Tick,
    pub(crate) store: Store,
    /// Lives on both sides.
    pub(crate) session: Option<Session>,
    /// What was sent to the agent and has not arrived.
    pub(crate) flight: Flight,
    /// A message of an earlier session that may still arrive, and its epoch.
    pub(crate) late: Option<(What, u8)>,
    pub(crate) agent: Agent,
    /// What the agent's ledger holds.
    pub(crate) disk: Record,
    /// Reports of a log that is lost, on their way in the session that is over.
    pub(crate) stray: Reports,
    pub(crate) agent_restarts: u8,
    pub(crate) history: History,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    pub(crate) epoch: u8,
    /// The life of the agent's report log.
    pub(crate) log: u8,
}

/// What the headend's store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) orders: [Option<Order>; 2],
    pub(crate) release: Option<Release>,
    pub(crate) revision: u8,
    pub(crate) epoch: u8,
    /// The newest epoch that is over.
    pub(crate) ended: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Order {
    pub(crate) status: DispatchStatus,
    pub(crate) revision: u8,
    pub(crate) expires: Tick,
    pub(crate) carrier: Option<Session>,
    pub(crate) in_doubt: bool,
    /// It was said to have ended before it started.
    pub(crate) never_started: bool,
    /// Its end was told by the agent.
    pub(crate) told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Release {
    pub(crate) target: What,
    pub(crate) revision: u8,
    /// The epoch in which it was sent last; 0 if it was not.
    pub(crate) sent: u8,
}

/// The messages of the session that is live: each of the three, at most once. They may overtake
/// each other, which a stream does not allow; the rules hold even so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Flight(u8);

impl Flight {
    pub(crate) fn iter(self) -> impl Iterator<Item = What> {
        (0..=RELEASE).filter(move |what| self.0 & (1 << what) != 0)
    }

    pub(crate) fn put(&mut self, what: What) {
        self.0 |= 1 << what;
    }

    pub(crate) fn take(&mut self, what: What) {
        self.0 &= !(1 << what);
    }
}

/// The agent's `AssetMachine`, with the part of its session that matters here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Agent {
    /// What is written down with the next write.
    pub(crate) record: Record,
    /// The order that waits is on the disk.
    pub(crate) written: bool,
    /// With [`Weakness::StartAfterSupersede`]: what a newer order has taken the place of.
    pub(crate) overtaken: Option<What>,
    pub(crate) ready: bool,
    pub(crate) resuming: bool,
    pub(crate) settled: bool,
    /// The device has not answered.
    pub(crate) busy: Option<Busy>,
    /// Which life of the report log this is.
    pub(crate) log: u8,
    pub(crate) reports: Reports,
    /// The first of them, which are on the disk and may be sent.
    pub(crate) saved: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Busy {
    Start,
    Resume,
}

/// The agent's `state::Record`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) revision: u8,
    pub(crate) next: Option<What>,
    pub(crate) in_force: Option<Held>,
    pub(crate) releasing: Option<Releasing>,
    pub(crate) ending: Option<Ending>,
    /// How each order, and the cancel, were answered last.
    pub(crate) outcomes: [Option<Entry>; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) order: What,
    /// The end of the lease; `None` until the device has said yes.
    pub(crate) ends: Option<Tick>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Releasing {
    pub(crate) target: What,
    /// The order that waited when the cancel came.
    pub(crate) unstarted: Option<What>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ending {
    pub(crate) entry: Entry,
    pub(crate) by_release: bool,
}

/// A report about an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) order: What,
    /// The status that the reported phase means, as `store::status_of` has it.
    pub(crate) status: DispatchStatus,
    /// A cancelled order: "before it started".
    pub(crate) before_start: bool,
}

impl Entry {
    pub(crate) const fn new(order: What, status: DispatchStatus) -> Self {
        Self {
            order,
            status,
            before_start: false,
        }
    }
}

/// Reports that are not acknowledged, oldest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reports {
    entries: [Option<Entry>; 8],
    len: u8,
}

impl Reports {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().flatten().copied()
    }

    pub(crate) const fn len(&self) -> u8 {
        self.len
    }

    /// Panics beyond the bound: then the bound is too small, and the search would lie.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries[usize::from(self.len)] = Some(entry);
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let first = self.entries[0].take()?;
        self.entries.rotate_left(1);
        self.len -= 1;
        Some(first)
    }

    pub(crate) fn keep_first(&mut self, count: u8) {
        for lost in &mut self.entries[usize::from(count)..] {
            *lost = None;
        }
        self.len = self.len.min(count);
    }
}

/// What really happened, which neither side knows as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// How often the device was told an order for the first time in a life of the agent.
    pub(crate) starts: [u8; 2],
    /// The revision of the last start.
    pub(crate) last_started: u8,
    /// It was in force for its whole lease.
    pub(crate) ran_out: [bool; 2],
    /// After that the device was told what follows.
    pub(crate) settled: [bool; 2],
    /// The operator was told that the order is taken.
    pub(crate) acknowledged: [bool; 2],
    /// With [`Weakness::AcknowledgeBeforeCommit`]: what is still to be committed.
    pub(crate) uncommitted: Option<What>,
}

impl World {
    /// Whether a session lives or may still come.
    pub(crate) const fn is_heard(&self) -> bool {
        self.session.is_some() || self.store.epoch < SESSIONS
    }

    /// Whether another session may come after this one.
    pub(crate) const fn is_followed(&self) -> bool {
        self.store.epoch < SESSIONS
    }

    pub(crate) fn first() -> Self {
        Self {
            now: 0,
            store: Store::default(),
            session: None,
            flight: Flight::default(),
            late: None,
            agent: Agent {
                ready: true,
                settled: true,
                log: 1,
                ..Agent::default()
            },
            disk: Record::default(),
            stray: Reports::default(),
            agent_restarts: 0,
            history: History::default(),
        }
    }
}
