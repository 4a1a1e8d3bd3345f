"""A small store whose images hold what its reports say, with labels, boxes and masks, and runs over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yaml

from placecli.config import Preset, dump_preset
from placecli.data.atomic import checksum
from placecli.data.manifest import write_manifest
from placecli.data.store import FORMAT, MANIFEST, REJECTS, images_name, masks_name, store_digest
from placecli.engine import checkpoint
from placecli.engine.place import Place
from placecli.engine.text import Tokenizer
from placecli.records import Box, Row

SIZE = 48
MARGIN = 4
"""Columns of padding on each side: the content is narrower than the frame."""
FINDINGS = {"square": "Square opacity in the {side} lung.", "stripe": "Horizontal stripe in the {side} lung."}
NORMALS = ("The heart is normal in size.", "No pneumothorax.", "Bones are unremarkable.")


def draw(generator: np.random.Generator, finding: str, side: str) -> tuple[np.ndarray, Box]:
    """A noisy image with one finding on one side (the patient's right is on the left), and the finding's box."""
    image = generator.integers(30, 70, (SIZE, SIZE))
    width, height = (10, 10) if finding == "square" else (14, 3)
    left = 6 if side == "right" else 27
    x, y = left + int(generator.integers(0, 3)), int(generator.integers(6, 30))
    image[y : y + height, x : x + width] += 150
    image[:, :MARGIN] = image[:, -MARGIN:] = 0
    return image.astype(np.uint8), Box(finding, float(x), float(y), float(width), float(height))


def make_rows(counts: dict[str, int], seed: int) -> tuple[list[Row], np.ndarray, np.ndarray]:
    """Rows, images and masks uint8 [n, SIZE, SIZE]; two images a patient; the last of each split has no report."""
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    images, masks = [], []
    for split, count in counts.items():
        for i in range(count):
            number = len(rows)
            finding = list(FINDINGS)[generator.integers(2)]
            side = ("right", "left")[generator.integers(2)]
            image, box = draw(generator, finding, side)
            normals = [NORMALS[j] for j in generator.permutation(3)[: generator.integers(0, 3)]]
            sentences = () if i == count - 1 else (FINDINGS[finding].format(side=side), *normals)
            mask = np.zeros((SIZE, SIZE), np.uint8)
            mask[int(box.y) : int(box.y + box.height), int(box.x) : int(box.x + box.width) - 1] = 255
            images.append(image)
            masks.append(mask)
            rows.append(
                Row(
                    image_id=f"image-{number:03d}",
                    study_id=f"study-{number:03d}",
                    patient_id=f"{split}-{i // 2}",
                    split=split,
                    view="PA",
                    shard=0,
                    row=number,
                    content=(MARGIN, 0, SIZE - MARGIN, SIZE),
                    sentences=sentences,
                    findings=" ".join(sentences),
                    impression="",
                    labels={name: float(name == finding) for name in FINDINGS},
                    boxes=(box,),
                    mask_row=number,
                    source=f"{number}.png",
                )
            )
    return rows, np.stack(images), np.stack(masks)


def write_store(folder: Path, counts: dict[str, int] | None = None, seed: int = 0) -> Path:
    """A finished store in `folder`."""
    rows, images, masks = make_rows(counts or {"train": 48, "validate": 8, "test": 24}, seed)
    return write_rows(folder, rows, images, masks)


def write_rows(folder: Path, rows: list[Row], images: np.ndarray, masks: np.ndarray) -> Path:
    """A finished store of these rows."""
    folder.mkdir(parents=True)
    np.save(folder / images_name(0), images)
    np.save(folder / masks_name(0), masks)
    write_manifest(folder / MANIFEST, rows)
    (folder / REJECTS).write_bytes(b"")
    names = (images_name(0), masks_name(0), MANIFEST, REJECTS)
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": checksum(folder / name)} for name in names}
    preset = Preset.model_validate({"name": "small", "preprocess": {"size": SIZE}})
    description = {
        "format": FORMAT,
        "preset": preset.model_dump(mode="json"),
        "files": files,
        "digest": store_digest(files),
    }
    (folder / "store.yaml").write_text(yaml.safe_dump(description), encoding="utf-8")
    return folder


def small_preset(**pretrain: object) -> Preset:
    """A preset whose model trains in seconds: 48 px, two small encoders."""
    model = {
        "image_size": 48, "image_patch": 8, "image_width": 32, "image_depth": 2, "image_heads": 2,
        "text_layers": 1, "text_width": 32, "text_heads": 2, "vocabulary": 120, "max_tokens": 48, "max_sentences": 6,
        "embed_dim": 16, "head_hidden": 32, "num_queries": 8, "query_blocks": 1, "query_heads": 2, "dropout": 0.0,
    }  # fmt: skip
    settings = {
        "model": model, "objective": {"correlation_heads": 2}, "epochs": 20, "batch_size": 16, "learning_rate": 3e-3,
        "warmup_fraction": 0.1, "patience": 0, "select_by": "recall", "seed": 3,
    }  # fmt: skip
    prompts = {
        "square": {
            "positive": ["Square opacity in the left lung."],
            "negative": ["Horizontal stripe in the left lung."],
        }
    }
    return Preset.model_validate(
        {
            "name": "small",
            "preprocess": {"size": SIZE},
            "pretrain": settings | pretrain,
            "evaluate": {"prompts": prompts, "bootstrap": 50, "batch_size": 7},
            "retrieve": {"batch_size": 3},
        }
    )


def write_run(folder: Path, preset: Preset | None = None, seed: int = 0) -> Path:
    """A run with random weights."""
    preset = preset or small_preset()
    texts = [text.format(side=side) for text in FINDINGS.values() for side in ("left", "right")]
    tokenizer = Tokenizer.train([*texts, *NORMALS], preset.pretrain.model.vocabulary)
    torch.manual_seed(seed)
    model = Place.from_config(preset.pretrain.model, preset.pretrain.objective, tokenizer)
    with torch.no_grad():  # as they begin, all images look alike to a model, and scores differ by roundings alone
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.mul_(4)
    folder.mkdir(parents=True)
    (folder / checkpoint.CONFIG).write_text(dump_preset(preset), "utf-8")
    checkpoint.save_shape(folder, model, tokenizer)
    checkpoint.save_model(folder, model)
    return folder
