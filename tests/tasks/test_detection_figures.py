"""Pictures of boxes: colours where boxes are, captions that count."""

from __future__ import annotations

import numpy as np

from placecli.records import Box
from placecli.tasks.detection_figures import Boxed, caption_of, crop_boxes, draw_boxes

GRAY = np.full((60, 40), 90, np.uint8)
BLUE, GREEN = (90, 220, 255), (120, 255, 140)


def boxed(found: list[Box], scores: list[float], drawn: list[Box] | None, title: str = "") -> Boxed:
    return Boxed(GRAY, tuple(found), tuple(scores), None if drawn is None else tuple(drawn), title)


def test_a_found_box_is_blue_and_a_drawn_one_dashed_green_where_they_are() -> None:
    picture = draw_boxes(boxed([Box("a", 10, 20, 20, 30)], [0.7], [Box("a", 4, 6, 30, 50)]), longest=120)
    assert picture.shape == (120, 80, 3)
    blue, green = (np.all(picture == colour, axis=2) for colour in (BLUE, GREEN))
    assert blue[99, 20:59].all(), "the lower edge, at 2 x 50, less one"
    assert blue[60:99, 20].all()
    assert blue[60:99, 59].all()
    share = green[111, 8:67].mean()
    assert 0.3 < share < 0.7, "dashes"
    assert not green[40:100, 30:50].any()


def test_captions_count_by_label_and_overlap() -> None:
    right, wrong = Box("a", 10, 20, 20, 30), Box("b", 10, 20, 20, 30)
    assert caption_of(boxed([right, wrong], [0.9, 0.8], [right], "p1")) == "1 of 1 found, 1 more shown  p1"
    assert caption_of(boxed([], [], [])) == "nothing there, 0 more shown"
    assert caption_of(boxed([right], [0.5], None, "x")) == "1 shown  x"


def test_a_frame_is_cropped_with_its_boxes() -> None:
    frame = np.arange(100, dtype=np.uint8).reshape(10, 10)
    listed = {"label": "a", "x": 3.0, "y": 4.0, "width": 2.0, "height": 2.0, "score": 0.6}
    prediction = {"image_id": "i", "boxes": [listed, {**listed, "score": 0.1}]}
    entry = crop_boxes(frame, (2, 0, 8, 10), prediction, [Box("a", 2, 1, 3, 3)], least_score=0.5)
    assert entry.image.shape == (10, 6)
    assert entry.found == (Box("a", 1.0, 4.0, 2.0, 2.0),)
    assert entry.scores == (0.6,)
    assert entry.drawn == (Box("a", 0, 1, 3, 3),)
