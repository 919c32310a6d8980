//! Many agents in one thread, each on a connection of its own, and one operator.

mod agent;
mod link;
mod operator;
mod tasks;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use uuid::Uuid;

use crate::words::{self, Listening, Result, Task, Times, Told};
use agent::{Agent, Heard};
use link::Link;
use operator::Operator;

const WAKE: Token = Token(usize::MAX - 1);
const OPERATOR: Token = Token(usize::MAX - 2);
/// Addresses that connections come from: one alone has 28,000 ports.
const SOURCES: u32 = 8;

/// Everything that is under way.
struct Load {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    instance: String,
    listening: Option<Listening>,
    rest: bool,
    agents: Vec<Agent>,
    links: Vec<Option<Link>>,
    registered: Vec<bool>,
    registered_count: u32,
    operator: Option<Operator>,
    /// Reads nothing.
    stuck: Option<u32>,
    told: Told,
    ack: Times,
    apply: Times,
    answer: Times,
}

/// Does what the director says until it goes away; in between it keeps the connections alive.
pub(crate) fn run() -> Result {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    let tasks = tasks_from_stdin(waker);
    let mut load = Load {
        poll,
        events: Events::with_capacity(1024),
        buffer: vec![0; 64 << 10],
        scratch: Vec::new(),
        instance: Uuid::now_v7().to_string(),
        listening: None,
        rest: false,
        agents: Vec::new(),
        links: Vec::new(),
        registered: Vec::new(),
        registered_count: 0,
        operator: None,
        stuck: None,
        told: Told::default(),
        ack: Times::new()?,
        apply: Times::new()?,
        answer: Times::new()?,
    };
    loop {
        match tasks.try_recv() {
            Ok(task) => {
                let told = load.perform(task)?;
                words::tell(&told)?;
            }
            Err(TryRecvError::Empty) => load.turn(None)?,
            Err(TryRecvError::Disconnected) => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn tasks_from_stdin(waker: Waker) -> Receiver<Task> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let task = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(task) = task else { break };
            if sender.send(task).is_err() {
                break;
            }
            let _ = waker.wake();
        }
        drop(sender);
        let _ = waker.wake();
    });
    receiver
}

impl Load {
    /// Waits for something to happen, at most so long, and deals with it.
    fn turn(&mut self, patience: Option<Duration>) -> Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, patience) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            match event.token() {
                WAKE => {}
                OPERATOR => self.answered()?,
                Token(number) => {
                    if event.is_writable() {
                        self.writable(number);
                    }
                    if event.is_readable() && self.stuck != Some(number as u32) {
                        self.readable(number)?;
                    }
                }
            }
        }
        self.events = events;
        Ok(())
    }

    fn writable(&mut self, number: usize) {
        let failed = self.links[number]
            .as_mut()
            .is_some_and(|link| link.flush().is_err());
        if failed {
            self.lose(number);
        }
    }

    fn readable(&mut self, number: usize) -> Result<()> {
        let Some(link) = &mut self.links[number] else {
            return Ok(());
        };
        let agent = &mut self.agents[number];
        let mut heard = Vec::new();
        let alive = link.read(&mut self.buffer, |bytes| heard.push(agent.hear(bytes)));
        let now = Instant::now();
        for heard in heard {
            match heard {
                Heard::Registered => {
                    self.registered[number] = true;
                    self.registered_count += 1;
                }
                Heard::Acked(sent) => {
                    self.told.acked += sent.len() as u64;
                    for at in sent {
                        self.ack.add(now - at);
                    }
                }
                Heard::Rewound => self.told.rewound += 1,
                Heard::Order(report) => {
                    let order = self.operator.as_ref().and_then(|operator| operator.order);
                    if let Some((_, given)) = order.filter(|(to, _)| *to as usize == number) {
                        self.apply.add(now - given);
                    }
                    self.send(number, &report);
                }
                Heard::Ping(pong) => {
                    self.send(number, &pong);
                }
                Heard::Closed(close) => {
                    words::complain(&format!("agent {number} was closed: {}", close.text));
                }
                Heard::Nothing => {}
            }
        }
        if alive.is_err() {
            self.lose(number);
        }
        Ok(())
    }

    fn answered(&mut self) -> Result<()> {
        let Some(operator) = &mut self.operator else {
            return Ok(());
        };
        if let Some((_, given)) = operator.read()? {
            self.answer.add(given.elapsed());
        }
        Ok(())
    }

    /// Whether the message went out.
    fn send(&mut self, number: usize, message: &impl prost::Message) -> bool {
        let Some(link) = &mut self.links[number] else {
            return false;
        };
        match link.send(message, &mut self.scratch) {
            Ok(sent) => sent,
            Err(_) => {
                self.lose(number);
                false
            }
        }
    }

    fn lose(&mut self, number: usize) {
        if self.links[number].take().is_some() && self.stuck != Some(number as u32) {
            self.told.lost += 1;
        }
        self.forget(number);
    }

    fn forget(&mut self, number: usize) {
        if std::mem::take(&mut self.registered[number]) {
            self.registered_count -= 1;
        }
    }

    /// Begins to connect and registers; a connection that the agent had is cut.
    fn dial(&mut self, number: usize, small: bool) -> Result<()> {
        let to = self.listening.ok_or("nothing to connect to")?.agents;
        self.links[number] = None;
        self.forget(number);
        let source = Ipv4Addr::new(127, 0, 0, 2 + (number as u32 % SOURCES) as u8);
        let mut link = Link::connect(SocketAddr::from((source, 0)), to, small)?;
        let register = self.agents[number].register(&self.instance);
        link.send(&register, &mut self.scratch)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut link.socket, Token(number), interest)?;
        self.links[number] = Some(link);
        Ok(())
    }
}
