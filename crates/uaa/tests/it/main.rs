//! UAA through its router, on every database there is.

mod clients;
mod harness;
mod scim;
mod tokens;
