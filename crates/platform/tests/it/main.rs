//! The whole platform, from outside: the real program, its own command line, other people's clients, real apps.

mod harness;
mod layers;
mod lifecycle;
mod survival;
mod third_party;
mod up;
