-- Which symbols a pod trades where SYMBOLS is auto: every choice is kept, with its reasons.

CREATE TABLE universes (
    universe_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pod            text NOT NULL,
    venue          text NOT NULL,              -- the primary one, by whose market it was chosen
    quote_currency text NOT NULL,
    chosen_at      timestamptz NOT NULL,
    symbols        text[] NOT NULL CHECK (cardinality(symbols) > 0),
    members        jsonb NOT NULL,             -- one an item of symbols, with the figures it has
    excluded       jsonb NOT NULL,             -- [symbol, reason, value, limit], most traded first
    limits         jsonb NOT NULL              -- the settings that it was chosen by
);
CREATE INDEX ON universes (pod, chosen_at DESC);

-- A choice takes minutes, because histories are asked for a few a minute: what it knows so far.
CREATE TABLE universe_choices (
    pod        text PRIMARY KEY,
    started_at timestamptz NOT NULL,
    progress   jsonb,                          -- the listing and the histories; null before them
    failed_at  timestamptz,                    -- the newest failure; the next try waits after it
    failure    text
);
