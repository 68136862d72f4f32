//! The `uaa_*` tables. Nobody else names them.

pub(crate) mod clients;
pub(crate) mod codes;
pub(crate) mod groups;
pub(crate) mod keys;
pub(crate) mod revocations;
pub(crate) mod settings;
pub(crate) mod users;

use sql::Migration;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration { name: "0001_accounts", sql: ACCOUNTS }];

/// `name_key` is the lower-case name: names are compared without case. Moments are nanoseconds, 0 for never.
const ACCOUNTS: &str = "
CREATE TABLE uaa_settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE uaa_keys (slot BIGINT PRIMARY KEY, kid TEXT NOT NULL UNIQUE, sealed TEXT NOT NULL, created_at BIGINT NOT NULL);
CREATE TABLE uaa_users (
    guid TEXT PRIMARY KEY,
    user_name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    origin TEXT NOT NULL,
    external_id TEXT NOT NULL,
    email TEXT NOT NULL,
    family_name TEXT NOT NULL,
    given_name TEXT NOT NULL,
    phone_number TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    password_changed_at BIGINT NOT NULL,
    password_change_required BIGINT NOT NULL,
    active BIGINT NOT NULL,
    verified BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    logon_at BIGINT NOT NULL,
    previous_logon_at BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    failing_since BIGINT NOT NULL,
    locked_until BIGINT NOT NULL,
    UNIQUE (name_key, origin)
);
CREATE INDEX uaa_users_created ON uaa_users (created_at, guid);
CREATE TABLE uaa_groups (
    guid TEXT PRIMARY KEY,
    display_name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE uaa_members (
    group_guid TEXT NOT NULL REFERENCES uaa_groups (guid) ON DELETE CASCADE,
    member_guid TEXT NOT NULL,
    kind TEXT NOT NULL,
    origin TEXT NOT NULL,
    PRIMARY KEY (group_guid, member_guid)
);
CREATE INDEX uaa_members_member ON uaa_members (member_guid);
CREATE TABLE uaa_clients (
    client_id TEXT PRIMARY KEY,
    details TEXT NOT NULL,
    secret_hash TEXT NOT NULL,
    second_hash TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE uaa_codes (
    digest TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    user_guid TEXT NOT NULL,
    client_id TEXT NOT NULL,
    details TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX uaa_codes_expires ON uaa_codes (expires_at);
CREATE TABLE uaa_revocations (id TEXT PRIMARY KEY, before BIGINT NOT NULL, until BIGINT NOT NULL);
CREATE INDEX uaa_revocations_until ON uaa_revocations (until)";
