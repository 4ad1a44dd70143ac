//! What `sam build` makes of the workspace.

use std::fs;

/// cargo-lambda adds `panic="abort"` and three more to a release whose profile does not say otherwise
/// (`cargo_release_profile_config` in its crate `cargo-lambda-metadata`). A panic would then end the process, and the
/// state machine would see no error of ours; and what runs here would not be what runs on AWS.
#[test]
fn the_release_profile_leaves_nothing_to_cargo_lambda() {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")).expect("a manifest");
    let (_, profile) = manifest.split_once("[profile.release]\n").expect("a profile");
    let profile = profile.split("\n[").next().expect("the first part");
    let value = |name| profile.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
    assert_eq!(value("panic"), Some("\"unwind\""));
    for name in ["strip", "lto", "codegen-units"] {
        assert!(value(name).is_some(), "{name}");
    }
}
