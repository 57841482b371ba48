"""On which venues each open position lies, read once a run."""

from __future__ import annotations

from dataclasses import dataclass

from shared.ledger.connection import Ledger, Row
from shared.ledger.positions import Position


@dataclass(frozen=True)
class Holdings:
    """Rows ``venue, quantity`` by position, in base currency, largest first."""

    by_position: dict[int, list[Row]]

    @classmethod
    def read(cls, ledger: Ledger, held: list[Position]) -> Holdings:
        """Where the positions lie; a venue that holds nothing any more is left out."""
        found: dict[int, list[Row]] = {position.position_id: [] for position in held}
        if held:
            rows = ledger.query(
                "SELECT position_id, venue, quantity FROM position_holdings "
                "WHERE position_id = ANY(%s) AND quantity > 0 ORDER BY quantity DESC, venue",
                (list(found),),
            )
            for row in rows:
                found[row["position_id"]].append(row)
        return cls(found)

    def of(self, position_id: int) -> list[Row]:
        """The rows of one position; none where it was not held when they were read."""
        return self.by_position.get(position_id, [])
