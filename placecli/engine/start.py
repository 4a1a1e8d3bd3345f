"""Where a fine-tuned encoder starts: from a pre-trained run, from published ImageNet weights, or at random."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from placecli.config import ModelConfig, Preset, load_saved_preset
from placecli.data.atomic import checksum
from placecli.engine import checkpoint
from placecli.engine.encoders import ImageEncoder, build_image_encoder
from placecli.engine.observing import ObservingImageEncoder
from placecli.records import PlaceError

_PREFIX = "image_encoder."


@dataclass(frozen=True, slots=True)
class Start:
    """run: the pre-trained run, also the source of the architecture of the other two; None: the preset's."""

    kind: Literal["run", "imagenet", "random"]
    run: Path | None

    def preset(self, preset: Preset) -> Preset:
        """`preset` with the image encoder, and for images of a run the reading of images, of this start.

        Raises PlaceError where the kind needs what is not there.
        """
        model = preset.pretrain.model
        if self.run is not None:
            model = load_saved_preset(Path(self.run) / checkpoint.CONFIG).pretrain.model
        elif self.kind == "run":
            raise PlaceError("fine-tuning from a run needs one: name it with --run, or start with --init random")
        if self.kind != "run":
            weights = "random" if self.kind == "random" else "pretrained"
            if weights == "pretrained" and model.image_encoder == "builtin":
                raise PlaceError(
                    "--init imagenet: the builtin encoder has no ImageNet weights; use another architecture, e.g."
                    " --set pretrain.model.image_encoder=efficientnet_lite0 without --run, or --init random"
                )
            if weights == "pretrained" and model.image_weights != "random":
                weights = model.image_weights  # the local file that the run itself started from
            model = model.model_copy(update={"image_weights": weights})
        return preset.model_copy(update={"pretrain": preset.pretrain.model_copy(update={"model": model})})

    def digest(self) -> str:
        """SHA-256 of the run's weights; "" for a start without a run."""
        if self.kind != "run" or self.run is None:
            return ""
        return checksum(Path(self.run) / checkpoint.MODEL)


def build_encoder(model: ModelConfig, start: Start, image_size: int) -> ImageEncoder:
    """The image encoder with the weights of `start`, reading images of `image_size` px (0: as `model` says).

    Random weights come from torch's generator. Raises PlaceError in one line where weights are missing or do not fit.
    """
    encoder = build_empty_encoder(model, image_size, weights=model.image_weights if start.kind != "run" else "random")
    if start.kind == "run":
        assert start.run is not None
        _load(encoder, Path(start.run) / checkpoint.MODEL)
    return encoder


def build_empty_encoder(model: ModelConfig, image_size: int, *, weights: str = "random") -> ImageEncoder:
    """The image encoder at `image_size` px, whose weights are yet to be filled in unless `weights` names some."""
    sized = model.model_copy(update={"image_size": image_size or model.image_size})
    return build_image_encoder(sized, weights=weights)


def load_extractor(encoder: ObservingImageEncoder, start: Start) -> None:
    """Fill in the extractor of V-PORs from the run that learnt them. Raises PlaceError in one line where none did."""
    setting = "finetune.classification.features observations"
    if start.kind != "run" or start.run is None:
        raise PlaceError(
            f"{setting}: a start from {start.kind} has no V-PORs, they are learnt by `place pretrain`; use --init run"
            " with a --run that learnt them, or features=global"
        )
    if load_saved_preset(Path(start.run) / checkpoint.CONFIG).pretrain.objective.pcma_weight == 0:
        raise PlaceError(
            f"{setting}: {start.run} has objective.pcma_weight 0, so it learnt no V-PORs; use features=global or"
            " another run"
        )
    stored = load_file(Path(start.run) / checkpoint.MODEL)
    for prefix, part in (("observer.", encoder.observer), ("observation_head.", encoder.observation_head)):
        part.load_state_dict({name.removeprefix(prefix): stored[name] for name in stored if name.startswith(prefix)})


def global_feature_digest(encoder: ImageEncoder | ObservingImageEncoder) -> str:
    """SHA-256 over the names and values of all weights that the global feature depends on: equal for encoders that give
    equal global features, wherever they came from."""
    sha = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        if not name.startswith(encoder.only_for_patches):
            sha.update(name.encode())
            sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def _load(encoder: ImageEncoder, file: Path) -> None:
    try:
        stored = load_file(file)
        weights = {name.removeprefix(_PREFIX): stored[name] for name in stored if name.startswith(_PREFIX)}
        encoder.load_state_dict(_resample_positions(encoder, weights))
    except (RuntimeError, SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PlaceError(f"{file}: its image encoder does not fit ({reason}); is this a pre-trained run?") from None


def _resample_positions(encoder: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A vision transformer's learnt table of positions, brought to another grid where the image size differs."""
    name = "backbone.pos_embed"
    if name not in weights or weights[name].shape == encoder.backbone.pos_embed.shape:
        return weights
    from timm.layers.pos_embed import resample_abs_pos_embed

    prefix = 0 if encoder.backbone.no_embed_class else encoder.backbone.num_prefix_tokens
    return weights | {name: resample_abs_pos_embed(weights[name], list(encoder.grid), num_prefix_tokens=prefix)}
