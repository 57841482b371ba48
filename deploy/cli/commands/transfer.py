"""``trading-loop transfer``: book money that a person moved."""

from __future__ import annotations

import argparse
import re
from decimal import Decimal, InvalidOperation

from deploy.cli import output


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "transfer",
        help="book money that was paid in or out of a venue",
        description="Tell the ledger of money that moved other than by this system's orders. No "
        "money is moved by this. Reconciliation takes no new risk while a venue holds something "
        "else than the ledger says, and its alert names the difference to be booked.",
        epilog="An amount that went out begins with a minus: "
        "trading-loop transfer binance USDT -250 --note 'paid out in May'",
    )
    parser.add_argument("venue", metavar="VENUE", help="a configured venue, for example binance")
    parser.add_argument("currency", metavar="CURRENCY", type=_currency, help="for example USDT")
    parser.add_argument("amount", metavar="AMOUNT", type=_amount, help="what came in, or -AMOUNT")
    parser.add_argument(
        "--note",
        required=True,
        type=_note,
        metavar="TEXT",
        help="what it was; the same note books it once",
    )
    output.add_json_option(parser)
    parser.set_defaults(handler=handler)


def handler(args: argparse.Namespace) -> int:
    """Book the transfer and say what the ledger holds now."""
    from deploy.cli import ledgers
    from shared.errors import ConfigurationError
    from shared.ledger import transfers

    with ledgers.open_ledger() as opened, opened.own_time():
        if args.venue not in opened.settings.venues:
            raise ConfigurationError(
                f"VENUE: expected one of {', '.join(opened.settings.venues)}, was {args.venue!r}"
            )
        booked = transfers.book(
            opened.ledger,
            args.venue,
            args.currency,
            args.amount,
            note=args.note,
            booked_by=output.person(),
        )
        total = transfers.total(opened.ledger, args.venue, args.currency)
    if args.json:
        output.print_json(
            {"booked": booked, "venue": args.venue, "currency": args.currency,
             "amount": args.amount, "note": args.note, "ledger_total": total}
        )  # fmt: skip
    else:
        said = "Booked." if booked else "Nothing changed: it was booked under this note already."
        print(f"{said} The ledger says {total:f} {args.currency} on {args.venue}.")
    return 0


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount == 0:
        raise argparse.ArgumentTypeError(f"expected a number other than 0, was {text!r}")
    return amount


def _currency(text: str) -> str:
    if not re.fullmatch(r"[A-Z0-9]{2,12}", text):
        raise argparse.ArgumentTypeError(f"expected a currency in capitals as USDT, was {text!r}")
    return text


def _note(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected what it was, was nothing")
    return text.strip()
