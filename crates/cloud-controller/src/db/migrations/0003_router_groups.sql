-- Whose ports TCP routes have. `configured_ports` is the setting as it was last taken over, empty for groups that were
-- made by the API.
CREATE TABLE router_groups (
    id $ID, guid TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, type TEXT NOT NULL, reservable_ports TEXT NOT NULL DEFAULT '',
    configured_ports TEXT NOT NULL DEFAULT '', created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL);
ALTER TABLE domains ADD COLUMN tcp BIGINT NOT NULL DEFAULT 0;
-- Every router serves all groups, so a port is one route's alone.
CREATE UNIQUE INDEX routes_by_port ON routes (port) WHERE port <> 0;
