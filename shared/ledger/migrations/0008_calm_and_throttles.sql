-- What the gate asks of a market before anything is bought in it, and strategies that a person has to
-- allow again.

-- Told by the venue whose candles the scan has, null for the others.
ALTER TABLE prices
    ADD COLUMN low_1m           numeric CHECK (low_1m > 0),           -- of the last closed minute
    ADD COLUMN high_1m          numeric CHECK (high_1m >= low_1m),
    ADD COLUMN volume_24h_quote numeric CHECK (volume_24h_quote >= 0);

CREATE TABLE throttles (                       -- a strategy that was carried out too often in a row
    throttle_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pod          text NOT NULL,
    symbol       text NOT NULL,
    strategy     text NOT NULL,
    tripped_at   timestamptz NOT NULL,
    detail       text NOT NULL,                -- the denial that tripped it, with its numbers
    reenabled_at timestamptz,                  -- executions are counted anew from here
    reenabled_by text,
    reason       text,
    CHECK ((reenabled_at IS NULL) = (reenabled_by IS NULL)),
    CHECK ((reenabled_at IS NULL) = (reason IS NULL))
);
CREATE UNIQUE INDEX one_tripped_throttle ON throttles (pod, symbol, strategy)
    WHERE reenabled_at IS NULL;
CREATE INDEX ON throttles (pod, symbol, strategy, reenabled_at DESC);
