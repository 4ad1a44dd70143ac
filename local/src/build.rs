//! Building the functions with cargo, as `sam build` does: optimised, each from its own crate.

use crate::{Error, template::Function};
use cargo_metadata::{Message, MetadataCommand, Package};
use std::{
    collections::BTreeMap,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Builds the crate of each function and gives back their binaries in the same order. cargo tells its
/// progress on standard error.
///
/// # Errors
/// A function's folder is no crate of the workspace, or a crate does not build.
pub fn functions(project: &Path, functions: &[Function]) -> Result<Vec<PathBuf>, Error> {
    if functions.is_empty() {
        return Ok(vec![]);
    }
    let metadata = MetadataCommand::new().current_dir(project).no_deps().exec();
    let metadata = metadata.map_err(|error| Error::Build(format!("cargo metadata failed: {error}")))?;
    let crates = functions.iter().map(|function| crate_of(function, &metadata.packages));
    let crates = crates.collect::<Result<Vec<_>, Error>>()?;

    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--bins", "--message-format=json-render-diagnostics"])
        .args(crates.iter().flat_map(|package| ["--package", package.name.as_str()]))
        .current_dir(project)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::Build(format!("cargo cannot be started: {error}")))?;
    let mut binaries = BTreeMap::new();
    if let Some(output) = cargo.stdout.take() {
        for message in Message::parse_stream(BufReader::new(output)) {
            if let Message::CompilerArtifact(artifact) = message?
                && let Some(binary) = artifact.executable
            {
                binaries.insert(artifact.package_id, binary.into_std_path_buf());
            }
        }
    }
    if !cargo.wait()?.success() {
        return Err(Error::Build("cargo has said why, above".to_owned()));
    }
    let binary_of = |package: &Package| match binaries.get(&package.id) {
        Some(binary) => Ok(binary.clone()),
        None => Err(Error::Build(format!("the crate {} has no binary", package.name))),
    };
    crates.into_iter().map(binary_of).collect()
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
