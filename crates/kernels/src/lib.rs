//! (design in progress)
