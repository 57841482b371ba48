-- The ledger. Money, prices and quantities are numeric; times are timestamptz; every row of an
-- instance carries its pod. What can be derived from fills is a view, never a stored copy.

-- Who may act, and what is running -----------------------------------------------------------

CREATE TABLE trading_state (
    pod               text PRIMARY KEY,
    state             text NOT NULL DEFAULT 'ACTIVE' CHECK (state IN ('ACTIVE', 'REDUCING', 'HALTED')),
    reason            text NOT NULL DEFAULT 'new ledger',
    set_by            text NOT NULL DEFAULT 'migration',
    since             timestamptz NOT NULL,
    pause_until       timestamptz,                       -- a pause ends by itself after this, once healthy
    rearm_required    boolean NOT NULL DEFAULT false,    -- only a person ends it
    size_factor       numeric NOT NULL DEFAULT 1 CHECK (size_factor > 0 AND size_factor <= 1),
    limit_orders_only boolean NOT NULL DEFAULT false,
    close_all         boolean NOT NULL DEFAULT false,    -- positions are to be closed while HALTED
    rearmed_at        timestamptz                        -- drawdown is counted from here on
);

CREATE TABLE arm_tokens (
    token_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pod        text NOT NULL,
    armed_by   text NOT NULL,
    armed_at   timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);

CREATE TABLE leases (
    pod        text NOT NULL,
    workflow   text NOT NULL,
    epoch      bigint NOT NULL DEFAULT 0,      -- the fencing token: grows with every holder
    holder     text,                           -- trace id of the run that holds it
    expires_at timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (pod, workflow)
);

CREATE TABLE runs (
    run_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pod         text NOT NULL,
    workflow    text NOT NULL,
    trace_id    text NOT NULL,
    event_at    timestamptz NOT NULL,
    epoch       bigint NOT NULL,
    build       text NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz,
    status      text NOT NULL DEFAULT 'RUNNING' CHECK (status IN ('RUNNING', 'DONE', 'FAILED')),
    duration_ms double precision,
    error       text,
    UNIQUE (pod, workflow, trace_id)
);
CREATE INDEX ON runs (pod, workflow, event_at DESC);

