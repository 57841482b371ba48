"""What the queries of a venue show, which may lag behind what it has done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from deploy.local.wire.orders import Fill, Order, Reason, Refused

if TYPE_CHECKING:
    from deploy.local.wire.matching import Exchange


class Queries:
    """Orders and fills of an exchange that are older than its query lag."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def orders(self) -> list[Order]:
        """All orders, oldest first."""
        return self._old_enough(self._exchange.orders.values())

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        """Resting orders, oldest first."""
        return self._old_enough(self._exchange.open_orders(symbol))

    def fills(self) -> list[Fill]:
        """All fills, oldest first."""
        horizon_ms = self._horizon_ms()
        fills = self._exchange.fills
        if horizon_ms is None:
            return fills
        return [fill for fill in fills if fill.at_ms <= horizon_ms]

    def order(self, order_id: int) -> Order:
        """Raises ``Refused`` where none of that id is shown."""
        return self._shown(self._exchange.order(order_id))

    def order_by_client_id(self, client_order_id: str) -> Order:
        """The newest order of that client id. Raises ``Refused`` where none is shown."""
        return self._shown(self._exchange.order_by_client_id(client_order_id))

    def _horizon_ms(self) -> int | None:
        """The newest time that is shown; ``None`` where nothing lags."""
        lag_ms = self._exchange.conditions.query_lag_ms
        return self._exchange.clock_ms - lag_ms if lag_ms else None

    def _old_enough(self, orders: Iterable[Order]) -> list[Order]:
        horizon_ms = self._horizon_ms()
        return [order for order in orders if horizon_ms is None or order.created_ms <= horizon_ms]

    def _shown(self, order: Order) -> Order:
        if not self._old_enough([order]):
            raise Refused(Reason.UNKNOWN_ORDER, str(order.order_id))
        return order
