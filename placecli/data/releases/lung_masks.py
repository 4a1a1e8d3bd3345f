"""Montgomery County and Shenzhen chest X-rays with masks of the lungs, in the layouts in which they go round."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig
from placecli.records import FileMask, ImageFile, PlaceError, Reject, Study

IMAGES: Final = (
    *("CXR_png", "Lung Segmentation/CXR_png", "MontgomerySet/CXR_png", "Montgomery/MontgomerySet/CXR_png"),
    *("ChinaSet_AllFiles/CXR_png", "ChinaSet_AllFiles/ChinaSet_AllFiles/CXR_png"),
)
"""Folders of images below the root: Kaggle's "Chest Xray Masks and Labels", NLM's own two sets, and Kaggle's copy of them."""

UNITED_MASKS: Final = ("masks", "Lung Segmentation/masks", "mask", "mask/mask")
"""Folders of masks of both lungs: `<image>.png` or, for Shenzhen, `<image>_mask.png`."""

SIDES: Final = ("leftMask", "rightMask")
"""Below `ManualMask` beside Montgomery's images: a mask for each lung, called as the image is."""

TUBERCULOSIS: Final = "Tuberculosis"
LUNGS: Final = "Lungs"
"""Label of every image with a mask: it shows the lungs, and without this a mask would pass for that of the one finding."""
_NAME: Final = re.compile(r"((?:MCU|CHN)CXR_[0-9]{4})_([01])")


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """A study an image, sorted by name. Labels: Tuberculosis, the last digit of the name, and Lungs; mask: both lungs.

    An image without a mask is kept without one; of one lung's mask alone the image is refused. No split is published,
    so a hash of the patient decides. Rejects: `name_unknown`, `image_repeated`, `mask_incomplete`, `mask_unused`.
    Raises PlaceError if there is no folder of images.
    """
    folders = [root / name for name in IMAGES if (root / name).is_dir()]
    if not folders:
        raise PlaceError(f"{root}: none of {', '.join(IMAGES)} is there; give the folder that holds one as --root")
    united = {path.stem: path for name in reversed(UNITED_MASKS) for path in sorted((root / name).glob("*.png"))}
    seen: set[str] = set()
    images = sorted((path for folder in folders for path in folder.glob("*.png")), key=lambda path: (path.name, path))
    for path in images:
        source = path.relative_to(root).as_posix()
        name = _NAME.fullmatch(path.stem)
        if name is None:
            yield Reject(source, "name_unknown", "The name is not MCUCXR_####_L or CHNCXR_####_L.")
            continue
        if path.stem in seen:
            yield Reject(source, "image_repeated", "An image with this name is in another folder.")
            continue
        seen.add(path.stem)
        masks = _find_masks(path, united)
        if isinstance(masks, Reject):
            yield Reject(source, masks.code, masks.message)
            continue
        image = ImageFile(path.stem, path, "FRONTAL", mask=FileMask(masks) if masks else None)
        labels = {TUBERCULOSIS: float(name[2])} | ({LUNGS: 1.0} if masks else {})
        yield Study(name[1], name[1], (image,), labels=labels)
    for stem in sorted(united):
        if stem.removesuffix("_mask") not in seen:
            yield Reject(united[stem].relative_to(root).as_posix(), "mask_unused", "No image has this mask's name.")


def _find_masks(image: Path, united: dict[str, Path]) -> tuple[Path, ...] | Reject:
    """The files of the image's mask: one of both lungs, else one of each; () for none."""
    for stem in (image.stem, f"{image.stem}_mask"):
        if stem in united:
            return (united[stem],)
    sides = [image.parent.parent / "ManualMask" / side / image.name for side in SIDES]
    found = tuple(path for path in sides if path.is_file())
    if len(found) == 1:
        return Reject(image.name, "mask_incomplete", "There is a mask of one lung and none of the other.")
    return found
