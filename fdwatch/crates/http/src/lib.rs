//! The one HTTP client: for the agent's receivers, for servers of a fleet, and for commands that query an
//! agent.

mod agent;
mod client;

pub use self::{
    agent::{AgentClient, add_parameter},
    client::{Endpoint, client, use_ring},
};
