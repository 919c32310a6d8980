//! Faults that are planted, to see that they are found. Not among those that are fed by default.

use std::hint::black_box;

use super::MIB;
use crate::Verdict::{self, Refused, Taken};
use crate::{Shape, Target};

/// Each breaks another rule. All but the leak, and the one that takes nothing, take their seed.
pub const ALL: &[Target] = &[
    planted("planted_panic", |input| {
        assert!(!lit(input), "planted");
        Taken
    }),
    planted("planted_panic_in_a_task", |input| {
        let lit = lit(input);
        super::runtime().block_on(async {
            let _ = tokio::task::spawn(async move { assert!(!lit, "planted") }).await;
        });
        Taken
    }),
    planted("planted_allocation", |input| {
        if lit(input) {
            black_box(vec![1_u8; 65 << 20]);
        }
        Taken
    }),
    planted("planted_leak", |_| {
        std::mem::forget(black_box(vec![1_u8; 64 << 10]));
        Taken
    }),
    planted("planted_hang", |input| {
        while lit(input) {
            std::thread::yield_now();
        }
        Taken
    }),
    planted("planted_recursion", |input| {
        deeper(lit(input), input);
        Taken
    }),
    planted("planted_idle", |_| Refused),
];

const fn planted(name: &'static str, run: fn(&[u8]) -> Verdict) -> Target {
    Target {
        name,
        about: "a planted fault",
        run,
        seeds: || Ok(vec![b"a seed".to_vec()]),
        shape: Shape::Plain,
        tokens: &[b"BOOM"],
        longest: 1 << 10,
        memory: 64 * MIB,
    }
}

/// No seed is: it takes a mutation.
fn lit(input: &[u8]) -> bool {
    input.windows(4).any(|window| window == b"BOOM")
}

fn deeper(on: bool, bytes: &[u8]) -> usize {
    let copy = black_box([bytes; 64]);
    if on {
        deeper(on, copy[0]) + copy.len()
    } else {
        0
    }
}
