//! Disks that fail, fill up, stall.
