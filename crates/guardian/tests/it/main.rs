//! Containers of both kinds on this very host.

mod bed;
mod linux;
