//! What Diego's words promise together.

mod state_machines;
