//! The web face as a whole, without a network.
