//! `cupola up`: every role in one process.

use crate::machine;
use crate::roles::Roles;
use crate::server::Join;
use crate::settings::UpArgs;

pub fn main(args: UpArgs) -> anyhow::Result<()> {
    machine::main(args.resolve()?, &Roles::all(), &Join::No)
}
