//! Prints the OpenAPI document: `cargo run -p derms-headend-sdk --example openapi`.
#![allow(clippy::print_stdout)]

fn main() {
    print!("{}", derms_headend_sdk::openapi_json());
}
