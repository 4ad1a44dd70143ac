//! Tells the crate whether it has an input schema.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(input_schema)");
    if std::path::Path::new("input.schema.json").exists() {
        println!("cargo::rustc-cfg=input_schema");
    }
}
