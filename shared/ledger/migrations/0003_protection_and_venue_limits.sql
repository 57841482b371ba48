-- Stops that rest on a venue, how long a position was without one, what a venue has asked us to
-- wait for, and on which way an order was sent.

ALTER TABLE intents
    DROP CONSTRAINT intents_order_type_check,
    DROP CONSTRAINT intents_time_in_force_check,
    ADD CONSTRAINT intents_order_type_check
        CHECK (order_type IN ('limit', 'market', 'stop_limit', 'stop_market')),
    ADD CONSTRAINT intents_time_in_force_check CHECK (time_in_force IN ('IOC', 'FOK', 'GTC', 'GTD')),
    ADD COLUMN post_only boolean NOT NULL DEFAULT false,
    ADD COLUMN mode text CHECK (mode IN ('paper', 'simulated', 'live'));  -- null: before this column

CREATE TABLE naked_intervals (                 -- held on a venue without a stop resting there
    interval_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pod         text NOT NULL,
    position_id bigint NOT NULL REFERENCES positions,
    venue       text NOT NULL,
    since       timestamptz NOT NULL,
    until       timestamptz CHECK (until >= since),
    why         text NOT NULL
);
CREATE UNIQUE INDEX one_open_naked_interval ON naked_intervals (position_id, venue) WHERE until IS NULL;

-- A venue's limits hold for a key or an address, whatever pod it serves: no pod here.
CREATE TABLE venue_limits (
    venue         text PRIMARY KEY,
    blocked_until timestamptz NOT NULL,        -- ask nothing of it before (429 and 418 with Retry-After)
    banned        boolean NOT NULL DEFAULT false,
    reason        text NOT NULL,
    at            timestamptz NOT NULL
);

DROP VIEW order_log;
CREATE VIEW order_log AS                      -- one row an intent, with what came of it
SELECT i.*, o.venue_order_id, o.status AS order_status,
       coalesce(o.filled_quantity, 0) AS filled_quantity, o.average_price,
       CASE WHEN o.average_price IS NOT NULL THEN
           10000 * CASE i.side WHEN 'buy' THEN o.average_price - i.decision_mid
                               ELSE i.decision_mid - o.average_price END / i.decision_mid
       END AS slippage_bps,                           -- positive is worse than the decision's mid
       CASE WHEN o.average_price IS NOT NULL THEN
           10000 * CASE i.side WHEN 'buy' THEN o.average_price - i.arrival_mid
                               ELSE i.arrival_mid - o.average_price END / i.arrival_mid
       END AS arrival_slippage_bps
FROM intents i
LEFT JOIN orders o USING (intent_id);
