//! Tells the crate whether it has an input schema.

fn main() {
    // The folder, because a file that is moved here can be older than all the others.
    println!("cargo::rerun-if-changed=.");
    println!("cargo::rustc-check-cfg=cfg(input_schema)");
    if std::path::Path::new("input.schema.json").exists() {
        println!("cargo::rustc-cfg=input_schema");
    }
}
