use std::collections::BTreeMap;
use std::path::Path;

use ring::digest;

/// Each migration with its SHA-256.
const RELEASED: &str = "
    postgres/0001_first.sql 75436062fe1466ed2bb71602437a48d49f76c560dd9e1fdb7674eee8b67aa816
    postgres/0002_cancel.sql ef5bc69c8585d437c4821f48e3214707ff5a38125635393c22323a3c191a5733
    postgres/0003_limits.sql 120c1905a90c9ac2d1b07ddaa7694d1ae652e7417996a1540f06afb1cd902b38
    postgres/0004_audit.sql 57f8659a975a06737fc2e8d3215085ceeb19fdf3c7aa13af4887e2f49f1b78b6
    postgres/0005_control.sql 2e5f6a3afca5c1fb3af7cea04fced4256da14ac99224671769961924a2389a5d
    postgres/0006_events.sql 929c6118aa03d1a78efeb397b0d13d666faba71998a79cba7b0d41dd7a3b5dd5
    postgres/0007_rollup.sql 6cf5ddd1be902778a1b7621bd8f9fee331eed93f9232919275e751ebf7499385
    postgres/0008_holder.sql 70f21bc15cdb98ec22b3916c3de1e578255c00caf0c7cc2377256c9a1c1e3ea3
    sqlite/0001_first.sql 018bdd40fdfce4d3221a341ace80f778e5de67e843254d249d14fb45976a658b
    sqlite/0002_cancel.sql c0cdbfd0a94b96583689aa94b37ff2a5d3523973e61c00c165b2775801405518
    sqlite/0003_limits.sql 9b2577aa06a12fa0d8bbf31345e474bdc44974090aaee62a09f6aea1db164e77
    sqlite/0004_recent.sql cae7bdf0679e8c1e6b19b5e1d413e027bf9ec28f4472f535191789592197a303
    sqlite/0005_audit.sql 046a4096d20417b10810487b3f26dc9659f6752ceba6e373a90dc83b7ec0ab5b
    sqlite/0006_control.sql f04cbe3804707615faa3cd8654592b440413dd6577b4205bfdd0f24f60122167
    sqlite/0007_events.sql 3ff577c16dfdddef921ca713400ca4031200bae0b002061d97ca1c3761a6aa10
";

fn migrations() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut found = BTreeMap::new();
    for dialect in ["postgres", "sqlite"] {
        for file in folder.join(dialect).read_dir().unwrap() {
            let file = file.unwrap();
            let name = format!("{dialect}/{}", file.file_name().display());
            let digest = digest::digest(&digest::SHA256, &std::fs::read(file.path()).unwrap());
            let digest = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
            found.insert(name, digest.collect());
        }
    }
    found
}

#[test]
fn a_migration_that_was_released_is_as_it_was() {
    let mut found = migrations();
    for line in RELEASED.trim().lines() {
        let (name, digest) = line.trim().split_once(' ').unwrap();
        let now = found.remove(name);
        assert_eq!(
            now.as_deref(),
            Some(digest),
            "migrations/{name}: released migrations are never edited; add a new one, or databases that \
             have this one differ from new ones"
        );
    }
    assert!(
        found.is_empty(),
        "new migrations: write them down in RELEASED: {found:#?}"
    );
}
