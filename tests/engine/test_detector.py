"""mmdet's detectors on each kind of encoder: maps, levels, what stands still, what a configuration may hold."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet", reason="the extra `detection` is not installed")

from placecli.config import DetectionConfig, ModelConfig
from placecli.engine.detection import operations
from placecli.engine.detection.configuration import check, compose, level_strides
from placecli.engine.detection.detector import BoxTargets, Detector, require_mmdet
from placecli.engine.detection.maps import map_shapes, read_maps
from placecli.engine.detection.pyramid import SimpleFeaturePyramid
from placecli.engine.encoders import ImageEncoder, build_image_encoder
from placecli.engine.feature_maps import MapShape
from placecli.records import PlaceError

SIZE = 64
ENCODERS: dict[str, dict[str, Any]] = {
    "stem": {"image_encoder": "builtin", "image_patch": 8, "image_width": 24, "image_depth": 0, "image_heads": 3},
    "stem and blocks": {
        "image_encoder": "builtin", "image_patch": 16, "image_width": 24, "image_depth": 1, "image_heads": 3,
    },
    "transformer": {"image_encoder": "vit_tiny_patch16_224"},
    "convolutional": {"image_encoder": "resnet10t"},
}  # fmt: skip
STRIDES = {"stem": (8,), "stem and blocks": (8, 16), "transformer": (16,), "convolutional": (8, 16, 32)}


@pytest.fixture(scope="module")
def encoders() -> dict[str, ImageEncoder]:
    torch.manual_seed(0)
    return {name: build_image_encoder(describe(name), weights="random").eval() for name in ENCODERS}


def describe(name: str) -> ModelConfig:
    return ModelConfig(image_size=SIZE, **ENCODERS[name])


def configure(name: str, encoder: ImageEncoder, **settings: Any) -> dict[str, Any]:
    """As a run keeps it: through JSON."""
    config = DetectionConfig(width=16, layers=1, **settings)
    shapes = map_shapes(encoder, SIZE, config.finest_stride)
    found: dict[str, Any] = json.loads(json.dumps(compose(describe(name), SIZE, shapes, 2, config)))
    return found


def some_targets() -> list[BoxTargets]:
    boxes = torch.tensor([[8.0, 8, 40, 32], [36, 30, 60, 58]])
    return [BoxTargets(boxes, torch.tensor([0, 1])), BoxTargets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))]


def images(number: int = 2) -> Tensor:
    return torch.rand(number, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.mark.parametrize("name", list(ENCODERS))
@pytest.mark.parametrize("finest", [4, 8])
def test_maps_have_the_shapes_that_are_told(name: str, finest: int, encoders: dict[str, ImageEncoder]) -> None:
    shapes = map_shapes(encoders[name], SIZE, finest)
    maps = read_maps(encoders[name], images(), finest)
    assert [(m.shape[1], SIZE // m.shape[2], SIZE // m.shape[3]) for m in maps] == [
        (shape.channels, shape.stride, shape.stride) for shape in shapes
    ]
    if finest == 8:
        assert tuple(shape.stride for shape in shapes) == STRIDES[name]
    if name != "convolutional":
        patches = encoders[name](images())[1]
        torch.testing.assert_close(maps[-1].flatten(2).transpose(1, 2), patches)


@pytest.mark.parametrize(
    ("strides", "finest", "levels"),
    [
        ((16,), 8, (8, 16, 32)),
        ((16,), 4, (4, 8, 16, 32)),
        ((14,), 8, (7, 14, 28)),
        ((8,), 8, (8, 16, 32)),
        ((32,), 8, (8, 16, 32)),
        ((4, 8, 16), 4, (4, 8, 16, 32)),
        ((8, 16, 32), 8, (8, 16, 32)),
        ((4,), 8, (4, 8, 16, 32)),
    ],
)
def test_levels_run_from_the_finest_stride_up(strides: tuple[int, ...], finest: int, levels: tuple[int, ...]) -> None:
    assert level_strides([MapShape(3, stride) for stride in strides], finest) == levels


def test_a_stride_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(PlaceError, match="finest_stride 4 does not fit"):
        level_strides([MapShape(3, 14)], 4)


def test_a_pyramid_raises_and_lowers_one_map() -> None:
    pyramid = SimpleFeaturePyramid(12, 8, [-2, -1, 0, 1])
    maps = pyramid([torch.rand(2, 12, 6, 6)])
    assert [tuple(m.shape) for m in maps] == [(2, 8, side, side) for side in (24, 12, 6, 3)]
    # The norm is over the channels of each place.
    torch.testing.assert_close(maps[2].mean(dim=1), torch.zeros(2, 6, 6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("head", ["fcos", "yolov3"])
@pytest.mark.parametrize("name", list(ENCODERS))
def test_every_head_learns_on_every_encoder(name: str, head: str, encoders: dict[str, ImageEncoder]) -> None:
    torch.manual_seed(1)
    detector = Detector(encoders[name], configure(name, encoders[name], head=head), is_frozen=True)
    assert not [key for key in detector.state_dict() if key.startswith("detector.backbone")], "the encoder is kept once"
    detector.train()
    assert not detector.encoder.training
    before = {key: value.clone() for key, value in detector.encoder.state_dict().items()}
    trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-3)
    totals = []
    for _ in range(6):
        losses = detector(images(), some_targets())
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        assert all(parameter.grad is not None for parameter in trained)
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < totals[0]
    assert all(torch.equal(before[key], value) for key, value in detector.encoder.state_dict().items())
    found = detector.eval().detect(images())
    assert len(found) == 2
    for each in found:
        assert (each.scores[:-1] >= each.scores[1:]).all()
        assert ((each.boxes >= 0) & (each.boxes <= SIZE)).all()


def test_yolo_is_summed_over_anchors_and_meant_over_images(encoders: dict[str, ImageEncoder]) -> None:
    torch.manual_seed(1)
    detector = Detector(encoders["stem"], configure("stem", encoders["stem"], head="yolov3"), is_frozen=True).eval()
    once = detector(images()[:1], some_targets()[:1])
    twice = detector(images()[:1].repeat(2, 1, 1, 1), some_targets()[:1] * 2)
    for name, value in once.items():
        torch.testing.assert_close(twice[name], value)


def test_anchors_are_those_of_coco_at_416_scaled_to_the_image(encoders: dict[str, ImageEncoder]) -> None:
    generator = configure("stem", encoders["stem"], head="yolov3")["bbox_head"]["anchor_generator"]
    assert generator["strides"] == [32, 16, 8]
    assert generator["base_sizes"][0][0] == [pytest.approx(116 * SIZE / 416), pytest.approx(90 * SIZE / 416)]


def test_yolo_wants_an_image_that_its_strides_divide() -> None:
    with pytest.raises(PlaceError, match="image_size=64"):
        compose(describe("stem"), 80, [MapShape(24, 8)], 1, DetectionConfig(head="yolov3"))
    with pytest.raises(PlaceError, match="finest_stride=8"):
        compose(describe("stem"), 64, [MapShape(12, 4), MapShape(24, 8)], 1, DetectionConfig(head="yolov3"))


def test_equal_seeds_give_equal_detectors_and_a_rebuilt_one_is_the_same(encoders: dict[str, ImageEncoder]) -> None:
    configuration = configure("stem", encoders["stem"])
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(Detector(encoders["stem"], configuration, is_frozen=False))
    first, same, other = (detector.state_dict() for detector in made)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)
    made[2].load_state_dict(first)
    losses = [{k: float(v.detach()) for k, v in d.eval()(images(), some_targets()).items()} for d in made]
    assert losses[0] == losses[2]


def test_mmdet_builds_the_encoder_itself_from_the_configuration_alone(encoders: dict[str, ImageEncoder]) -> None:
    require_mmdet()
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    detector = MODELS.build(ConfigDict(configure("stem", encoders["stem"])))
    held = detector.backbone.own
    held.load_state_dict(encoders["stem"].state_dict())
    detector.eval()
    torch.testing.assert_close(detector.backbone(images())[-1], read_maps(encoders["stem"], images(), 8)[-1])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("bbox_head", "loss_cls", "type"), "subprocess.call"),
        (("neck", "type"), "os.system"),
        (("type",), "FasterRCNN"),
        (("bbox_head", "init_cfg"), {"type": "Pretrained", "checkpoint": "http://example.org/x.pth"}),
        (("backbone", "checkpoint"), "x.pth"),
        (("_scope_",), "elsewhere"),
    ],
)
def test_a_configuration_that_names_anything_else_is_refused_before_it_is_built(
    path: tuple[str, ...], value: object, encoders: dict[str, ImageEncoder]
) -> None:
    configuration = configure("stem", encoders["stem"])
    check(configuration)
    node = configuration
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(PlaceError, match=r"which place does not write"):
        Detector(encoders["stem"], configuration, is_frozen=True)


def test_a_run_without_a_configuration_is_damaged(encoders: dict[str, ImageEncoder]) -> None:
    with pytest.raises(PlaceError, match="the run folder is damaged"):
        Detector(encoders["stem"], {}, is_frozen=True)


def test_a_configuration_holds_no_path_of_this_machine() -> None:
    model = describe("stem").model_copy(update={"image_weights": "/home/someone/weights.safetensors"})
    composed = compose(model, SIZE, [MapShape(24, 8)], 1, DetectionConfig())
    assert "someone" not in json.dumps(composed)


@pytest.mark.parametrize("missing", ["mmdet.models", "mmdet"])
def test_without_mmdet_one_line_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(PlaceError, match=r"pip install 'placecli\[detection\]'") as caught:
        require_mmdet()
    assert "\n" not in str(caught.value)


def test_without_mmcv_the_same_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError("No module named 'mmcv'", name="mmcv")

    monkeypatch.delitem(sys.modules, operations.NAME)
    monkeypatch.setattr(operations.importlib.util, "find_spec", absent)
    with pytest.raises(PlaceError, match=r"No module named 'mmcv'.*pip install 'placecli\[detection\]'"):
        require_mmdet()
