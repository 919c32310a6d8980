//! Files of checksummed frames: what is whole can be told from what is not.
//!
//! A file begins with a header (magic, format version, kind, checksum). A frame is a marker, a
//! length, a CRC-32 over length and payload, and the payload. The marker lets a reader find the
//! next whole frame behind a damaged one.

/// What this version writes and reads.
pub(super) const VERSION: u16 = 1;
/// Bytes of a header.
pub(super) const HEADER: usize = 16;

const MAGIC: [u8; 8] = *b"DERMSAG\n";
const MARKER: [u8; 4] = [0xd5, 0xa6, 0x4c, 0x1f];
/// Marker, length, checksum.
const FRAME: usize = 12;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ledger = 1,
    Telemetry = 2,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Damaged,
    /// Written by a later version of this crate.
    Newer(u16),
}

/// The whole frames of a file.
#[derive(Debug, Default)]
pub(super) struct Scan<'a> {
    pub(super) frames: Vec<&'a [u8]>,
    /// How many of them come before the first damage.
    pub(super) leading: usize,
    /// Bytes that belong to no whole frame.
    pub(super) damaged: usize,
}

pub(super) fn header(kind: Kind) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[10] = kind as u8;
    let crc = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(super) fn check_header(file: &[u8], kind: Kind) -> Result<(), HeaderFault> {
    let header = file.get(..HEADER).ok_or(HeaderFault::Damaged)?;
    let crc = crc32fast::hash(&header[..12]);
    if header[..8] != MAGIC || header[12..] != crc.to_le_bytes() || header[10] != kind as u8 {
        return Err(HeaderFault::Damaged);
    }
    match u16::from_le_bytes([header[8], header[9]]) {
        VERSION => Ok(()),
        newer => Err(HeaderFault::Newer(newer)),
    }
}

/// Appends a frame to `out`.
pub(super) fn put(out: &mut Vec<u8>, payload: &[u8]) {
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    out.reserve(FRAME + payload.len());
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Reads what follows a header.
pub(super) fn scan(bytes: &[u8]) -> Scan<'_> {
    let mut scan = Scan::default();
    let mut at = 0;
    while at < bytes.len() {
        if let Some(payload) = frame(&bytes[at..]) {
            scan.frames.push(payload);
            scan.leading += usize::from(scan.damaged == 0);
            at += FRAME + payload.len();
        } else {
            // On to the next marker; each candidate is checked by its checksum.
            let rest = &bytes[at + 1..];
            let next = rest
                .windows(MARKER.len())
                .position(|window| window == MARKER)
                .map_or(bytes.len(), |found| at + 1 + found);
            scan.damaged += next - at;
            at = next;
        }
    }
    scan
}

/// The payload of the frame that `bytes` begins with, if it is whole.
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let head = bytes.get(..FRAME)?;
    let length: [u8; 4] = head[4..8].try_into().ok()?;
    let end = FRAME.checked_add(usize::try_from(u32::from_le_bytes(length)).ok()?)?;
    let payload = bytes.get(FRAME..end)?;
    let whole = head[..4] == MARKER && head[8..] == checksum(length, payload).to_le_bytes();
    whole.then_some(payload)
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in payloads {
            put(&mut bytes, payload);
        }
        bytes
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let payload = prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(MARKER.to_vec())],
            0..40,
        );
        prop::collection::vec(payload, 0..8)
    }

    #[test]
    fn a_header_tells_its_kind_and_refuses_a_later_version_by_number() {
        let mut bytes = header(Kind::Ledger);
        assert_eq!(check_header(&bytes, Kind::Ledger), Ok(()));
        assert_eq!(
            check_header(&bytes, Kind::Telemetry),
            Err(HeaderFault::Damaged)
        );
        assert_eq!(
            check_header(&bytes[..15], Kind::Ledger),
            Err(HeaderFault::Damaged)
        );
        bytes[8] = 9;
        assert_eq!(
            check_header(&bytes, Kind::Ledger),
            Err(HeaderFault::Damaged)
        );
        let crc = crc32fast::hash(&bytes[..12]);
        bytes[12..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(
            check_header(&bytes, Kind::Ledger),
            Err(HeaderFault::Newer(9))
        );
    }

    #[test]
    fn a_flip_of_any_bit_loses_one_frame_and_invents_none() {
        let payloads: Vec<Vec<u8>> = (0..5).map(|n| vec![n; 7]).collect();
        let whole = file(&payloads);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let scan = scan(&bytes);
            let lost = bit / 8 / (FRAME + 7);
            let kept = payloads.iter().enumerate().filter(|(n, _)| *n != lost);
            let kept: Vec<&[u8]> = kept.map(|(_, payload)| payload.as_slice()).collect();
            assert_eq!(scan.frames, kept, "bit {bit}");
            assert_eq!((scan.leading, scan.damaged), (lost, FRAME + 7));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_file_cut_anywhere_keeps_every_frame_before_the_cut(payloads in payloads(), cut in 0.0..=1.0_f64) {
            let whole = file(&payloads);
            let cut = (whole.len() as f64 * cut) as usize;
            let scan = scan(&whole[..cut]);
            let mut end = 0;
            let kept = payloads.iter().take_while(|payload| {
                end += FRAME + payload.len();
                end <= cut
            });
            let kept: Vec<&[u8]> = kept.map(Vec::as_slice).collect();
            prop_assert_eq!(scan.leading, kept.len());
            prop_assert_eq!(scan.frames, kept);
        }

        #[test]
        fn rubbish_between_frames_is_stepped_over(payloads in payloads(), at in any::<prop::sample::Index>(), rubbish in prop::collection::vec(any::<u8>(), 1..30)) {
            let at = at.index(payloads.len() + 1);
            let mut bytes = file(&payloads[..at]);
            bytes.extend(&rubbish);
            bytes.extend(file(&payloads[at..]));
            let frames = scan(&bytes).frames;
            prop_assert!(frames.iter().copied().eq(payloads.iter().map(Vec::as_slice)));
        }
    }
}
