//! The full screen: `state` (what it shows), `input` (messages that change it), `view` (drawing), and
//! `sources` (where updates come from: the programs of this process, or an agent).

mod data;
mod help;
mod input;
mod layout;
mod list;
mod screen;
mod sources;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod view;
mod wrap;

use self::{list::Column, state::*, theme::Theme};
pub use self::{
    screen::{Options, run},
    sources::agent::AgentConnection,
};
