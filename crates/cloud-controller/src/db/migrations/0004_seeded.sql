-- What was made at a start of the platform and is an operator's since: whatever of it was deleted or renamed stays so.
CREATE TABLE seeded (kind TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (kind, name));
