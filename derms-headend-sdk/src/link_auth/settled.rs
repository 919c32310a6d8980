//! Files that someone may be writing at this moment.

use std::thread;
use std::time::Duration;

/// Between two looks at what has changed. Writing a file in place takes less, as a rule.
const PAUSE: Duration = Duration::from_millis(100);

/// What `look` finds, unless it is what is held already or other than what it finds a moment later:
/// who writes a file in place shows a part of it first, and a part can be good by itself.
///
/// Blocks for a tenth of a second if something has changed; not for a thread of the runtime.
///
/// # Errors
/// Those of `look`.
#[expect(
    clippy::disallowed_methods,
    reason = "called where files are read, on a thread for blocking work"
)]
pub(crate) fn settled<T: PartialEq, E>(
    is_held: impl FnOnce(&T) -> bool,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<Option<T>, E> {
    let first = look()?;
    if is_held(&first) {
        return Ok(None);
    }
    thread::sleep(PAUSE);
    let second = look()?;
    if second == first {
        return Ok(Some(second));
    }
    tracing::debug!("a file is being written; it is looked at again later");
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken of these looks while 0 is held.
    fn taken(looks: &[Result<u32, ()>]) -> Result<Option<u32>, ()> {
        let mut looks = looks.iter().copied();
        settled(|seen| *seen == 0, || looks.next().unwrap())
    }

    #[test]
    fn what_is_the_same_at_two_looks_is_taken_and_what_is_being_written_is_not() {
        assert_eq!(taken(&[Ok(0)]), Ok(None), "nothing has changed");
        assert_eq!(taken(&[Ok(1), Ok(1)]), Ok(Some(1)));
        assert_eq!(taken(&[Ok(1), Ok(2)]), Ok(None));
        assert_eq!(taken(&[Ok(1), Ok(0)]), Ok(None));
        assert_eq!(taken(&[Err(())]), Err(()));
        assert_eq!(taken(&[Ok(1), Err(())]), Err(()));
    }
}
