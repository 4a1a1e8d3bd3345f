"""Annotations of object-CXR: the shapes in a cell of its tables, and the box around each."""

from __future__ import annotations

import math
from typing import Final, Literal

from placecli.data.releases.outline_pole import find_pole
from placecli.records import Box, Shape

FOREIGN_OBJECT: Final = "Foreign Object"

_KINDS: Final[dict[str, Literal["rectangle", "ellipse", "polygon"]]] = {
    "0": "rectangle",
    "1": "ellipse",
    "2": "polygon",
}
_MAX_COORDINATE: Final = 1e5


def parse_annotation(text: str) -> tuple[Shape, ...]:
    """Shapes of "0 x1 y1 x2 y2;2 x1 y1 ... xn yn": 0 a rectangle, 1 an ellipse in its box, 2 a polygon; "" has none.

    Raises ValueError, without the text, for anything else.
    """
    return tuple(_parse_shape(part.split()) for part in text.split(";") if part.strip())


def box_around(shape: Shape) -> Box:
    """The smallest box around the shape."""
    xs, ys = zip(*shape.points, strict=True)
    return Box(FOREIGN_OBJECT, min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))


def compat_box_around(shape: Shape) -> Box:
    """MGCA's box: for a polygon the smallest that holds it and has its middle at the polygon's pole (`find_pole`)."""
    if shape.kind != "polygon":
        return box_around(shape)
    x, y = find_pole(shape.points)
    across = max(abs(point[0] - x) for point in shape.points)
    down = max(abs(point[1] - y) for point in shape.points)
    return Box(FOREIGN_OBJECT, x - across, y - down, 2 * across, 2 * down)


def _parse_shape(words: list[str]) -> Shape:
    kind = _KINDS.get(words[0])
    if kind is None:
        raise ValueError("a shape is none of 0, 1 and 2")
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError("a coordinate is not a number") from None
    if not all(math.isfinite(number) and abs(number) < _MAX_COORDINATE for number in numbers):
        raise ValueError("a coordinate is not a pixel's")
    is_whole = len(numbers) >= 6 and len(numbers) % 2 == 0 if kind == "polygon" else len(numbers) == 4
    if not is_whole:
        raise ValueError(f"a {kind} has {len(numbers)} numbers")
    return Shape(kind, tuple(zip(numbers[::2], numbers[1::2], strict=True)))
