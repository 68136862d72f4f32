//! Whole commands against a scripted API: what is asked, what is said, how it ends.

mod apps;
mod push;
mod script;
mod session;
