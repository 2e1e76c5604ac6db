//! What the daemon does, as it can be watched: [`jobs`] that run, [`events`] that happened, and [`metrics`],
//! what is counted of them.

pub mod events;
pub mod jobs;
pub mod metrics;
