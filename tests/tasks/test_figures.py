"""The picture holds what it says: image, colour where the map is, box and outline in their places."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from placecli.records import Box, PlaceError
from placecli.tasks import figures
from placecli.tasks.figures import Panel, crop_to_content, draw_heatmaps, draw_overlay, write_png

GRAY = np.full((60, 40), 100, np.uint8)


def test_only_the_map_is_coloured() -> None:
    heat = np.zeros((6, 4))
    heat[1, 3] = 1.0
    picture = draw_overlay(GRAY, Panel("", heat), 120)
    assert picture.shape == (120, 80, 3)
    is_coloured = (picture.max(axis=2).astype(int) - picture.min(axis=2)) > 8
    rows, columns = np.nonzero(is_coloured)
    assert rows.min() > 0
    assert rows.max() < 45
    assert columns.min() > 40
    assert not np.ptp(draw_overlay(GRAY, Panel("", np.zeros((6, 4))), 120))


def test_box_and_outline_lie_where_they_should() -> None:
    nothing = np.zeros((2, 2))
    with_box = draw_overlay(GRAY, Panel("", nothing, box=Box("", 0.5, 0.25, 0.5, 0.5)), 120)
    rows, columns = np.nonzero((with_box != 100).any(axis=2))
    assert abs(rows.min() - 30) <= 2
    assert abs(rows.max() - 90) <= 2
    assert abs(columns.min() - 40) <= 2
    mask = np.zeros((30, 20), bool)
    mask[10:20, 5:10] = True
    with_mask = draw_overlay(GRAY, Panel("", nothing, mask=mask), 120)
    rows, columns = np.nonzero((with_mask != 100).any(axis=2))
    assert abs(rows.min() - 40) <= 2
    assert abs(columns.max() - 40) <= 2


def test_a_word_longer_than_its_panel_is_broken_not_drawn_over_the_next() -> None:
    uid = "1.2.826.0.1.3680043.8.498.38280216238141543049030431531847262494"
    lines = figures._wrap(f"report of {uid}", 200)
    assert "".join(lines).replace("report of", "").strip() == uid
    assert max(figures._font().getlength(line) for line in lines) <= 210


def test_six_pictures_stand_in_two_even_rows_above_the_legend() -> None:
    panel = Panel("A.", np.ones((3, 3)))
    six, eight = draw_heatmaps(GRAY, [panel] * 5), draw_heatmaps(GRAY, [panel] * 7)
    assert six.shape[1] < 0.8 * eight.shape[1]
    assert six[-60:].max() > 100


def test_the_legend_explains_what_the_panels_show_and_nothing_else() -> None:
    bare, box, mask = Panel("", GRAY), Panel("", GRAY, box=Box("", 0.0, 0.0, 1.0, 1.0)), Panel("", GRAY, mask=GRAY > 0)
    assert "Box" not in figures.legend([bare, mask])
    assert "outline" not in figures.legend([bare, box])
    assert all(word in figures.legend([bare, box, mask]) for word in ("Box", "outline", "read it with the score"))
    assert all("Not for clinical use" in figures.legend(panels) for panels in ([], [bare], [box]))


def test_panels_stand_in_rows_of_four_with_room_for_their_text(tmp_path: Path) -> None:
    panel = Panel("A sentence far too long for one line of a panel, so it is wrapped.", np.ones((3, 3)), score=0.5)
    one, five = draw_heatmaps(GRAY, [panel]), draw_heatmaps(GRAY, [panel] * 5)
    assert one.shape[1] < five.shape[1]
    assert one.shape[0] < five.shape[0] / 1.7
    write_png(tmp_path / "new" / "picture.png", five)
    assert np.array_equal(cv2.imread(str(tmp_path / "new" / "picture.png"))[:, :, ::-1], five)


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PlaceError, match=r"file/where\.png: the picture cannot be written"):
        write_png(tmp_path / "file" / "where.png", np.zeros((2, 2, 3), np.uint8))


def test_crop_keeps_the_place_of_the_content() -> None:
    heat = np.zeros((4, 4))
    heat[0, 1] = 1.0
    cropped = crop_to_content(heat, (10, 0, 30, 40), 40)
    assert cropped.shape == (40, 20)
    assert np.unravel_index(cropped.argmax(), cropped.shape)[0] < 10
