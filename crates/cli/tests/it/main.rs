//! Whole commands against a scripted API: what is asked, what is said, how it ends.

mod admin;
mod apps;
mod buildpacks;
mod deployments;
mod networking;
mod push;
mod quotas;
mod releases;
mod script;
mod security_groups;
mod services;
mod session;
mod tcp;
mod transcript;
