"""The configuration of a detector in mmdet's form: plain values that JSON holds. Knows mmdet's names, imports none of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from placecli.config import DetectionConfig, ModelConfig
from placecli.engine.feature_maps import MapShape
from placecli.records import PlaceError

Configuration = dict[str, Any]

UNBOUNDED: Final = 1e8
_ANCHORS: Final = (
    ((116, 90), (156, 198), (373, 326)),
    ((30, 61), (62, 45), (59, 119)),
    ((10, 13), (16, 30), (33, 23)),
)
"""Of YOLOv3 for images of 416 px, coarsest map first; scaled to the image, as in MGCA's code."""

TYPES: Final = frozenset(
    {
        *("FCOS", "YOLOV3", "PlaceEncoder", "PlaceFeaturePyramid", "FPN", "YOLOV3Neck", "FCOSHead", "YOLOV3Head", "GN"),
        *("LeakyReLU", "FocalLoss", "GIoULoss", "CrossEntropyLoss", "MSELoss", "GridAssigner", "nms"),
        *("YOLOAnchorGenerator", "YOLOBBoxCoder"),
    }
)
"""All that a configuration of ours names. mmengine would import any other name and call it with what stands beside it."""
_FORBIDDEN: Final = frozenset({"init_cfg", "checkpoint", "pretrained", "_scope_", "_delete_"})


def compose(
    model: ModelConfig, image_size: int, shapes: Sequence[MapShape], num_labels: int, config: DetectionConfig
) -> Configuration:
    """The detector that `config` asks for, on maps of these shapes. Raises PlaceError for sizes that do not fit."""
    described = {key: value for key, value in model.model_dump(mode="json").items() if key.startswith("image_")}
    # Whether statistics are frozen hangs on it; a path of this machine says no more.
    described["image_weights"] = "random" if model.image_weights == "random" else "pretrained"
    backbone = {
        "type": "PlaceEncoder",
        "model": described,
        "image_size": image_size,
        "finest_stride": config.finest_stride,
    }
    strides = level_strides(shapes, config.finest_stride)
    pyramid = _pyramid(shapes, strides, config.width)
    if config.head == "yolov3":
        return {
            "type": "YOLOV3",
            "backbone": backbone,
            **_yolov3(pyramid, shapes, strides, image_size, num_labels, config),
        }
    return {"type": "FCOS", "backbone": backbone, "neck": pyramid, **_fcos(strides, num_labels, config)}


def level_strides(shapes: Sequence[MapShape], finest_stride: int) -> tuple[int, ...]:
    """Strides of the detector's levels: three from 8 px on, four from 4 px on, each twice the one before."""
    first = float(shapes[0].stride)
    if len(shapes) == 1:
        first *= 2.0 ** min(round(math.log2(finest_stride / first)), 0)
    number = 4 if first < 6 else 3
    number = max(number, len(shapes))
    if first != int(first):
        raise PlaceError("finetune.detection.finest_stride 4 does not fit these patches; use 8")
    return tuple(int(first) * 2**i for i in range(number))


