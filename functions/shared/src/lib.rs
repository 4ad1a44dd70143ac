//! What the suite's functions share.
//!
//! One module, one thing: [`event`] is what the API hands to the trigger, [`step`] what the state machine hands to
//! a task, [`payload`] what a caller may post, [`settings`] the only reader of the environment, [`telemetry`] the log
//! and the way a function's process starts, [`metrics`] what is counted, [`deadline`] an invocation's end, [`https`]
//! (feature `https`) what others are called with, [`aws`] (feature `aws`) the configuration of every AWS client.

#[cfg(feature = "aws")]
pub mod aws;
pub mod deadline;
pub mod event;
#[cfg(feature = "https")]
pub mod https;
pub mod metrics;
pub mod payload;
pub mod settings;
pub mod step;
pub mod telemetry;
mod workflow_id;

pub use workflow_id::{InvalidWorkflowId, WorkflowId};
