"""What perpetual contracts tell of the spot market: funding rates and forced liquidations.

From Gate's public REST interface, without keys, through ccxt. Why Gate: of the exchanges whose
public liquidations ccxt 4.5.90 knows (Bitfinex, Deribit, Gate, HTX), it answers for all contracts
in one request, and so it does for funding rates; it lists a perpetual of nearly every coin.
Bitfinex trades little and lets one ask three times a minute, HTX wants a request a contract, and
what Deribit tells are bankruptcies of its insurance. Binance and Bybit answer no address in the
United States; OKX's call is not in ccxt any more. Importing Gate's class beside the others costs
6 ms and 2 MiB.
"""

from __future__ import annotations

from shared.market.derivatives.reading import Derivatives, read

__all__ = ["Derivatives", "read"]
