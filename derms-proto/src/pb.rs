//! The protobuf code of the agent link, generated from `proto/derms/v1/agent_link.proto` and
//! checked in: nobody who uses this crate needs `protoc`.
//!
//! Only [`wire`](crate::wire) and the transport of the two SDKs name these types; everything else
//! speaks in those of [`link`](crate::link).
#![allow(
    missing_docs,
    unreachable_pub,
    rustdoc::bare_urls,
    rustdoc::broken_intra_doc_links,
    clippy::all,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned
)]

include!("generated/derms.v1.rs");
