//! What a packet says: whether it matches a filter, and whose conversation it belongs to.

pub mod filter;
pub mod flow;
