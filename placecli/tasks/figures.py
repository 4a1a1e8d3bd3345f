"""Pictures of where: a radiograph with one panel a sentence, the map laid over it, its box and the marked region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from placecli.data import atomic
from placecli.metrics.grounding import resize_bilinear
from placecli.records import Box, PlaceError

Picture = NDArray[np.uint8]

_PANEL: Final = 360
"""Longest side of a panel's image, pixels."""
_MARGIN: Final = 14
_COLUMNS: Final = 4
_FONT_SIZE: Final = 15
_LINE: Final = 20
_LINES: Final = 6
_BACKGROUND: Final = (16, 17, 20)
_TEXT: Final = (235, 235, 235)
_FAINT: Final = (150, 152, 158)
_BOX: Final = (90, 220, 255)
_MASK: Final = (120, 255, 140)
_OPACITY: Final = 0.62
_COLOUR: Final = "Colour: attention, relative to the maximum of its own panel."
_BOXES: Final = (
    " Box: its strongest region. Every sentence gets one, also one that denies a finding or that the image does not"
    " support: read it with the score."
)
_OUTLINES: Final = " Green outline: what was marked."
_WARNING: Final = " Not for clinical use."


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: a title, a map [r, c] over the image's frame, and optionally score, box and marked region.

    `box` is in fractions of the image. `mask` bool [H, W] covers the image at any resolution; its outline is drawn.
    """

    title: str
    heat: NDArray[Any]
    box: Box | None = None
    mask: NDArray[Any] | None = None
    score: float | None = None


def draw_heatmaps(image: NDArray[np.uint8], panels: Sequence[Panel], heading: str = "") -> Picture:
    """uint8 RGB [H, W, 3]: the image alone, then a panel for each entry, in even rows of at most four, text below.

    `image` uint8 [h, w]. A map's colour shows its value relative to the map's own maximum; what is near zero is
    transparent. Cyan is the box that the model points at, green the region that was marked; `legend` stands below.
    """
    gray = _enlarge(image, _PANEL)
    width = gray.shape[1]
    pictures = [gray, *(_overlay(gray, panel) for panel in panels)]
    captions = [_wrap(heading or "image", width), *(_caption(panel, width) for panel in panels)]
    return _arrange(pictures, captions, legend(panels))


def legend(panels: Sequence[Panel]) -> str:
    """What colour, box and outline mean, of those that the panels show."""
    boxes = _BOXES if any(panel.box for panel in panels) else ""
    outlines = _OUTLINES if any(panel.mask is not None for panel in panels) else ""
    return _COLOUR + boxes + outlines + _WARNING


def draw_overlay(image: NDArray[np.uint8], panel: Panel, longest: int = _PANEL) -> Picture:
    """uint8 RGB: one panel's picture without text, its longest side `longest` pixels."""
    return _overlay(_enlarge(image, longest), panel)


def write_png(path: Path, picture: Picture) -> None:
    """Write an RGB picture as PNG; the file appears whole. Raises PlaceError where it cannot be written."""
    converted = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    is_done, encoded = cv2.imencode(".png", converted)
    if not is_done:
        raise OSError(f"{path}: the picture cannot be encoded")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_file(path, encoded.tobytes())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PlaceError(f"{path}: the picture cannot be written ({reason}); check the folder and its rights") from None


def crop_to_content(values: NDArray[Any], content: tuple[int, int, int, int], size: int) -> NDArray[Any]:
    """A map [r, c] over a frame of `size` pixels -> float64 [h, w] over its content rectangle (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = content
    return resize_bilinear(values, (size, size))[y0:y1, x0:x1]


def _enlarge(image: NDArray[np.uint8], longest: int) -> Picture:
    """uint8 RGB [H, W, 3], the longest side `longest` pixels."""
    scale = longest / max(image.shape)
    width, height = (max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB), np.uint8)


def _overlay(gray: Picture, panel: Panel) -> Picture:
    height, width = gray.shape[:2]
    heat = resize_bilinear(panel.heat, (height, width))
    peak = heat.max()
    strength = np.clip(heat / peak, 0, 1) if peak > 0 else np.zeros_like(heat)
    colours = cv2.applyColorMap((strength * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    # Below a fifth of the maximum nothing is laid over; from there the opacity grows with the value.
    opacity = _OPACITY * np.clip((strength - 0.2) / 0.5, 0, 1)[:, :, None]
    picture = np.ascontiguousarray((gray * (1 - opacity) + colours * opacity).round().astype(np.uint8))
    if panel.mask is not None:
        mask = cv2.resize((np.asarray(panel.mask) > 0).astype(np.float32), (width, height))
        outlines, _ = cv2.findContours((mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(picture, outlines, -1, _MASK, 1, cv2.LINE_AA)
    if panel.box is not None:
        box = panel.box
        first = (round(box.x * (width - 1)), round(box.y * (height - 1)))
        last = (round((box.x + box.width) * (width - 1)), round((box.y + box.height) * (height - 1)))
        cv2.rectangle(picture, first, last, _BOX, 2, cv2.LINE_AA)
    return picture


def _caption(panel: Panel, width: int) -> list[str]:
    score = "" if panel.score is None else f"{panel.score:+.2f}  "
    return _wrap(score + panel.title, width)


def _wrap(text: str, width: int) -> list[str]:
    """Lines that fit `width` pixels in our font, at most six, the last cut with dots; a longer word is broken."""
    font, lines = _font(), [""]
    most = max(1, int(width / font.getlength("0")))
    words = (word[i : i + most] for word in text.split() for i in range(0, len(word), most))
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines if len(lines) <= _LINES else [*lines[: _LINES - 1], f"{lines[_LINES - 1]} ..."]


def _arrange(pictures: Sequence[Picture], captions: Sequence[list[str]], text_below: str) -> Picture:
    height, width = pictures[0].shape[:2]
    columns = -(-len(pictures) // -(-len(pictures) // _COLUMNS))
    rows = [range(first, min(first + columns, len(pictures))) for first in range(0, len(pictures), columns)]
    heights = [height + _LINE * max(len(captions[i]) for i in row) + _MARGIN for row in rows]
    full_width = columns * (width + _MARGIN) + _MARGIN
    lines_below = _wrap(text_below, full_width - 2 * _MARGIN)
    full_size = (full_width, sum(heights) + 2 * _MARGIN + _LINE * len(lines_below))
    canvas = Image.new("RGB", full_size, _BACKGROUND)
    draw, font = ImageDraw.Draw(canvas), _font()
    top = _MARGIN
    for row, full_height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = _MARGIN + column * (width + _MARGIN)
            canvas.paste(Image.fromarray(pictures[i]), (left, top))
            for line, text in enumerate(captions[i]):
                draw.text((left, top + height + 4 + line * _LINE), text, fill=_TEXT if i else _FAINT, font=font)
        top += full_height
    for line, text in enumerate(lines_below):
        draw.text((_MARGIN, top + line * _LINE), text, fill=_FAINT, font=font)
    return np.asarray(canvas, np.uint8)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow: no file of the system is needed."""
    return ImageFont.load_default(_FONT_SIZE)