def check(configuration: Mapping[str, Any]) -> None:
    """Raises PlaceError for a configuration that names what `compose` does not: building it could run foreign code."""
    for key, value in _entries(configuration):
        if key in _FORBIDDEN or (key == "type" and value not in TYPES):
            raise PlaceError(
                f"task.json: the detector's configuration holds {key}: {str(value)[:60]!r}, which place does not write;"
                " use a run folder as `place finetune` left it"
            )
    if "type" not in configuration:
        raise PlaceError("task.json: the detector's configuration is not there; the run folder is damaged")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key), inner
            yield from _entries(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _entries(inner)


def _pyramid(shapes: Sequence[MapShape], strides: tuple[int, ...], width: int) -> Configuration:
    """mmdet's FPN over several maps; over one map, transposed convolutions for what is finer and maxima for the rest."""
    if len(shapes) == 1:
        exponents = [round(math.log2(stride / shapes[0].stride)) for stride in strides]
        return {
            "type": "PlaceFeaturePyramid",
            "in_channels": shapes[0].channels,
            "out_channels": width,
            "exponents": exponents,
        }
    return {
        "type": "FPN",
        "in_channels": [shape.channels for shape in shapes],
        "out_channels": width,
        "num_outs": len(strides),
        "add_extra_convs": "on_output",
        "relu_before_extra_convs": True,
    }


def _fcos(strides: tuple[int, ...], num_labels: int, config: DetectionConfig) -> Configuration:
    # A level takes boxes whose far side is at most four strides from a point. mmdet's eight suit photographs of 800 px;
    # here most boxes would fall to the finest level.
    ends = [4.0 * stride for stride in strides[:-1]]
    ranges = [list(pair) for pair in zip([-1.0, *ends], [*ends, UNBOUNDED], strict=True)]
    head = {
        "type": "FCOSHead",
        "num_classes": num_labels,
        "in_channels": config.width,
        "feat_channels": config.width,
        "stacked_convs": config.layers,
        "strides": list(strides),
        "regress_ranges": ranges,
        "center_sampling": True,
        "center_sample_radius": 1.5,
        "norm_on_bbox": True,
        "centerness_on_reg": True,
        "norm_cfg": _norm(config.width),
        "loss_cls": {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0},
        "loss_bbox": {"type": "GIoULoss", "loss_weight": 1.0},
        "loss_centerness": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
    }
    return {"bbox_head": head, "test_cfg": _selection(config)}


def _yolov3(
    pyramid: Configuration,
    shapes: Sequence[MapShape],
    strides: tuple[int, ...],
    image_size: int,
    num_labels: int,
    config: DetectionConfig,
) -> Configuration:
    if len(strides) != 3 or image_size % strides[-1]:
        raise PlaceError(
            f"finetune.detection.head yolov3 wants three maps and an image_size that is a multiple of {strides[-1]}; set"
            f" finetune.detection.finest_stride=8 and image_size={max(round(image_size / strides[-1]), 1) * strides[-1]},"
            " or head=fcos"
        )
    has_stages = len(shapes) == 3
    channels = [shape.channels for shape in shapes] if has_stages else [config.width] * 3
    widths = [4 * config.width, 2 * config.width, config.width]  # the usual 512, 256, 128 at width 128
    norm = _norm(config.width)
    neck = {
        "type": "YOLOV3Neck",
        "num_scales": 3,
        "in_channels": channels[::-1],
        "out_channels": widths,
        "norm_cfg": norm,
    }
    falling = list(strides[::-1])
    scale = image_size / 416
    anchors = [[[w * scale, h * scale] for w, h in level] for level in _ANCHORS]
    logistic = {"type": "CrossEntropyLoss", "use_sigmoid": True, "reduction": "sum"}
    head = {
        "type": "YOLOV3Head",
        "num_classes": num_labels,
        "in_channels": widths,
        "out_channels": [2 * width for width in widths],
        "anchor_generator": {"type": "YOLOAnchorGenerator", "base_sizes": anchors, "strides": falling},
        "bbox_coder": {"type": "YOLOBBoxCoder"},
        "featmap_strides": falling,
        "norm_cfg": norm,
        # The weights of the field's code.
        "loss_cls": {**logistic, "loss_weight": 1.0},
        "loss_conf": {**logistic, "loss_weight": 1.0},
        "loss_xy": {**logistic, "loss_weight": 2.5},
        "loss_wh": {"type": "MSELoss", "loss_weight": 2.5, "reduction": "sum"},
    }
    assigner = {"type": "GridAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "min_pos_iou": 0}
    return {
        "neck": neck if has_stages else [pyramid, neck],
        "bbox_head": head,
        "train_cfg": {"assigner": assigner},
        "test_cfg": {**_selection(config), "conf_thr": config.score_threshold},
    }


def _selection(config: DetectionConfig) -> Configuration:
    """Which of the boxes that a head finds are shown."""
    return {
        "nms_pre": 1000,
        "min_bbox_size": 0,
        "score_thr": config.score_threshold,
        "nms": {"type": "nms", "iou_threshold": config.overlap},
        "max_per_img": config.max_boxes,
    }


def _norm(width: int) -> Configuration:
    """GroupNorm: with BatchNorm several processes would each have their own statistics, and judge a model differently."""
    return {"type": "GN", "num_groups": math.gcd(width, 32), "requires_grad": True}
