//! Building the functions with cargo, as `sam build` does: optimised, each from its own crate.

use crate::{Error, process, template::Function};
use cargo_metadata::{Message, Metadata, MetadataCommand, Package};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

/// Builds the crate of each function and gives back their binaries in the same order. cargo tells its
/// progress on standard error.
///
/// # Errors
/// A function's folder is no crate of the workspace, or a crate does not build.
pub async fn functions(project: &Path, functions: &[Function]) -> Result<Vec<PathBuf>, Error> {
    if functions.is_empty() {
        return Ok(vec![]);
    }
    let unstarted = |error| Error::Build(format!("cargo cannot be started: {error}"));
    let mut metadata = Command::from(MetadataCommand::new().current_dir(project).no_deps().cargo_command());
    let metadata = process::output(metadata.stderr(Stdio::piped())).await.map_err(unstarted)?;
    if !metadata.status.success() {
        let why = String::from_utf8_lossy(&metadata.stderr);
        return Err(Error::Build(format!("cargo metadata failed: {}", why.trim())));
    }
    let metadata: Metadata = serde_json::from_slice(&metadata.stdout)
        .map_err(|error| Error::NotJson("what cargo metadata prints".to_owned(), error))?;
    let crates = functions.iter().map(|function| crate_of(function, &metadata.packages));
    let crates = crates.collect::<Result<Vec<_>, Error>>()?;

    // What `cargo run` and `cargo test` tell this process of its own crate, some build scripts look at: they would run
    // again for each way in which the suite is started.
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let of_this_crate: Vec<_> =
        names.filter(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")).collect();
    let mut binaries = vec![];
    // One after the other, because a build of several gives each the features that any of them asks for.
    for package in crates {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--release", "--bins", "--message-format=json-render-diagnostics"])
            .args(["--package", package.name.as_str()])
            .current_dir(project);
        for name in &of_this_crate {
            cargo.env_remove(name);
        }
        let built = process::output(&mut cargo).await.map_err(unstarted)?;
        if !built.status.success() {
            return Err(Error::Build("cargo has said why, above".to_owned()));
        }
        let binary = Message::parse_stream(built.stdout.as_slice()).find_map(|message| match message {
            Ok(Message::CompilerArtifact(artifact)) if artifact.package_id == package.id => artifact.executable,
            _ => None,
        });
        let binary = binary.ok_or_else(|| Error::Build(format!("the crate {} has no binary", package.name)))?;
        binaries.push(binary.into_std_path_buf());
    }
    Ok(binaries)
}

/// The crate in the function's folder.
fn crate_of<'a>(function: &Function, packages: &'a [Package]) -> Result<&'a Package, Error> {
    let folder = function.code.canonicalize().ok();
    let package = packages.iter().find(|package| {
        let manifest = package.manifest_path.as_std_path();
        folder.is_some() && manifest.parent().and_then(|path| path.canonicalize().ok()) == folder
    });
    package.ok_or_else(|| {
        let folder = function.code.display();
        Error::Template(format!("{}: CodeUri: {folder} is no crate of the workspace", function.logical_id))
    })
}
