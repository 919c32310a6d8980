//! One PostgreSQL server for all tests of this binary, as long as one of them uses it.

use std::sync::{Arc, Mutex, Weak};

use derms_tests::PostgresServer;

/// The server; the first test starts it, the last one stops it, also when it panics.
pub(crate) fn server() -> Arc<PostgresServer> {
    static SERVER: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
    let mut held = SERVER
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(server) = held.upgrade() {
        return server;
    }
    let server = Arc::new(PostgresServer::start());
    *held = Arc::downgrade(&server);
    server
}
