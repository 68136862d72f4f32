//! Several machines as one platform: the authority they trust, how they join and find each other, and what they tell each
//! other: log lines, routes, and what was asked at the wrong door.

mod admission;
mod authority;
mod entrance;
mod feed;
mod forward;
mod gate;
mod identity;
mod losses;
mod members;
mod receive;
mod relay;
mod spool;
mod subject;
mod token;

pub use admission::{Admission, Home, Joined, Share, enter, enter_server};
pub use authority::Authority;
pub use entrance::Entrance;
pub use feed::Feed;
pub use forward::Forward;
pub use gate::Gate;
pub use identity::{CellAuthority, InstanceAuthority};
pub use members::{Member, Members, ask, follow};
pub use receive::{PATH as ENVELOPES, receiver};
pub use relay::Relay;
pub use token::JoinToken;
