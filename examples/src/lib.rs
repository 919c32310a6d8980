//! Programs that show one thing each: `cargo run -p derms-examples --example <name>`.
