"""Where a fine-tuned encoder starts, and by what its features are known again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from placecli.config import ModelConfig
from placecli.engine.start import Start, build_empty_encoder, build_encoder, global_feature_digest
from placecli.records import PlaceError

RESNET = ModelConfig(image_encoder="resnet18", image_size=64, image_width=16)
VIT = ModelConfig(image_encoder="vit_tiny_patch16_224", image_size=64)
BUILTIN = ModelConfig(image_size=48, image_patch=8, image_width=32, image_depth=1, image_heads=2)


def random_encoder(model: ModelConfig, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_encoder(model, Start("random", None), 0)


def test_features_are_known_by_the_weights_they_depend_on_alone() -> None:
    first, second = random_encoder(RESNET, 0).eval(), random_encoder(RESNET, 1).eval()
    assert global_feature_digest(first) != global_feature_digest(second)  # type: ignore[arg-type]
    backbone = {name: value for name, value in first.state_dict().items() if name.startswith("backbone.")}
    second.load_state_dict(backbone, strict=False)
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        (one, patches), (other, others) = first(images), second(images)
    assert torch.equal(one, other)
    assert not torch.equal(patches, others)
    assert global_feature_digest(first) == global_feature_digest(second)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", [VIT, BUILTIN])
def test_every_weight_counts_where_the_global_feature_depends_on_all(model: ModelConfig) -> None:
    encoder = random_encoder(model, 0)
    before = global_feature_digest(encoder)  # type: ignore[arg-type]
    for parameter in encoder.parameters():
        with torch.no_grad():
            parameter.add_(1)
        after = global_feature_digest(encoder)  # type: ignore[arg-type]
        assert after != before
        before = after


def test_a_vision_transformer_reads_larger_images_than_it_was_trained_on(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    trained = random_encoder(VIT, 0)
    with torch.no_grad():
        trained.backbone.pos_embed.normal_()  # type: ignore[union-attr, operator]
    tensors = {f"image_encoder.{name}": value.contiguous() for name, value in trained.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    same = build_encoder(VIT, Start("run", tmp_path), 0)
    assert torch.equal(same.backbone.pos_embed, trained.backbone.pos_embed)  # type: ignore[union-attr]
    larger = build_encoder(VIT, Start("run", tmp_path), 128)
    assert larger.grid == (8, 8)
    table, before = larger.backbone.pos_embed, trained.backbone.pos_embed  # type: ignore[union-attr]
    assert table.shape[1] == 65  # type: ignore[index, union-attr]
    assert torch.equal(table[:, 0], before[:, 0])  # type: ignore[index]
    # A grid twice as fine, averaged back, is near the grid it came from.
    fine = table[:, 1:].reshape(8, 8, -1)  # type: ignore[index]
    coarse = fine.reshape(4, 2, 4, 2, -1).mean(dim=(1, 3)).flatten()
    correlation = torch.corrcoef(torch.stack([coarse, before[:, 1:].flatten()]))[0, 1]  # type: ignore[index]
    assert correlation > 0.9


def test_weights_of_another_architecture_are_refused_in_one_line(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"image_encoder.stem.0.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(PlaceError, match=r"model\.safetensors: its image encoder does not fit"):
        build_encoder(BUILTIN, Start("run", tmp_path), 0)


def test_an_empty_encoder_reads_no_weights() -> None:
    encoder = build_empty_encoder(BUILTIN.model_copy(update={"image_weights": "missing.safetensors"}), 96)
    assert encoder.grid == (12, 12)