CREATE TABLE events (                          -- what a person would want to find later
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pod      text NOT NULL,
    at       timestamptz NOT NULL,
    kind     text NOT NULL,                    -- for example RECONCILE_DIFFERENCE, STATE_CHANGED
    detail   jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ON events (pod, at DESC);

-- What was seen and decided -------------------------------------------------------------------

CREATE TABLE scans (
    scan_id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pod                text NOT NULL,
    run_id             bigint NOT NULL REFERENCES runs,
    at                 timestamptz NOT NULL,
    parameters_version bigint NOT NULL,
    ai_score           double precision,       -- null where no symbol could be scored
    next_action        text NOT NULL CHECK (next_action IN ('TRADE', 'WAIT')),
    payload            jsonb NOT NULL          -- the step's export
);
CREATE INDEX ON scans (pod, at DESC);

CREATE TABLE decisions (
    decision_id     text PRIMARY KEY,          -- derived from pod, run and symbol: a repeat finds itself
    pod             text NOT NULL,
    run_id          bigint NOT NULL REFERENCES runs,
    at              timestamptz NOT NULL,
    symbol          text,                      -- null for HOLD without a candidate
    action          text NOT NULL CHECK (action IN ('BUY', 'SELL', 'HOLD')),
    source          text NOT NULL CHECK (source IN ('ensemble', 'models')),
    strategy        text,
    confidence      double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    size_fraction   double precision NOT NULL CHECK (size_fraction BETWEEN 0 AND 1),
    mid_price       numeric CHECK (mid_price > 0),
    reasoning       text NOT NULL,
    inputs          jsonb NOT NULL,            -- strategies, regimes, candidates
    model_calls     jsonb NOT NULL DEFAULT '[]' -- prompts, raw answers, latency, tokens, cost
);
CREATE INDEX ON decisions (pod, at DESC);

CREATE TABLE risk_checks (
    decision_id text PRIMARY KEY REFERENCES decisions,
    pod         text NOT NULL,
    at          timestamptz NOT NULL,
    approved    boolean NOT NULL,
    size_quote  numeric NOT NULL CHECK (size_quote >= 0),
    exits       jsonb NOT NULL,
    metrics     jsonb NOT NULL,
    reasoning   jsonb NOT NULL,
    adjustments jsonb NOT NULL
);

-- What was ordered, what came of it ------------------------------------------------------------

CREATE TABLE positions (
    position_id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pod                       text NOT NULL,
    symbol                    text NOT NULL,
    sleeve                    text NOT NULL DEFAULT 'tactical' CHECK (sleeve IN ('tactical', 'core')),
    strategy                  text NOT NULL,
    decision_id               text REFERENCES decisions,
    opened_at                 timestamptz NOT NULL,
    closed_at                 timestamptz,
    close_reason              text,
    exit_reason               text,              -- why it is being left, before it is closed
    stop_price                numeric NOT NULL CHECK (stop_price >= 0),
    target_price              numeric CHECK (target_price > 0),
    trailing_activation_price numeric CHECK (trailing_activation_price > 0),
    trailing_distance_percent numeric CHECK (trailing_distance_percent > 0),
    high_water_price          numeric CHECK (high_water_price > 0),
    time_stop_at              timestamptz,
    partial_taken             boolean NOT NULL DEFAULT false,
    CHECK ((closed_at IS NULL) = (close_reason IS NULL))
);
CREATE UNIQUE INDEX one_open_position ON positions (pod, symbol, sleeve) WHERE closed_at IS NULL;
CREATE INDEX ON positions (pod, closed_at DESC);

CREATE TABLE parent_orders (                   -- a TWAP order; its slices are intents
    parent_id        text PRIMARY KEY,
    pod              text NOT NULL,
    position_id      bigint NOT NULL REFERENCES positions,
    decision_id      text REFERENCES decisions,
    symbol           text NOT NULL,
    side             text NOT NULL CHECK (side IN ('buy', 'sell')),
    purpose          text NOT NULL CHECK (purpose IN ('entry', 'exit', 'rebalance')),
    reason           text NOT NULL,
    quantity         numeric NOT NULL CHECK (quantity > 0),  -- base
    decision_mid     numeric NOT NULL CHECK (decision_mid > 0),
    urgency          text NOT NULL CHECK (urgency IN ('normal', 'high')),
    slices           integer NOT NULL CHECK (slices > 0),
    interval_seconds integer NOT NULL,
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    state            text NOT NULL DEFAULT 'WORKING'
                     CHECK (state IN ('WORKING', 'DONE', 'EXPIRED', 'CANCELLED')),
    ended_reason     text
);
CREATE INDEX ON parent_orders (pod, state);

CREATE TABLE intents (                         -- committed before anything is sent
    intent_id       text PRIMARY KEY,
    logical_key     text NOT NULL UNIQUE,
    client_order_id text NOT NULL UNIQUE,
    pod             text NOT NULL,
    position_id     bigint NOT NULL REFERENCES positions,
    parent_id       text REFERENCES parent_orders,
    slice           integer,
    venue           text NOT NULL,
    symbol          text NOT NULL,
    side            text NOT NULL CHECK (side IN ('buy', 'sell')),
    purpose         text NOT NULL CHECK (purpose IN ('entry', 'exit', 'rebalance', 'protect')),
    order_type      text NOT NULL CHECK (order_type IN ('limit', 'market', 'stop_limit')),
    time_in_force   text NOT NULL CHECK (time_in_force IN ('IOC', 'GTC')),
    quantity        numeric NOT NULL CHECK (quantity > 0),
    limit_price     numeric NOT NULL CHECK (limit_price > 0),
    stop_price      numeric CHECK (stop_price > 0),
    decision_mid    numeric NOT NULL CHECK (decision_mid > 0),
    arrival_mid     numeric NOT NULL CHECK (arrival_mid > 0),
    epoch           bigint NOT NULL,
    sent_at         timestamptz NOT NULL,
    valid_until     timestamptz NOT NULL,
    state           text NOT NULL DEFAULT 'SENDING'
                    CHECK (state IN ('SENDING', 'ACKNOWLEDGED', 'REJECTED', 'UNKNOWN', 'DEAD')),
    resolved_at     timestamptz,
    error           text
);
CREATE INDEX ON intents (pod, state);
CREATE INDEX ON intents (pod, symbol, sent_at DESC);

CREATE TABLE orders (                          -- what the venue says about an acknowledged intent
    venue           text NOT NULL,
    venue_order_id  text NOT NULL,
    intent_id       text NOT NULL UNIQUE REFERENCES intents,
    pod             text NOT NULL,
    status          text NOT NULL CHECK (status IN ('open', 'filled', 'cancelled', 'expired', 'rejected')),
    quantity        numeric NOT NULL,
    filled_quantity numeric NOT NULL DEFAULT 0,
    average_price   numeric,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (venue, venue_order_id)
);
CREATE INDEX ON orders (pod, status);

CREATE TABLE fills (                           -- unique by the venue's trade id: a repeat changes nothing
    venue          text NOT NULL,
    venue_trade_id text NOT NULL,
    venue_order_id text NOT NULL,
    intent_id      text NOT NULL REFERENCES intents,
    position_id    bigint NOT NULL REFERENCES positions,
    pod            text NOT NULL,
    symbol         text NOT NULL,
    side           text NOT NULL CHECK (side IN ('buy', 'sell')),
    price          numeric NOT NULL CHECK (price > 0),
    quantity       numeric NOT NULL CHECK (quantity > 0),
    fee_cost       numeric NOT NULL,
    fee_currency   text NOT NULL,
    fee_quote      numeric NOT NULL,           -- the fee in quote currency at the fill's price
    liquidity      text CHECK (liquidity IN ('maker', 'taker')),
    filled_at      timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    PRIMARY KEY (venue, symbol, venue_trade_id)
);
CREATE INDEX ON fills (pod, filled_at DESC);
CREATE INDEX ON fills (position_id);

CREATE TABLE transfers (                       -- money that came in or went out other than by fills
    transfer_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pod         text NOT NULL,
    venue       text NOT NULL,
    currency    text NOT NULL,
    amount      numeric NOT NULL,
    at          timestamptz NOT NULL,
    note        text NOT NULL,
    UNIQUE (pod, venue, currency, note)
);

-- How it goes -----------------------------------------------------------------------------------

CREATE TABLE equity (
    pod             text NOT NULL,
    at              timestamptz NOT NULL,
    equity_quote    numeric NOT NULL,
    cash_quote      numeric NOT NULL,
    positions_quote numeric NOT NULL,
    PRIMARY KEY (pod, at)
);
CREATE INDEX ON equity (pod, equity_quote DESC);   -- the high-water mark without a scan

CREATE TABLE prices (                          -- the last mid of each symbol on each venue
    pod    text NOT NULL,
    venue  text NOT NULL,
    symbol text NOT NULL,
    bid    numeric NOT NULL CHECK (bid > 0),
    ask    numeric NOT NULL CHECK (ask >= bid),
    at     timestamptz NOT NULL,
    PRIMARY KEY (pod, venue, symbol)
);

CREATE TABLE venue_calls (                     -- one row a run and venue
    pod             text NOT NULL,
    run_id          bigint NOT NULL REFERENCES runs,
    venue           text NOT NULL,             -- or openai, anthropic, slack, redis
    at              timestamptz NOT NULL,
    calls           integer NOT NULL,
    failures        integer NOT NULL,
    rate_limited    integer NOT NULL DEFAULT 0,
    mean_latency_ms double precision NOT NULL,
    max_latency_ms  double precision NOT NULL,
    last_error      text,
    PRIMARY KEY (run_id, venue)
);
CREATE INDEX ON venue_calls (pod, at DESC);

CREATE TABLE parameters (                      -- a version is the whole set; the newest is in force
    pod        text NOT NULL,
    version    bigint NOT NULL,
    parameters jsonb NOT NULL,
    set_by     text NOT NULL,                  -- 'defaults', 'optimiser' or a person
    reason     text NOT NULL,
    evidence   jsonb NOT NULL DEFAULT '{}',
    at         timestamptz NOT NULL,
    PRIMARY KEY (pod, version)
);

CREATE TABLE performance (
    pod             text NOT NULL,
    at              timestamptz NOT NULL,
    window_hours    integer NOT NULL,
    metrics         jsonb NOT NULL,
    recommendations jsonb NOT NULL,
    applied         jsonb NOT NULL,
    PRIMARY KEY (pod, at)
);

CREATE TABLE health (
    pod             text NOT NULL,
    at              timestamptz NOT NULL,
    status          text NOT NULL,
    checks          jsonb NOT NULL,
    actions         jsonb NOT NULL,
    circuit_breaker jsonb NOT NULL,
    PRIMARY KEY (pod, at)
);

CREATE TABLE alerts (                          -- the outbox: written with the change, sent afterwards
    alert_id   text PRIMARY KEY,               -- derived from what it is about: told once
    pod        text NOT NULL,
    at         timestamptz NOT NULL,
    severity   text NOT NULL CHECK (severity IN ('INFO', 'WARNING', 'HIGH', 'CRITICAL')),
    title      text NOT NULL,
    body       text NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    sent_at    timestamptz,
    last_error text
);
CREATE INDEX ON alerts (pod, at DESC);

-- Derived ---------------------------------------------------------------------------------------

CREATE VIEW balances AS
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
    SELECT pod, venue, fee_currency, -fee_cost FROM fills
) AS movements
GROUP BY pod, venue, currency;

