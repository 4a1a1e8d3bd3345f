"""Augmentation against closed forms: what is neutral, where a point goes, what never happens."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from placecli.engine.augment import Augmentation, apply, apply_mask, draw, prepare, prepare_mask, transform_content


def images(num: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(1, 256, (num, 1, size, size)).astype(np.uint8))


def neutral(num: int, **changed: float) -> Augmentation:
    drawn = draw(num, 0.0, torch.Generator().manual_seed(0))
    return dataclasses.replace(drawn, **{name: torch.full((num,), value) for name, value in changed.items()})


def spot(size: int, x: int, y: int, radius: int = 3) -> torch.Tensor:
    image = torch.full((1, 1, size, size), 1, dtype=torch.uint8)
    image[0, 0, y - radius : y + radius, x - radius : x + radius] = 255
    return image


def centre(image: torch.Tensor) -> tuple[float, float]:
    """Centre of brightness (x, y) in fractions of the frame."""
    weight = ((image[0, 0] + 1) / 2).double()
    weight = torch.where(weight > 0.5, weight, 0)
    place = (torch.arange(weight.shape[0], dtype=torch.float64) + 0.5) / weight.shape[0]
    return float((weight.sum(0) * place).sum() / weight.sum()), float((weight.sum(1) * place).sum() / weight.sum())


@pytest.mark.parametrize(("store", "model"), [(64, 64), (96, 64), (128, 64), (256, 64), (48, 80)])
def test_neutral_parameters_give_what_evaluation_sees(store: int, model: int) -> None:
    x = images(3, store)
    # At the rim an enlarged image mixes with the black around it, as a shifted one does.
    inside = slice(2, -2) if model > store else slice(None)
    applied, prepared = apply(x, model, neutral(3)), prepare(x, model)
    torch.testing.assert_close(applied[..., inside, inside], prepared[..., inside, inside], atol=2e-5, rtol=0)


def test_prepare_scales_bytes_to_minus_one_to_one() -> None:
    x = torch.tensor([[0, 255], [51, 102]], dtype=torch.uint8).view(1, 1, 2, 2)
    torch.testing.assert_close(prepare(x, 2).flatten(), torch.tensor([-1.0, 1.0, -0.6, -0.2]))


def test_prepare_averages_when_it_halves() -> None:
    x = images(2, 64)
    blocks = x.float().view(2, 1, 32, 2, 32, 2).mean(dim=(3, 5)) / 255 * 2 - 1
    torch.testing.assert_close(prepare(x, 32), blocks, atol=1e-6, rtol=0)


def test_left_stays_left_at_any_strength() -> None:
    x = spot(64, 12, 32, radius=5).expand(200, -1, -1, -1)
    augmented = apply(x, 64, draw(200, 1.0, torch.Generator().manual_seed(1)))
    bright = (augmented + 1).clamp_min(0).sum(dim=(1, 2))
    assert bool((bright[:, :32].sum(1) > bright[:, 32:].sum(1)).all())


def test_shift_moves_right_and_down() -> None:
    before = centre(prepare(spot(64, 32, 32), 64))
    after = centre(apply(spot(64, 32, 32), 64, neutral(1, shift_x=0.125, shift_y=0.25)))
    assert after[0] - before[0] == pytest.approx(0.125, abs=0.01)
    assert after[1] - before[1] == pytest.approx(0.25, abs=0.01)


def test_scale_enlarges_and_rotation_turns_clockwise() -> None:
    right = spot(64, 48, 32)
    x, y = centre(apply(right, 64, neutral(1, scale=1.5)))
    assert (x, y) == (pytest.approx(0.5 + 0.25 * 1.5, abs=0.01), pytest.approx(0.5, abs=0.01))
    x, y = centre(apply(right, 64, neutral(1, rotation=math.pi / 2)))
    assert (x, y) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.75, abs=0.01))


def test_content_moves_with_the_image() -> None:
    box = torch.tensor([[0.25, 0.375, 0.5, 0.625]])
    x = torch.full((1, 1, 128, 128), 0, dtype=torch.uint8)
    x[..., 48:80, 32:64] = 255
    moved = neutral(1, rotation=0.15, scale=0.9, shift_x=0.05, shift_y=-0.04)
    found = torch.nonzero(apply(x, 128, moved)[0, 0] > -0.9)
    (top, left), (bottom, right) = found.amin(0).tolist(), (found.amax(0) + 1).tolist()
    expected = torch.tensor([[left, top, right, bottom]]) / 128
    torch.testing.assert_close(transform_content(box, moved), expected, atol=0.012, rtol=0)


def test_neutral_content_stays_and_outside_is_clipped() -> None:
    box = torch.tensor([[0.1, 0.0, 0.9, 1.0]])
    torch.testing.assert_close(transform_content(box, neutral(1)), box)
    assert transform_content(box, neutral(1, shift_x=0.5))[0, 2] == 1.0


def test_padding_stays_black_whatever_the_brightness() -> None:
    x = images(1, 64)
    x[..., :20] = 0
    bright = apply(x, 64, neutral(1, brightness=0.3, noise=0.1))
    assert bool((bright[..., :19] == -1).all())
    assert float(bright[..., 24:].mean()) > float(prepare(x, 64)[..., 24:].mean())


def test_a_share_of_a_batch_gets_what_it_gets_in_the_whole_batch() -> None:
    x = images(6, 48)
    drawn = draw(6, 1.0, torch.Generator().manual_seed(2))
    assert torch.equal(apply(x, 32, drawn)[2:5], apply(x[2:5], 32, drawn.part(slice(2, 5))))


def test_drawing_repeats_by_seed_and_stays_in_the_stated_range() -> None:
    drawn = draw(2000, 1.0, torch.Generator().manual_seed(7))
    again = draw(2000, 1.0, torch.Generator().manual_seed(7))
    assert all(torch.equal(getattr(drawn, f.name), getattr(again, f.name)) for f in dataclasses.fields(drawn))
    limits = {"rotation": math.radians(10), "shift_x": 0.06, "shift_y": 0.06, "brightness": 0.1}
    for name, limit in limits.items():
        values = getattr(drawn, name)
        assert limit * 0.9 < float(values.abs().max()) <= limit
    assert 0.85 <= float(drawn.scale.min()) < 0.88
    assert 1.12 < float(drawn.scale.max()) <= 1.15
    assert 0 <= float(drawn.noise.min()) <= float(drawn.noise.max()) <= 0.03


def test_a_mask_goes_where_its_image_goes() -> None:
    masks = torch.from_numpy((np.random.default_rng(5).random((40, 1, 96, 96)) > 0.5).astype(np.uint8) * 255)
    drawn = draw(40, 1.0, torch.Generator().manual_seed(6))
    moves = {name: getattr(drawn, name) for name in ("rotation", "scale", "shift_x", "shift_y")}
    only_moves = dataclasses.replace(neutral(40), **moves)
    moved = (apply(masks, 64, only_moves) + 1) / 2
    torch.testing.assert_close(apply_mask(masks, 64, only_moves), moved, atol=2e-5, rtol=0)
    torch.testing.assert_close(apply_mask(masks, 64, drawn), apply_mask(masks, 64, only_moves), atol=0, rtol=0)


@pytest.mark.parametrize(("store", "model"), [(64, 64), (96, 64), (256, 64), (48, 80)])
def test_a_mask_that_is_not_augmented_is_the_share_that_is_inside(store: int, model: int) -> None:
    masks = (images(3, store) > 128).to(torch.uint8) * 255
    torch.testing.assert_close(prepare_mask(masks, model), (prepare(masks, model) + 1) / 2, atol=1e-6, rtol=0)
    assert float(prepare_mask(torch.full((1, 1, store, store), 255, dtype=torch.uint8), model).min()) == 1


def test_what_comes_into_a_mask_from_outside_is_not_inside() -> None:
    shifted = apply_mask(torch.full((1, 1, 64, 64), 255, dtype=torch.uint8), 64, neutral(1, shift_x=0.25))
    assert float(shifted[..., :15].max()) == 0
    assert float(shifted[..., 17:].min()) == pytest.approx(1)
