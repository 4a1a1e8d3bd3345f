"""Image encoders made from timm networks: vision transformers, and convolutional networks read as patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from torch import Tensor, nn

from placecli.config import ModelConfig
from placecli.engine.pretrained_packages import (
    EFFICIENTNET_ARCHITECTURE,
    EFFICIENTNET_LITE0,
    efficientnet_lite0_place,
    efficientnet_lite0_weights,
    hub_folder,
)
from placecli.records import PlaceError


class TransformerImageEncoder(nn.Module):
    """A timm vision transformer.

    Input as for the built-in encoder, float [B, 1, S, S], (pixel - 0.5) / 0.5; the model's own normalisation and
    three channels are made inside. Output: the class token (or the mean patch where the model has none) [B, D] and
    the patches [B, N, D].
    """

    only_for_patches: tuple[str, ...] = ()

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.width = self.global_width = int(backbone.num_features)
        rows, columns = backbone.patch_embed.grid_size
        self.grid = (int(rows), int(columns))
        self.normalise = _Normalise(backbone.pretrained_cfg)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.backbone.forward_features(self.normalise(images))
        prefix = self.backbone.num_prefix_tokens
        patches = tokens[:, prefix:]
        return (tokens[:, 0] if prefix else patches.mean(dim=1)), patches


class ConvolutionalImageEncoder(nn.Module):
    """A timm convolutional network whose feature maps serve as patches.

    Input and normalisation as above. Output: the pooled last feature map [B, G] and patches [B, N, D] at stride
    16, the stage there plus the last stage brought up to it, each through a 1x1 convolution: fine enough to say
    where, deep enough to say what. With published weights BatchNorm keeps their statistics also in training:
    a study's features then do not depend on the rest of its batch.
    """

    only_for_patches = ("lateral.", "top.", "norm.")
    """Beginnings of the names of weights on which the global feature does not depend."""

    def __init__(self, backbone: Any, image_size: int, width: int, *, freeze_statistics: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.freeze_statistics = freeze_statistics
        self.width = width
        stages = backbone.feature_info
        self.stage = max(index for index, info in enumerate(stages) if info["reduction"] <= 16)
        self.normalise = _Normalise(backbone.pretrained_cfg)
        backbone.eval()  # in training mode this look at the shapes would move the published statistics
        with torch.no_grad():
            last, middle = self.feature_maps(torch.zeros(2, 1, image_size, image_size))
        if last.ndim != 4 or last.shape[1] != backbone.num_features:
            raise PlaceError(
                "pretrain.model.image_encoder: this timm network gives no maps [B, C, H, W]; use a ViT or ResNet"
            )
        self.global_width = int(last.shape[1])
        self.grid = (int(middle.shape[2]), int(middle.shape[3]))
        backbone.train()
        self.lateral = nn.Conv2d(int(middle.shape[1]), width, 1)
        self.top = nn.Conv2d(self.global_width, width, 1)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        last, middle = self.feature_maps(images)
        raised = F.interpolate(self.top(last), size=self.grid, mode="bilinear", align_corners=False)
        patches = self.norm((self.lateral(middle) + raised).flatten(2).transpose(1, 2))
        return last.mean(dim=(2, 3)), patches

    def train(self, mode: bool = True) -> ConvolutionalImageEncoder:
        super().train(mode)
        if self.freeze_statistics:
            for part in self.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()
        return self

    def feature_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The last feature map [B, G, h, w], of which the global feature is the mean, and that at stride 16."""
        prepared = self.normalise(images).contiguous(memory_format=torch.channels_last)
        last, intermediates = self.backbone.forward_intermediates(prepared, indices=[self.stage])
        return last, intermediates[0]


class _Normalise(nn.Module):
    """(x - 0.5) / 0.5 grayscale [B, 1, H, W] -> the three channels and normalisation a timm model was trained with."""

    def __init__(self, pretrained: Any) -> None:
        super().__init__()
        deviation = torch.tensor(pretrained["std"]).view(1, 3, 1, 1)
        self.register_buffer("scale", 0.5 / deviation, persistent=False)
        self.register_buffer("shift", (0.5 - torch.tensor(pretrained["mean"]).view(1, 3, 1, 1)) / deviation, False)
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


