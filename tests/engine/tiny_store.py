"""A small store of made-up images whose content the report tells: a bright square in one of four places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from placecli.config import Preset
from placecli.data.atomic import checksum
from placecli.data.manifest import write_manifest
from placecli.data.store import FORMAT, MANIFEST, REJECTS, images_name, store_digest
from placecli.records import Row

SIZE = 48
PLACES = {
    "Opacity in the right upper lobe.": (8, 8),
    "Opacity in the left upper lobe.": (8, 28),
    "Opacity in the right lower lobe.": (28, 8),
    "Opacity in the left lower lobe.": (28, 28),
}
NORMALS = ("The heart is normal in size.", "No pneumothorax.", "No pleural effusion.", "Bones are unremarkable.")


def make_rows(num_train: int, num_validate: int, *, seed: int = 0) -> tuple[list[Row], np.ndarray]:
    """Rows and uint8 images [n, SIZE, SIZE]; every fourth study has two images."""
    generator = np.random.default_rng(seed)
    rows, images = [], []
    for i in range(num_train + num_validate):
        finding, (y, x) = list(PLACES.items())[generator.integers(4)]
        image = generator.integers(30, 90, (SIZE, SIZE))
        image[y : y + 12, x : x + 12] += 120
        image[:, :4] = image[:, -4:] = 0
        normals = [NORMALS[j] for j in generator.permutation(4)[: generator.integers(0, 4)]]
        study = i - 1 if i % 4 == 1 and i != num_train else i
        if study != i:
            sentences = rows[-1].sentences
            image = images[-1].copy()
        else:
            sentences = tuple([*normals, finding] if generator.random() < 0.5 else [finding, *normals])
        images.append(image.astype(np.uint8))
        rows.append(
            Row(
                image_id=f"image-{i}",
                study_id=f"study-{study}",
                patient_id=f"patient-{study}",
                split="train" if i < num_train else "validate",
                view="PA",
                shard=0,
                row=i,
                content=(4, 0, SIZE - 4, SIZE),
                sentences=sentences,
                findings=" ".join(sentences),
                impression="",
                labels={},
                boxes=(),
                mask_row=-1,
                source=f"{i}.png",
            )
        )
    return rows, np.stack(images)


def write_store(folder: Path, num_train: int = 32, num_validate: int = 12, *, seed: int = 0) -> Path:
    """A finished store in `folder`."""
    folder.mkdir(parents=True)
    rows, images = make_rows(num_train, num_validate, seed=seed)
    np.save(folder / images_name(0), images)
    write_manifest(folder / MANIFEST, rows)
    (folder / REJECTS).write_bytes(b"")
    names = (images_name(0), MANIFEST, REJECTS)
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": checksum(folder / name)} for name in names}
    preset = Preset.model_validate({"name": "tiny", "preprocess": {"size": SIZE}})
    description = {
        "format": FORMAT,
        "preset": preset.model_dump(mode="json"),
        "files": files,
        "digest": store_digest(files),
    }
    (folder / "store.yaml").write_text(yaml.safe_dump(description), encoding="utf-8")
    return folder


def tiny_preset(**pretrain: object) -> Preset:
    """A preset whose model trains in seconds: 32 px, two small encoders."""
    model = {
        "image_size": 32, "image_patch": 8, "image_width": 32, "image_depth": 1, "image_heads": 2,
        "text_layers": 1, "text_width": 32, "text_heads": 2, "vocabulary": 120, "max_tokens": 48, "max_sentences": 6,
        "embed_dim": 16, "head_hidden": 32, "num_queries": 4, "query_blocks": 1, "query_heads": 2, "dropout": 0.1,
    }  # fmt: skip
    model.update(pretrain.pop("model", {}))  # type: ignore[call-overload]
    settings = {
        "model": model, "objective": {"correlation_heads": 2}, "epochs": 3, "batch_size": 8, "learning_rate": 2e-3,
        "warmup_fraction": 0.1, "patience": 0, "select_by": "recall", "seed": 3,
    }  # fmt: skip
    return Preset.model_validate({"name": "tiny", "pretrain": settings | pretrain})
