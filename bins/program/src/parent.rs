//! The end of whoever started this program.

use std::io::Read as _;

use tokio::sync::oneshot;

/// Resolves when stdin is closed: whoever started this program holds its other end and is gone.
pub async fn parent_gone() {
    let (sender, receiver) = oneshot::channel();
    // Not tokio's stdin: its pending read would keep the runtime from ending.
    std::thread::spawn(move || {
        let mut ignored = [0; 256];
        while matches!(std::io::stdin().read(&mut ignored), Ok(1..)) {}
        let _ = sender.send(());
    });
    let _ = receiver.await;
}
