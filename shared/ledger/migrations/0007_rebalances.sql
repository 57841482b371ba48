-- What was planned to bring the core sleeve back to its target weights, and what became of it. The
-- orders are those of parents whose ids begin with the rebalance's.

CREATE TABLE rebalances (
    rebalance_id text PRIMARY KEY,              -- derived from pod and event: a repeat finds itself
    pod          text NOT NULL,
    at           timestamptz NOT NULL,
    reason       text NOT NULL,
    equity_quote numeric NOT NULL CHECK (equity_quote > 0),
    sleeve_quote numeric NOT NULL CHECK (sleeve_quote >= 0),  -- its share of the equity
    weights      jsonb NOT NULL,                -- by symbol: current and target, percent of the sleeve
    trades       jsonb NOT NULL,                -- side, symbol, notional, cost of each; sales first
    skipped      jsonb NOT NULL,                -- what was left out, and why
    state        text NOT NULL CHECK (state IN ('SELLING', 'BUYING', 'DONE', 'ENDED')),
    ended_at     timestamptz,
    ended_reason text,
    CHECK ((state IN ('DONE', 'ENDED')) = (ended_at IS NOT NULL)),
    CHECK ((ended_at IS NULL) = (ended_reason IS NULL))
);
CREATE UNIQUE INDEX one_open_rebalance ON rebalances (pod) WHERE state IN ('SELLING', 'BUYING');
CREATE INDEX ON rebalances (pod, at DESC);
