//! Whole commands against a scripted API: what is asked, what is said, how it ends.

mod admin;
mod apps;
mod networking;
mod push;
mod releases;
mod script;
mod services;
mod session;
mod tcp;
