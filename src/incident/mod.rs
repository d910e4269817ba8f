//! From a trigger to sealed evidence.

pub mod model;
