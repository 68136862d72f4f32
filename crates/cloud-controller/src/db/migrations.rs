//! The tables, forward only. Times are nanoseconds, flags 0 or 1, lists and objects JSON text; a column named `sealed_…`
//! holds what [`crate::seal`] sealed.

use sql::Migration;

pub const OWNER: &str = "cloud_controller";

pub const ALL: &[Migration] = &[
    Migration { name: "0001_everyday", sql: include_str!("migrations/0001_everyday.sql") },
    Migration { name: "0002_resources", sql: include_str!("migrations/0002_resources.sql") },
    Migration {
        name: "0003_router_groups",
        sql: include_str!("migrations/0003_router_groups.sql"),
    },
    Migration { name: "0004_seeded", sql: include_str!("migrations/0004_seeded.sql") },
];
