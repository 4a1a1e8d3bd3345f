"""Montgomery and Shenzhen in each layout: made-up studies, each trap, and the real ones where they are present."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from marked_releases import make_store, read, rectangle, write_mask
from small_pictures import write_picture

from placecli.records import FileMask, PlaceError
from placecli.tasks.grounding import cases_of

NAMES = ("MCUCXR_0001_0", "MCUCXR_0017_1", "CHNCXR_0033_0", "CHNCXR_0400_1", "CHNCXR_0401_1")
LUNGS = ((4, 8, 16, 32), (24, 8, 36, 32))


def write_kaggle(root: Path) -> None:
    """Masks of all but the last image; those of Shenzhen have a name of their own."""
    for number, name in enumerate(NAMES):
        write_picture(root / "CXR_png" / f"{name}.png", number, 40, 40)
    for name in NAMES[:-1]:
        write_mask(root / "masks" / f"{name}{'_mask' if name.startswith('CHN') else ''}.png", *LUNGS[0])


def write_montgomery(root: Path) -> None:
    for number, name in enumerate(NAMES[:2]):
        write_picture(root / "CXR_png" / f"{name}.png", number, 40, 40)
        for side, lung in zip(("leftMask", "rightMask"), LUNGS, strict=True):
            write_mask(root / "ManualMask" / side / f"{name}.png", *lung)


@pytest.mark.parametrize("below", ["", "Lung Segmentation"])
def test_kaggle_layout(tmp_path: Path, below: str) -> None:
    write_kaggle(tmp_path / below)
    studies, rejects = read(tmp_path, "lung-masks")
    assert rejects == []
    assert list(studies) == sorted(NAMES)
    assert {name: study.labels["Tuberculosis"] for name, study in studies.items()} == {
        name: float(name[-1]) for name in NAMES
    }
    assert studies["CHNCXR_0401_1"].images[0].mask is None
    assert {name for name, study in studies.items() if study.labels.get("Lungs") == 1.0} == set(NAMES[:-1])
    assert studies["CHNCXR_0033_0"].images[0].mask == FileMask((tmp_path / below / "masks" / "CHNCXR_0033_0_mask.png",))
    assert {study.patient_id for study in studies.values()} == {name[:-2] for name in NAMES}


def test_montgomery_has_a_mask_for_each_lung(tmp_path: Path) -> None:
    write_montgomery(tmp_path / "m" / "MontgomerySet")
    store = make_store(tmp_path / "m", tmp_path / "s", "lung-masks", 32)
    assert [row.image_id for row in store.rows] == list(NAMES[:2])
    # 40 becomes 32.
    expected = rectangle(32, 3, 6, 13, 26) | rectangle(32, 19, 6, 29, 26)
    for mask in store.masks(store.rows):
        differs = mask != expected
        assert differs.sum() <= 4 * 26, "only the columns that an edge cuts"
        assert mask[8:24, 5:12].all()
        assert mask[8:24, 20:28].all()
        assert not mask[:, 14:19].any()


def test_both_sets_of_nlm_in_one_root(tmp_path: Path) -> None:
    write_montgomery(tmp_path / "MontgomerySet")
    for number, name in enumerate(NAMES[2:]):
        write_picture(tmp_path / "ChinaSet_AllFiles" / "CXR_png" / f"{name}.png", number, 40, 40)
        write_mask(tmp_path / "mask" / f"{name}_mask.png", *LUNGS[0])
    studies, rejects = read(tmp_path, "lung-masks")
    assert rejects == []
    assert list(studies) == sorted(NAMES)
    assert all(study.images[0].mask is not None for study in studies.values())


def test_a_mask_of_lungs_is_not_taken_for_one_of_tuberculosis(tmp_path: Path) -> None:
    write_montgomery(tmp_path / "m")
    store = make_store(tmp_path / "m", tmp_path / "s", "lung-masks", 32)
    masks = store.masks(store.rows)
    cases = [cases_of(row, 32, mask, ("Tuberculosis",)) for row, mask in zip(store.rows, masks, strict=True)]
    assert cases == [[], []]


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    write_montgomery(tmp_path)
    write_kaggle(tmp_path / "Lung Segmentation")
    (tmp_path / "ManualMask" / "rightMask" / "MCUCXR_0001_0.png").unlink()
    (tmp_path / "Lung Segmentation" / "masks" / "MCUCXR_0001_0.png").unlink()
    write_picture(tmp_path / "CXR_png" / "readme.png", 9)
    write_mask(tmp_path / "masks" / "CHNCXR_0999_1_mask.png", *LUNGS[0])
    studies, rejects = read(tmp_path, "lung-masks")
    assert "MCUCXR_0001_0" not in studies
    assert [(reject.source, reject.code) for reject in rejects] == [
        ("CXR_png/MCUCXR_0001_0.png", "mask_incomplete"),
        ("Lung Segmentation/CXR_png/MCUCXR_0001_0.png", "image_repeated"),
        ("Lung Segmentation/CXR_png/MCUCXR_0017_1.png", "image_repeated"),
        ("CXR_png/readme.png", "name_unknown"),
        ("masks/CHNCXR_0999_1_mask.png", "mask_unused"),
    ]
    with pytest.raises(PlaceError, match="none of CXR_png, Lung Segmentation/CXR_png"):
        read(tmp_path / "masks", "lung-masks")


def test_real_images_and_masks(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    store = make_store(real_data("lung_masks_mcu_chn"), tmp_path / "s", "lung-masks", 64)
    assert Counter(row.image_id[:3] for row in store.rows) == {"MCU": 32, "CHN": 40}
    assert sum(row.labels["Tuberculosis"] for row in store.rows) == 36
    assert min(row.mask_row for row in store.rows) >= 0
    for mask, image in zip(store.masks(store.rows) > 0, store.images(store.rows), strict=True):
        assert 0.05 < mask.mean() < 0.5
        # Both lungs, which are darker than the rest of the chest.
        assert mask[:, :32].any()
        assert mask[:, 32:].any()
        inner, lungs = image[16:48, 16:48], mask[16:48, 16:48]
        assert inner[lungs].mean() < inner[~lungs].mean()
