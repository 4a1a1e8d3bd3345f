"""CheXpert-5x200-style sets: images that show one finding of a few and none of the others, so many for each finding.

The rule is that of MGCA's CheXpert 5x200 (GLoRIA's with a seed): positive for exactly one of the classes, every other
label 0 or absent; "No Finding" is left as it may be, and an uncertain label (-1) anywhere else excludes the image.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np

from placecli.records import PlaceError

CHEXPERT_CLASSES: Final = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
"""The five competition labels of CheXpert, in the order of the published sets."""

UNCONSTRAINED: Final = frozenset(("No Finding",))


def exclusive_pools(
    labels: Sequence[Mapping[str, float]],
    classes: Sequence[str] = CHEXPERT_CLASSES,
    unconstrained: Collection[str] = UNCONSTRAINED,
) -> dict[str, tuple[int, ...]]:
    """Class -> positions in `labels`, ascending, of the images that show that class and nothing else.

    `labels` holds label -> 1.0 (present), 0.0 (absent) or -1.0 (uncertain) for each image. An image shows nothing else
    if every other label that is not in `unconstrained` is 0.0 or not there.
    """
    pools: dict[str, list[int]] = {name: [] for name in classes}
    for position, values in enumerate(labels):
        marked = [name for name, value in values.items() if value != 0.0 and name not in unconstrained]
        if len(marked) == 1 and marked[0] in pools and values[marked[0]] == 1.0:
            pools[marked[0]].append(position)
    return {name: tuple(pool) for name, pool in pools.items()}


def exclusive_sets(
    labels: Sequence[Mapping[str, float]],
    classes: Sequence[str] = CHEXPERT_CLASSES,
    per_class: int = 200,
    seed: int = 0,
    unconstrained: Collection[str] = UNCONSTRAINED,
) -> dict[str, tuple[int, ...]]:
    """Class -> `per_class` positions drawn without replacement from its pool, in the order drawn.

    Every class is drawn with a generator of its own under the same seed, as the published code does it, so that the
    draw of one does not depend on the others; with seed 0 on the frontal rows of CheXpert's train.csv, in the order of
    the file, these are MGCA's 1,000 images. Raises PlaceError for a pool smaller than `per_class`.
    """
    pools = exclusive_pools(labels, classes, unconstrained)
    small = [f"{name} {len(pool)}" for name, pool in pools.items() if len(pool) < per_class]
    if small:
        raise PlaceError(
            f"exclusive sets: {per_class} images for each class were asked for and there are fewer that show it alone "
            f"({', '.join(small)}); ask for fewer, or take more splits of the store"
        )
    return {name: tuple(pool[at] for at in draw(len(pool), per_class, seed)) for name, pool in pools.items()}


def draw(count: int, size: int, seed: int) -> list[int]:
    """`size` of the positions 0 to count - 1 without replacement, in the order drawn.

    The same as pandas' `DataFrame.sample(n=size, random_state=seed)` and, for the first draw after
    `numpy.random.seed(seed)`, as `numpy.random.choice(count, size, replace=False)`: NumPy keeps that old generator as
    it is for good.
    """
    return [int(position) for position in np.random.RandomState(seed).choice(count, size=size, replace=False)]
