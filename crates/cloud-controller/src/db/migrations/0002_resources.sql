-- Files kept so that clients need not send them again; the longest unused go first.
CREATE TABLE resources (sha1 TEXT PRIMARY KEY, bytes BIGINT NOT NULL, used_at BIGINT NOT NULL);
CREATE INDEX resources_by_use ON resources (used_at);
CREATE INDEX app_usage_events_by_time ON app_usage_events (created_at);
CREATE INDEX service_usage_events_by_time ON service_usage_events (created_at);
CREATE INDEX tasks_by_end ON tasks (updated_at);
