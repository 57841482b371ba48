"""The capital that a pod begins with."""

from __future__ import annotations

from decimal import Decimal

from deploy.local.accounts import equal_shares
from shared.config import Config
from shared.errors import ConfigurationError
from shared.ledger import transfers
from shared.ledger.connection import Ledger


def fund(base: Ledger, pod: str, settings: Config, *, shared: bool, booked_by: str) -> None:
    """Book a pod's ``CAPITAL_QUOTE`` in equal parts on its venues.

    Args:
        base: the ledger of the pod whose project it is.
        shared: the money is a part of what the base pod has on the accounts that both use, so that
            the sum over the pods stays what the venues hold; otherwise it is play money of paper.

    Raises:
        ConfigurationError: the base pod has not as much there.
    """
    own, currency = base.of_pod(pod), settings.quote_currency
    shares = equal_shares(settings.capital_quote, settings.venues, currency)
    note = f"capital of pod {pod}"
    for venue, amounts in shares.items():
        amount = amounts[currency]
        if shared:
            _refuse_more_than_held(base, venue, currency, amount)
            transfers.book(base, venue, currency, -amount, note=note, booked_by=booked_by)
        transfers.book(own, venue, currency, amount, note=note, booked_by=booked_by)


def _refuse_more_than_held(base: Ledger, venue: str, currency: str, amount: Decimal) -> None:
    held = transfers.total(base, venue, currency)
    if held < amount:
        raise ConfigurationError(
            f"--capital: {venue}: expected at most {held:f} {currency}, which pod {base.pod} has "
            f"there, was {amount:f}"
        )
