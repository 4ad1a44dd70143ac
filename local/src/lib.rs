//! The whole suite on one machine, without AWS and without Docker.
//!
//! [`Suite::start`] reads `template.yaml`, builds the functions, and runs what the template describes: each
//! function's own process below a [`lambda`] host, an HTTP front in place of API Gateway ([`gateway`]), and moto's
//! Step Functions and SQS ([`moto`]). The command line and the end-to-end tests use it alike.

pub mod bench;
pub mod build;
pub mod client;
mod error;
pub mod event_source;
pub mod gateway;
pub mod lambda;
pub mod load;
pub mod moto;
mod process;
pub mod progress;
pub mod redrive;
pub mod scaling;
pub mod suite;
mod table;
pub mod template;

pub use error::Error;
pub use suite::{Options, Suite};

/// The account that everything local lives in. It is moto's, and nobody's.
pub const ACCOUNT: &str = "123456789012";

/// The region that everything local lives in.
pub const REGION: &str = "us-east-1";
