//! The full screen: [`state`] (what it shows, and what keys, the mouse and updates change), `view`
//! (drawing), and `sources` (where updates come from: the programs of this process, or an agent).

mod data;
mod input;
mod list;
mod places;
mod screen;
mod sources;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod view;

use self::{list::Column, state::*, theme::Theme};
pub use self::{
    screen::{Options, run},
    sources::agent::AgentConnection,
};
