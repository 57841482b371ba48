-- The markets of a venue, as a second copy beside Redis: a cold process that has lost Redis asks the
-- venue for all its markets no more often than one that has it.

CREATE TABLE venue_catalogues (                -- of a venue, not of a pod; fees differ with keys
    name      text PRIMARY KEY,                -- venue, traded symbols, with or without keys
    markets   jsonb NOT NULL,
    loaded_at timestamptz NOT NULL
);
