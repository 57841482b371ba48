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

-- A fee in a third currency that nobody has told a price of has no fee_quote until there is one, and
-- a fee that the venue has not told has neither cost nor currency: the fill itself must not wait for
-- either. Sums leave it out. Holdings and balances are then too high by an untold fee, until it is
-- told or a person books the difference that the comparison with the venue shows.
ALTER TABLE fills
    ALTER COLUMN fee_quote DROP NOT NULL,
    ALTER COLUMN fee_cost DROP NOT NULL,
    ALTER COLUMN fee_currency DROP NOT NULL,
    ADD CONSTRAINT fills_fee_is_whole CHECK ((fee_cost IS NULL) = (fee_currency IS NULL)),
    ADD CONSTRAINT fills_fee_quote_of_a_fee CHECK (fee_quote IS NULL OR fee_cost IS NOT NULL);
CREATE INDEX fills_of_unvalued_fees ON fills (pod)
    WHERE fee_quote IS NULL AND fee_cost IS NOT NULL;
CREATE INDEX fills_of_untold_fees ON fills (pod) WHERE fee_cost IS NULL;

CREATE OR REPLACE VIEW balances AS
SELECT pod, venue, currency, sum(amount) AS amount
FROM (
    SELECT pod, venue, currency, amount FROM transfers
    UNION ALL
    SELECT pod, venue, split_part(symbol, '/', 1), CASE side WHEN 'buy' THEN quantity ELSE -quantity END
    FROM fills
    UNION ALL
    SELECT pod, venue, split_part(symbol, '/', 2), CASE side WHEN 'buy' THEN -price * quantity ELSE price * quantity END
    FROM fills
    UNION ALL
    SELECT pod, venue, fee_currency, -fee_cost FROM fills WHERE fee_cost IS NOT NULL
) AS movements
GROUP BY pod, venue, currency;

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

-- How well each order was executed, from its fills. A fee without a known value in quote leaves the
-- order's fee unknown; its fill counts in everything else.
CREATE INDEX ON fills (intent_id);
CREATE INDEX ON intents (pod, sent_at DESC);

CREATE VIEW execution_quality AS              -- one row an order
SELECT i.pod, i.intent_id, i.parent_id, i.position_id, i.venue, i.symbol, i.side, i.purpose,
       i.order_type, i.time_in_force, i.mode, i.state, i.sent_at,
       extract(hour FROM i.sent_at AT TIME ZONE 'UTC')::integer AS hour_utc,
       i.quantity, i.limit_price, i.decision_mid, i.arrival_mid,
       f.fills, f.filled_quantity, f.notional_quote, f.maker_quote, f.taker_quote,
       f.fee_quote, 10000 * f.fee_quote / f.notional_quote AS fee_bps,
       100 * f.filled_quantity / i.quantity AS fill_rate_percent,
       f.average_price,
       10000 * f.sign * (f.average_price - i.decision_mid) / i.decision_mid AS slippage_bps,
       10000 * f.sign * (f.average_price - i.arrival_mid) / i.arrival_mid AS arrival_slippage_bps,
       1000 * extract(epoch FROM f.first_fill_at - i.sent_at) AS time_to_first_fill_ms,
       1000 * extract(epoch FROM f.last_fill_at - i.sent_at) AS time_to_fill_ms
FROM intents i
CROSS JOIN LATERAL (
    SELECT count(*) AS fills,
           coalesce(sum(quantity), 0) AS filled_quantity,
           sum(price * quantity) AS notional_quote,                    -- null where nothing filled
           sum(price * quantity) / sum(quantity) AS average_price,
           sum(price * quantity) FILTER (WHERE liquidity = 'maker') AS maker_quote,
           sum(price * quantity) FILTER (WHERE liquidity = 'taker') AS taker_quote,
           CASE WHEN count(fee_quote) = count(*) THEN sum(fee_quote) END AS fee_quote,
           CASE i.side WHEN 'buy' THEN 1 ELSE -1 END AS sign,          -- a cost is positive
           min(filled_at) AS first_fill_at, max(filled_at) AS last_fill_at
    FROM fills WHERE fills.intent_id = i.intent_id
) f;
