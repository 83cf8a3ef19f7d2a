//! The always-on agent: `fdwatch agent`.
//!
//! Data flows in one direction. The live loop creates events, and a [`snapshot::Snapshot`] once a second, and passes
//! both through [`state::AgentState`] to the history, alerts, exports, the API and its clients. None of these can delay
//! the loop: each has a bounded [`sink::Sink`], which counts events without room. They reach back to the loop only
//! with a [`state::LoopRequest`].

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
