//! The whole platform, from outside: the real program, its own command line, other people's clients, real apps.

mod cells;
mod harness;
mod layers;
mod lifecycle;
mod load;
mod machines;
mod operate;
mod settings;
mod survival;
mod tcp;
mod third_party;
mod up;
