//! The executor over plain processes of this host.

mod actions;
mod crashed;
mod garden_on_host;
mod guardian;
mod health;
mod identity;
mod lifecycle;
mod logs;
mod recovery;
mod support;
mod transfers;
