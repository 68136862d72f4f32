//! Values whose range or names the type itself knows, so that the file's line and the flag are named where one is wrong.

use std::fmt;
use std::str::FromStr;

use guardian::linux;
use serde::{Deserialize, Deserializer, Serialize, de};

/// A whole number from `LEAST` to `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Whole<const LEAST: u64, const MOST: u64>(u64);

impl<const LEAST: u64, const MOST: u64> Whole<LEAST, MOST> {
    /// `None` beyond the range.
    pub fn new(number: u64) -> Option<Self> {
        (LEAST..=MOST).contains(&number).then_some(Self(number))
    }

    pub fn get(self) -> u64 {
        self.0
    }
}

impl<const LEAST: u64, const MOST: u64> fmt::Display for Whole<LEAST, MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const LEAST: u64, const MOST: u64> FromStr for Whole<LEAST, MOST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().and_then(Self::new);
        number.ok_or_else(|| format!("expected a whole number from {LEAST} to {MOST}"))
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Whole<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<const LEAST: u64, const MOST: u64>;
        impl<const LEAST: u64, const MOST: u64> de::Visitor<'_> for Visitor<LEAST, MOST> {
            type Value = Whole<LEAST, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {LEAST} to {MOST}")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                let wrong = || E::invalid_value(de::Unexpected::Signed(number), &self);
                u64::try_from(number).ok().and_then(Whole::new).ok_or_else(wrong)
            }
        }
        deserializer.deserialize_i64(Visitor)
    }
}

/// What is done about containers that write too much, by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLimits(pub linux::DiskLimits);

impl FromStr for DiskLimits {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        linux::DiskLimits::parse(name).map(DiskLimits).ok_or_else(|| {
            let names: Vec<&str> = linux::DiskLimits::names().collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}

impl<'de> Deserialize<'de> for DiskLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let wrong = |expected| de::Error::custom(format!("unknown way {name:?}, {expected}"));
        name.parse().map_err(wrong)
    }
}
