//! Default paths, shared by the agent and the commands that query it.

/// Default path of the agent's unix socket.
pub const SOCKET: &str = "/run/fdwatch/agent.sock";

/// Default path of the agent's history database.
pub const HISTORY: &str = "/var/lib/fdwatch/history.db";
