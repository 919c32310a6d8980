//! The target that `DERMS_FUZZ_TARGET` names.

#![no_main]

use std::sync::OnceLock;

use derms_fuzz::{Target, targets};
use libfuzzer_sys::fuzz_target;

fn target() -> &'static Target {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("DERMS_FUZZ_TARGET").expect("DERMS_FUZZ_TARGET names a target");
        targets::named(&name).unwrap_or_else(|| panic!("no target {name}"))
    })
}

fuzz_target!(|input: &[u8]| {
    (target().run)(input);
});
