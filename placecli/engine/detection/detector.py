"""A detector of mmdet around our encoder: losses for our training loop, and boxes."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from placecli.engine.detection.configuration import check
from placecli.engine.detection.operations import provide_operations
from placecli.engine.encoders import ImageEncoder
from placecli.records import PlaceError


@dataclass(frozen=True, slots=True)
class BoxTargets:
    """What is in one image: boxes float32 [n, 4] (x1, y1, x2, y2) in pixels of the encoder's image, labels int64 [n]."""

    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class FoundBoxes:
    """What was found in one image, best first: boxes float32 [n, 4] as above, scores [n] in 0..1, labels int64 [n]."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Detector(nn.Module):
    """The encoder and, on its maps, a neck and a head of mmdet, as a configuration says.

    With `is_frozen` the encoder takes no gradient and stays in evaluation mode also while the rest trains;
    `adapts_statistics` leaves that mode out, so that BatchNorm keeps adapting, as in the field's code.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        configuration: Mapping[str, Any],
        *,
        is_frozen: bool,
        adapts_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.stands_still = encoder, is_frozen and not adapts_statistics
        if is_frozen:
            encoder.requires_grad_(False)
        self.detector = _build(encoder, configuration)
        self.is_summed = configuration["type"] == "YOLOV3"
        """Whether the losses are sums over the images of a batch."""

    def train(self, mode: bool = True) -> Detector:
        super().train(mode)
        if self.stands_still:
            self.encoder.eval()
        return self

    def forward(self, images: Tensor, targets: Sequence[BoxTargets]) -> dict[str, Tensor]:
        """The losses of images [B, 1, S, S] in [-1, 1] by mmdet's names, scalars."""
        from mmengine.structures import InstanceData

        truth = [InstanceData(bboxes=target.boxes, labels=target.labels) for target in targets]
        outputs = self._read(images)
        with torch.autocast(images.device.type, enabled=False):  # sums and logarithms want all of float32
            losses = self.detector.bbox_head.loss_by_feat(*outputs, truth, _describe(images), None)
        share = len(images) if self.is_summed else 1
        return {name: _add(value) / share for name, value in losses.items()}

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[FoundBoxes]:
        """What is found in each of images [B, 1, S, S]; the model is in evaluation mode."""
        outputs = self._read(images)
        with torch.autocast(images.device.type, enabled=False):
            found = self.detector.bbox_head.predict_by_feat(*outputs, batch_img_metas=_describe(images), rescale=False)
        return [FoundBoxes(each.bboxes, each.scores, each.labels) for each in found]

    def _read(self, images: Tensor) -> Any:
        return _to_float(self.detector.bbox_head(self.detector.extract_feat(images)))


def require_mmdet() -> None:
    """Raises PlaceError in one line where mmdet or what it needs is not installed or not of a version that fits."""
    try:
        with _quiet():
            provide_operations()
            import mmdet.models

            from placecli.engine.detection import registered
    except (ImportError, AssertionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise PlaceError(f"detection needs mmdet ({reason}): pip install 'placecli[detection]'") from None
    assert mmdet.models
    assert registered
    warnings.filterwarnings("ignore", "torch.meshgrid: in an upcoming release", UserWarning)  # mmdet's points


def _build(encoder: ImageEncoder, configuration: Mapping[str, Any]) -> Any:
    """mmdet's detector with weights from torch's generator, its encoder that of its owner."""
    check(configuration)
    require_mmdet()
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    described = ConfigDict(copy.deepcopy(dict(configuration)))
    described["backbone"]["encoder"] = encoder
    try:
        with _quiet():
            detector = MODELS.build(described)
            detector.init_weights()
    except (TypeError, KeyError, AssertionError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise PlaceError(f"mmdet does not build this detector ({reason}); check finetune.detection") from None
    return detector


def _describe(images: Tensor) -> list[dict[str, Any]]:
    """What mmdet wants to know of each image."""
    size = (int(images.shape[-2]), int(images.shape[-1]))
    whole = {"img_shape": size, "ori_shape": size, "pad_shape": size, "batch_input_shape": size}
    return [{**whole, "scale_factor": (1.0, 1.0)} for _ in range(len(images))]


def _to_float(outputs: Any) -> Any:
    """Tensors in nested tuples and lists, as float32."""
    if isinstance(outputs, Tensor):
        return outputs.float()
    return tuple(_to_float(output) for output in outputs)


def _add(value: Any) -> Tensor:
    total: Tensor = value if isinstance(value, Tensor) else torch.stack(list(value)).sum()
    return total


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within it mmengine and mmdet tell nothing below an error; they write each weight's beginning to the log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
