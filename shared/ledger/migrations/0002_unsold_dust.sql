-- A position that was only ever dust is worth what it cost, as dust beside a sale is worth what the
-- rest was sold for. Without a sale it counted as lost.

CREATE OR REPLACE VIEW trades AS              -- closed positions that ever held something
SELECT position_id, pod, symbol, sleeve, strategy, decision_id, opened_at, closed_at, close_reason,
       bought_quantity, sold_quantity, average_entry_price, average_exit_price,
       cost_quote, proceeds_quote, fees_quote,
       -- dust that no venue takes stays in the balances
       quote_flow + quantity * coalesce(average_exit_price, average_entry_price) AS pnl_quote,
       100 * (quote_flow + quantity * coalesce(average_exit_price, average_entry_price))
           / nullif(cost_quote, 0)                    AS return_percent,
       quantity                                       AS dust_quantity
FROM position_summary
WHERE closed_at IS NOT NULL AND bought_quantity > 0;
