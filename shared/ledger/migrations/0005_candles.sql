-- Closed candles of the venues, for analysis and replay, and to fill windows after the cache is
-- lost. Not of a pod: what a venue says is the same for all. A candle takes about 120 bytes with its
-- place in the index: 20 symbols make 4.5 MB a day in all six timeframes.

CREATE TABLE candle_series (
    series_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    venue     text NOT NULL,
    symbol    text NOT NULL,
    timeframe text NOT NULL,
    UNIQUE (venue, symbol, timeframe)
);

CREATE TABLE candles (
    series_id integer NOT NULL REFERENCES candle_series,
    open_ms   bigint NOT NULL,                 -- milliseconds since the epoch, UTC
    open      double precision NOT NULL,       -- market data, not money: as the analysis uses it
    high      double precision NOT NULL,
    low       double precision NOT NULL,
    close     double precision NOT NULL,
    volume    double precision NOT NULL,
    PRIMARY KEY (series_id, open_ms)
);
