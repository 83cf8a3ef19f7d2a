//! What runs on every host for years: `fdwatch agent`.
//!
//! One direction here too. The live loop makes an [`event::Event`] of whatever is told and a
//! [`snapshot::Snapshot`] once a second, and hands both on through [`state::AgentState`]: to the history, the
//! alerts, OTLP, the API and its clients. None of these can hold up the loop: each has a bounded
//! [`sink::Sink`], and what finds no room there is counted.
//!
//! Nothing here knows the probe or the loop, but by the questions of [`state::LoopRequest`].

mod agent_loop;
pub mod alerts;
pub mod api;
pub mod config;
pub mod exporter;
pub mod history;
pub mod kill_switch;
pub mod logging;
mod measures;
pub mod metrics;
pub mod otlp;
pub mod privileges;
pub mod rules;
mod run;
mod sentence;
pub mod services;
pub mod sink;
pub mod snapshot;
pub mod state;
pub mod stop;
pub mod systemd;

pub use self::run::run;
