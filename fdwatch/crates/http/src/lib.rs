//! The HTTP client and the retry policy: for receivers of alerts and exports, for servers of a fleet, and for commands
//! that query an agent.

mod agent;
mod client;
pub mod retry;

pub use self::{
    agent::AgentClient,
    client::{Endpoint, builder, certificates, client, use_ring},
};
