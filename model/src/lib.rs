//! The order protocol as a model: `cargo test -p derms-model`.
