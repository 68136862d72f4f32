//! Names nobody has to think of: `brave-otter-qx`.

use rand::Rng;
use rand::seq::IndexedRandom as _;

const HOW: &[&str] = &[
    "agile", "amber", "ample", "azure", "bold", "brave", "brisk", "bright", "calm", "clever",
    "copper", "crisp", "daring", "deft", "eager", "early", "fair", "fleet", "fresh", "gentle",
    "golden", "grand", "happy", "hardy", "humble", "jolly", "keen", "kind", "lively", "lucid",
    "mellow", "merry", "mighty", "neat", "noble", "patient", "proud", "quick", "quiet", "rapid",
    "ready", "silver", "smart", "sober", "solid", "steady", "sunny", "swift", "tidy", "vivid",
    "warm", "wise",
];

const WHO: &[&str] = &[
    "badger", "bear", "beaver", "bison", "buzzard", "camel", "cheetah", "crane", "deer", "dolphin",
    "eagle", "falcon", "ferret", "finch", "fox", "gazelle", "gecko", "heron", "horse", "ibis",
    "jackal", "kestrel", "koala", "lark", "lemur", "leopard", "lynx", "magpie", "marmot", "mole",
    "moose", "newt", "ocelot", "oryx", "otter", "owl", "panda", "panther", "puffin", "quail",
    "rabbit", "raven", "robin", "seal", "sparrow", "squirrel", "stork", "swan", "tapir", "tiger",
    "turtle", "wombat",
];

/// Chance is an argument: the same numbers give the same name.
pub fn name(rng: &mut impl Rng) -> String {
    let mut letter = || char::from(b'a' + rng.random_range(0..26_u8));
    let tail: String = [letter(), letter()].iter().collect();
    let how = HOW.choose(rng).expect("the list is not empty");
    let who = WHO.choose(rng).expect("the list is not empty");
    format!("{how}-{who}-{tail}")
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn names_are_three_plain_words() {
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..100 {
            let name = name(&mut rng);
            assert_eq!(name.split('-').count(), 3, "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
        }
    }
}