def build_timm_encoder(model: ModelConfig, weights: str) -> TransformerImageEncoder | ConvolutionalImageEncoder:
    """The timm network that `model` names, its class by what it offers; see encoders.build_image_encoder."""
    backbone = _timm_backbone(model.image_encoder, model.image_size, weights)
    if hasattr(backbone, "patch_embed") and hasattr(backbone, "num_prefix_tokens"):
        patch = int(backbone.patch_embed.patch_size[0])
        if model.image_size % patch:
            raise PlaceError(
                f"pretrain.model.image_size {model.image_size} is no multiple of the patch {patch} of"
                f" {model.image_encoder}; use {model.image_size // patch * patch or patch}"
            )
        return TransformerImageEncoder(backbone)
    if not hasattr(backbone, "forward_intermediates"):
        raise PlaceError(
            f"pretrain.model.image_encoder {model.image_encoder} gives no feature maps; use a ViT or ResNet"
        )
    return ConvolutionalImageEncoder(
        backbone, model.image_size, model.image_width, freeze_statistics=model.image_weights != "random"
    )


def _timm_backbone(name: str, image_size: int, weights: str) -> Any:
    architecture = EFFICIENTNET_ARCHITECTURE if name == EFFICIENTNET_LITE0 else name
    if not timm.is_model(architecture):
        near = timm.list_models(f"*{architecture[:6]}*")[:3]
        raise PlaceError(
            f"pretrain.model.image_encoder {name} is no timm model" + (f"; e.g. {near[0]}" if near else "")
        )
    arguments: dict[str, Any] = {"num_classes": 0}
    if weights != "random" and not (name == EFFICIENTNET_LITE0 and weights == "pretrained"):
        file = _timm_weights(architecture, weights)
        arguments |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file), "hf_hub_id": None, "url": ""}}
    try:
        backbone = timm.create_model(architecture, img_size=image_size, **arguments)
    except TypeError:  # convolutional networks take any size and know no img_size
        backbone = timm.create_model(architecture, **arguments)
    except AssertionError as error:
        raise PlaceError(f"{name} does not accept pretrain.model.image_size {image_size}: {error}") from None
    if name == EFFICIENTNET_LITE0 and weights == "pretrained":
        whole = timm.create_model(architecture).state_dict()
        stored = efficientnet_lite0_weights(list(whole), [tensor.shape for tensor in whole.values()])
        backbone.load_state_dict({key: stored[key] for key in backbone.state_dict()})
    return backbone


def image_weights_place(model: ModelConfig) -> str:
    """Where the published weights that `model` names are looked for."""
    if model.image_weights != "pretrained":
        return model.image_weights
    if model.image_encoder == EFFICIENTNET_LITE0:
        return efficientnet_lite0_place()
    return str(hub_folder(_hub_name(model.image_encoder)) / "snapshots" / "*" / "model.safetensors")


def _hub_name(architecture: str) -> str:
    published = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    return (published.hf_hub_id if published else None) or f"timm/{architecture}"


def _timm_weights(architecture: str, weights: str) -> Path:
    if weights != "pretrained":
        file = Path(weights)
        if not file.is_file() or file.suffix != ".safetensors":
            raise PlaceError(f"pretrain.model.image_weights {weights}: no such safetensors file")
        return file
    hub_name = _hub_name(architecture)
    try:
        return Path(hf_hub_download(hub_name, "model.safetensors", local_files_only=True))
    except (EntryNotFoundError, OSError):
        raise PlaceError(
            f"weights of {architecture} are not on this machine; on a connected one run `hf download"
            f" {hub_name} model.safetensors --local-dir W`, copy W here and add"
            " --set pretrain.model.image_weights=W/model.safetensors (or image_weights=random)"
        ) from None
