"""Boxes of the lungs that come with the COVID-19 image data collection: one JSON file in COCO's form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from placecli.records import Box, PlaceError, Reject

BOXES: Final = "annotations/imageannotation_ai_lung_bounding_boxes.json"


@dataclass(frozen=True, slots=True)
class LungBoxes:
    """Boxes of one image in pixels of `frame` (width, height), the size of the picture that they were drawn on."""

    boxes: tuple[Box, ...]
    frame: tuple[int, int]


def read_lung_boxes(path: Path, rejects: list[Reject]) -> dict[str, LungBoxes]:
    """File name -> its boxes, called by their category; {} where the file is not there.

    An image whose name, size or boxes do not hold is left out with a `row_invalid`: half of its boxes would be wrong.
    Raises PlaceError for a file that is not COCO's.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8-sig"))
        categories = {item["id"]: str(item["name"]) for item in content["categories"]}
        images = {item["id"]: item for item in content["images"]}
        annotations = list(content["annotations"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PlaceError(f"{path}: not readable as COCO annotations ({type(error).__name__}); fetch it again") from None
    found: dict[str, LungBoxes] = {}
    drawn: dict[Any, list[Mapping[str, Any]]] = {key: [] for key in images}
    for annotation in annotations:
        key = annotation.get("image_id") if isinstance(annotation, dict) else None
        if isinstance(key, int | str) and key in drawn:
            drawn[key].append(annotation)
        else:
            rejects.append(Reject(BOXES, "row_invalid", "A box belongs to no image of this file."))
    for key, image in images.items():
        name = image.get("file_name")
        boxes = _parse(image, drawn[key], categories)
        if boxes is None or not isinstance(name, str) or name in found:
            message = "Its size, name or boxes do not hold, or it was there before; it is taken without boxes."
            rejects.append(Reject(f"{BOXES}:{key}", "row_invalid", message))
        elif boxes.boxes:
            found[name] = boxes
    return found


def _parse(image: Mapping[str, Any], drawn: list[Mapping[str, Any]], categories: Mapping[Any, str]) -> LungBoxes | None:
    """The boxes of an image, or None where one is not inside the frame or of no category."""
    try:
        width, height = int(image["width"]), int(image["height"])
        boxes = [Box(categories[item["category_id"]], *map(float, _four(item["bbox"]))) for item in drawn]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    # Comparisons with NaN are false.
    inside = [0 <= b.x < b.x + b.width <= width and 0 <= b.y < b.y + b.height <= height for b in boxes]
    return LungBoxes(tuple(boxes), (width, height)) if width > 0 < height and all(inside) else None


def _four(values: Any) -> tuple[Any, Any, Any, Any]:
    x, y, width, height = values
    return x, y, width, height
