//! Many hosts: which duplicates there are on all of them, and which of these are the same bug.
//!
//! What two findings have in common that are the same bug is their [`signature`], made of
//! [`template`]s.

pub mod signature;
pub mod template;
