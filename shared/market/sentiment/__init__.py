"""The crowd's mood from outside: the fear-and-greed index and scored headlines."""

from shared.market.sentiment.fear_greed import fear_greed as fear_greed
