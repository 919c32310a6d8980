//! The two logs of an agent: telemetry, bounded, and reports, never dropped.

mod gaps;
mod report;
mod shelf;
mod size;
mod telemetry;
mod window;

use derms_proto::link::Sample;

pub(crate) use report::{CAPACITY as REPORT_CAPACITY, ReportLog};
pub(crate) use telemetry::TelemetryLog;
pub(crate) use window::Window;

/// Cuts samples into lists that fit into a message each.
pub(crate) fn chunks(
    samples: impl Iterator<Item = Sample>,
    max_samples: usize,
    max_bytes: usize,
) -> Vec<Vec<Sample>> {
    let mut chunks: Vec<Vec<Sample>> = Vec::new();
    let mut bytes = 0;
    for sample in samples {
        let size = size::of_sample(&sample);
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < max_samples && bytes + size <= max_bytes => {
                bytes += size;
                chunk.push(sample);
            }
            _ => {
                bytes = size;
                chunks.push(vec![sample]);
            }
        }
    }
    chunks
}