CREATE VIEW position_holdings AS              -- what each position holds on each venue, base fees paid
SELECT position_id, venue,
       sum(CASE side WHEN 'buy' THEN quantity ELSE -quantity END
           - CASE WHEN fee_currency = split_part(symbol, '/', 1) THEN fee_cost ELSE 0 END) AS quantity
FROM fills
GROUP BY position_id, venue;

CREATE VIEW position_summary AS
SELECT p.*,
       coalesce(f.quantity, 0)            AS quantity,           -- base held now
       coalesce(f.bought_quantity, 0)     AS bought_quantity,
       coalesce(f.sold_quantity, 0)       AS sold_quantity,
       f.average_entry_price,
       f.average_exit_price,
       coalesce(f.cost_quote, 0)          AS cost_quote,         -- paid for all buys, without fees
       coalesce(f.proceeds_quote, 0)      AS proceeds_quote,     -- received for all sells, without fees
       coalesce(f.fees_quote, 0)          AS fees_quote,         -- all fees, in quote
       coalesce(f.quote_flow, 0)          AS quote_flow,         -- proceeds - cost - fees paid in quote
       f.first_fill_at, f.last_fill_at
FROM positions p
LEFT JOIN (
    SELECT position_id,
           sum(CASE side WHEN 'buy' THEN quantity ELSE -quantity END
               - CASE WHEN fee_currency = split_part(symbol, '/', 1) THEN fee_cost ELSE 0 END) AS quantity,
           sum(quantity) FILTER (WHERE side = 'buy')  AS bought_quantity,
           sum(quantity) FILTER (WHERE side = 'sell') AS sold_quantity,
           sum(price * quantity) FILTER (WHERE side = 'buy')
               / sum(quantity) FILTER (WHERE side = 'buy')  AS average_entry_price,
           sum(price * quantity) FILTER (WHERE side = 'sell')
               / sum(quantity) FILTER (WHERE side = 'sell') AS average_exit_price,
           sum(price * quantity) FILTER (WHERE side = 'buy')  AS cost_quote,
           sum(price * quantity) FILTER (WHERE side = 'sell') AS proceeds_quote,
           sum(fee_quote) AS fees_quote,
           sum(CASE side WHEN 'buy' THEN -price * quantity ELSE price * quantity END
               - CASE WHEN fee_currency = split_part(symbol, '/', 2) THEN fee_cost ELSE 0 END) AS quote_flow,
           min(filled_at) AS first_fill_at,
           max(filled_at) AS last_fill_at
    FROM fills
    GROUP BY position_id
) f USING (position_id);

CREATE VIEW trades AS                         -- closed positions that ever held something
SELECT position_id, pod, symbol, sleeve, strategy, decision_id, opened_at, closed_at, close_reason,
       bought_quantity, sold_quantity, average_entry_price, average_exit_price,
       cost_quote, proceeds_quote, fees_quote,
       -- dust that no venue takes stays in the balances: it is worth what the rest was sold for
       quote_flow + quantity * coalesce(average_exit_price, 0) AS pnl_quote,
       100 * (quote_flow + quantity * coalesce(average_exit_price, 0)) / nullif(cost_quote, 0)
                                                      AS return_percent,
       quantity                                       AS dust_quantity
FROM position_summary
WHERE closed_at IS NOT NULL AND bought_quantity > 0;

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
