"""A covariance that can be inverted and trusted: the sample's, shrunk towards equal variances.

Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (Journal
of Multivariate Analysis 88, 2004): the sample covariance S and m I, with m the mean variance, are
mixed so that the expected squared error is least. Perfectly correlated assets, or more of them than
observations, make S singular and the mixture regular.

``sklearn.covariance.ledoit_wolf`` is the same estimator, and tests hold this one equal to it. It is
not used here because a step would pay 1.8 s and 140 MiB to import it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.errors import DataUnavailable
from shared.risk.portfolio.returns import Array


@dataclass(frozen=True)
class Shrunk:
    """A covariance, its sums divided by the number of observations, and how far it was shrunk."""

    covariance: Array
    shrinkage: float


def ledoit_wolf(observations: Array) -> Shrunk:
    """The shrunk covariance of ``observations``, one a row and one asset a column.

    The distance of S from its target, d^2 = |S - m I|^2 / p, and its sampling error, b^2 = sum over
    observations of |x x' - S|^2 / (p n^2) and never more than d^2, give the shrinkage b^2 / d^2
    (lemmata 3.2 to 3.4; |.| is Frobenius' norm). One asset has nothing to be shrunk towards.

    Raises:
        DataUnavailable: fewer than two observations, no asset, or a value that is no number.
    """
    rows = np.asarray(observations, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[0] < 2 or rows.shape[1] < 1:
        raise DataUnavailable(
            "covariance: expected at least 2 observations of at least 1 asset, "
            f"was of shape {rows.shape}"
        )
    if not np.isfinite(rows).all():
        raise DataUnavailable("covariance: expected finite returns only")
    count, assets = rows.shape
    centred = rows - rows.mean(axis=0)
    sample = centred.T @ centred / count
    mean_variance = float(np.trace(sample)) / assets
    target = mean_variance * np.eye(assets)
    shrinkage = _shrinkage(centred, sample, target)
    return Shrunk((1 - shrinkage) * sample + shrinkage * target, shrinkage)


def _shrinkage(centred: Array, sample: Array, target: Array) -> float:
    count, assets = centred.shape
    distance = float(np.sum((sample - target) ** 2)) / assets
    # The sum of |x x' - S|^2 without its p x p terms: |x x'| is x'x, and the mean of x x' is S.
    lengths = np.einsum("ij,ij->i", centred, centred)
    error = (float(np.mean(lengths**2)) - float(np.sum(sample**2))) / (count * assets)
    # One asset lies on its target exactly, and so do assets that never move.
    return min(max(error, 0.0), distance) / distance if distance > 0 else 0.0
