//! New inputs out of known ones.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::Target;
use crate::shape::{self, Change};

/// Where arithmetic goes wrong.
pub(crate) const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 53,
    i64::MAX as u64,
    u64::MAX,
];

/// One change of an input; places are relative to its length.
#[derive(Debug, Clone)]
enum Edit {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Cut(Index),
    /// A part, again and again.
    Repeat(Index, Index, u16),
    Number(Index, Index, u8, bool),
    Token(Index, Index),
    /// A part of another seed.
    Splice(Index, Index, Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        1 => (at(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        1 => (at(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        1 => (at(), at()).prop_map(|(from, to)| Edit::Remove(from, to)),
        1 => at().prop_map(Edit::Cut),
        1 => (at(), at(), prop_oneof![4 => 1..9_u16, 1 => 1..5_000_u16])
            .prop_map(|(from, to, times)| Edit::Repeat(from, to, times)),
        1 => (at(), at(), 1..9_u8, any::<bool>())
            .prop_map(|(at, which, width, big)| Edit::Number(at, which, width, big)),
        3 => (at(), at()).prop_map(|(at, which)| Edit::Token(at, which)),
        1 => (at(), at(), at(), at()).prop_map(|(at, seed, from, to)| Edit::Splice(at, seed, from, to)),
    ]
}

/// A change anywhere, or of a part within, with the lengths around it kept right.
#[derive(Debug, Clone)]
enum Step {
    Anywhere(Edit),
    Within(Vec<Index>, Change, Edit),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => edit().prop_map(Step::Anywhere),
        3 => (vec(any::<Index>(), 1..6), shape::change(), edit())
            .prop_map(|(path, change, edit)| Step::Within(path, change, edit)),
    ]
}

/// An endless row of inputs; the same seed gives the same row.
pub(crate) struct Mutator {
    runner: TestRunner,
    plan: BoxedStrategy<(Index, Vec<Step>)>,
    target: Target,
}

impl Mutator {
    pub(crate) fn new(seed: u64, target: &Target) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        // One change at a time reaches furthest; several together what one can't.
        let steps = prop_oneof![2 => vec(step(), 1..2), 1 => vec(step(), 2..7)];
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Self {
            runner: TestRunner::new_with_rng(Config::default(), rng),
            plan: (any::<Index>(), steps).boxed(),
            target: *target,
        }
    }

    /// One of the seeds, changed.
    pub(crate) fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        // A strategy without a filter always gives a tree.
        let Ok(tree) = self.plan.new_tree(&mut self.runner) else {
            return Vec::new();
        };
        let (first, steps) = tree.current();
        let mut input = match seeds.len() {
            0 => Vec::new(),
            count => seeds[first.index(count)].clone(),
        };
        let Target { shape, longest, .. } = self.target;
        for step in steps {
            match step {
                Step::Anywhere(edit) => self.apply(&edit, &mut input, seeds),
                Step::Within(path, change, edit) => {
                    let content = &mut |body: &mut Vec<u8>| self.apply(&edit, body, seeds);
                    input = shape::within(shape, &input, &path, &change, longest, content);
                }
            }
            input.truncate(longest);
        }
        input
    }

    fn apply(&self, edit: &Edit, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let place = |at: &Index| at.index(input.len() + 1);
        match edit {
            Edit::Flip(at, _) | Edit::Set(at, _) if !input.is_empty() => {
                let at = at.index(input.len());
                match edit {
                    Edit::Flip(_, bit) => input[at] ^= 1 << bit,
                    Edit::Set(_, byte) => input[at] = *byte,
                    _ => {}
                }
            }
            Edit::Flip(..) | Edit::Set(..) => {}
            Edit::Insert(at, bytes) => insert(input, place(at), bytes),
            Edit::Remove(from, to) => {
                let (from, to) = part(from, to, input.len());
                input.drain(from..to);
            }
            Edit::Cut(at) => input.truncate(at.index(input.len() + 1)),
            Edit::Repeat(from, to, times) => {
                let (from, to) = part(from, to, input.len());
                let room = self.target.longest.saturating_sub(input.len());
                let times = usize::from(*times).min(room / (to - from).max(1));
                let again = input[from..to].repeat(times);
                insert(input, to, &again);
            }
            Edit::Number(at, which, width, big) => {
                let number = NUMBERS[which.index(NUMBERS.len())];
                let width = usize::from(*width);
                let bytes = if *big {
                    number.to_be_bytes()[8 - width..].to_vec()
                } else {
                    number.to_le_bytes()[..width].to_vec()
                };
                let at = place(at);
                let end = input.len().min(at + width);
                input.splice(at..end, bytes);
            }
            Edit::Token(at, which) => {
                let tokens = self.target.tokens;
                if !tokens.is_empty() {
                    insert(input, place(at), tokens[which.index(tokens.len())]);
                }
            }
            Edit::Splice(at, seed, from, to) => {
                if !seeds.is_empty() {
                    let other = &seeds[seed.index(seeds.len())];
                    let (from, to) = part(from, to, other.len());
                    insert(input, place(at), &other[from..to]);
                }
            }
        }
    }
}

fn part(from: &Index, to: &Index, length: usize) -> (usize, usize) {
    let (from, to) = (from.index(length + 1), to.index(length + 1));
    (from.min(to), from.max(to))
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: [&[u8]; 2] = [b"one seed", b"another"];

    fn target() -> Target {
        Target {
            tokens: &[b"TOKEN"],
            longest: 64,
            ..crate::targets::planted::ALL[0]
        }
    }

    fn row(seed: u64, count: usize) -> Vec<Vec<u8>> {
        let seeds: Vec<Vec<u8>> = SEEDS.iter().map(|seed| seed.to_vec()).collect();
        let mut mutator = Mutator::new(seed, &target());
        (0..count).map(|_| mutator.next(&seeds)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_another_gives_others() {
        assert_eq!(row(7, 50), row(7, 50));
        assert_ne!(row(7, 50), row(8, 50));
    }

    #[test]
    fn inputs_stay_in_their_bound_and_words_of_the_language_come_up() {
        let row = row(1, 500);
        assert!(row.iter().all(|input| input.len() <= 64));
        let with = row
            .iter()
            .filter(|input| input.windows(5).any(|window| window == b"TOKEN"));
        assert!(with.count() > 50);
    }

    #[test]
    fn without_a_seed_there_are_inputs_all_the_same() {
        let mut mutator = Mutator::new(0, &target());
        assert!((0..50).any(|_| !mutator.next(&[]).is_empty()));
    }
}
