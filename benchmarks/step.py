"""What PLACE's objective costs beside ITA alone, and the store's loader beside reading image files.

    python benchmarks/step.py                 both parts, ViT-B/16 and a 6-layer BERT, batch 64
    python benchmarks/step.py --batch-size 4  where memory or patience is short
    python benchmarks/step.py --quick         tiny shapes, seconds

Both steps run on the same model in turn, so that a machine that slows down slows both. A step is forward,
backward, clipping and optimiser. The file loader does what the field's loader does: `cv2.imread` in grey, longest
side to 256, zero padding, a 224 crop, float32 in [-1, 1]. Ours reads the same images from a store, with their reports:
`store` hands out uint8 as training takes it (crop and float are the GPU's part then), `store_cropped` ends in the same
float32 crops as the file loader's, `store_augmented_on_cpu` does all of training's augmentation. One thread each, files
in the page cache; the three and the file loader take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from transformers import BertConfig

from placecli.config import ObjectiveConfig, Preset, PretrainConfig, load_preset
from placecli.data.pairs import PairBatch, Pairs
from placecli.data.preprocess import preprocess
from placecli.data.store import open_store
from placecli.engine.augment import draw
from placecli.engine.distributed import choose_device
from placecli.engine.optim import build_optimizer, clip
from placecli.engine.place import Place, Shares
from placecli.engine.step import ObjectivePass, Prepared, choose_autocast, to_model_input
from placecli.engine.text import Tokenizer

SENTENCES = ("The lungs are clear.", "No pleural effusion.", "Heart size is normal.", "No pneumothorax is seen.")


class Vocabulary:
    """The size of BERT's vocabulary, all that a model of random weights needs of a tokenizer."""

    size = 28996


def field_recipe(batch_size: int) -> tuple[PretrainConfig, dict[str, Any] | None]:
    """ViT-B/16 at 224 px, and BERT cut to 6 layers of width 768 as its config object describes it."""
    mimic = load_preset("mimic").pretrain
    model = mimic.model.model_copy(update={"image_weights": "random", "text_weights": "random"})
    bert = BertConfig(vocab_size=Vocabulary.size, num_hidden_layers=6).to_dict()
    config = mimic.model_copy(update={"model": model, "batch_size": batch_size})
    return config, {"kind": "transformers", "pooling": "first", "config": bert}


def tiny_recipe(batch_size: int) -> tuple[PretrainConfig, dict[str, Any] | None]:
    """The demo's shapes."""
    return load_preset("demo").pretrain.model_copy(update={"batch_size": batch_size}), None


def made_up_batch(config: PretrainConfig, device: torch.device) -> PairBatch:
    """Full-length reports of eight sentences beside noise."""
    generator = torch.Generator().manual_seed(0)
    size, length, num = config.model.image_size, config.model.max_tokens, config.batch_size
    sentences = torch.arange(length).div(length / 8, rounding_mode="floor").long().repeat(num, 1)
    sentences[:, 0] = sentences[:, -1] = -1
    batch = PairBatch(
        images=torch.randn(num, 1, size, size, generator=generator).clamp(-1, 1),
        tokens=torch.randint(10, 900, (num, length), generator=generator),
        attention=torch.ones(num, length, dtype=torch.bool),
        sentence_index=sentences,
        num_sentences=torch.full((num,), 8),
        text_key=torch.arange(num),
        sentence_key=torch.arange(num * 8).view(num, 8),
        content=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(num, 1),
        row=torch.arange(num),
    )
    return batch.to(device)


def time_steps(
    config: PretrainConfig, architecture: dict[str, Any] | None, device: str, repeats: int
) -> dict[str, Any]:
    """Seconds of each step, and the ratio PLACE / ITA: its median and spread over repeats."""
    where = choose_device(device)
    torch.manual_seed(0)
    vocabulary: Any = Vocabulary()
    model = Place.from_config(config.model, config.objective, vocabulary, architecture).to(where).train()
    optimizer, autocast = build_optimizer(model, config), choose_autocast(config.precision, where)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    batch = Prepared.of(made_up_batch(config, where), Shares())
    alone = ObjectiveConfig(pcma_weight=0, correlation_weight=0)
    passes = {"place": ObjectivePass(model, config.objective), "ita": ObjectivePass(model, alone)}

    # On a CPU that others use too, the process's own time says what a step costs; on a GPU only the clock does.
    clock = time.perf_counter if where.type == "cuda" else time.process_time

    def step(name: str) -> float:
        started = clock()
        optimizer.zero_grad()
        with autocast():
            loss = passes[name](batch)["loss"]
        loss.backward()
        clip(parameters, 1.0)
        optimizer.step()
        if where.type == "cuda":
            torch.cuda.synchronize()
        return clock() - started

    for name in passes:  # memory is taken and kernels are chosen in a first step of each
        step(name)
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for repeat in range(repeats):
        for name in ("place", "ita") if repeat % 2 else ("ita", "place"):
            seconds[name].append(step(name))
    ratios = [ours / theirs for ours, theirs in zip(seconds["place"], seconds["ita"], strict=True)]
    return {
        "part": "step",
        "device": torch.cuda.get_device_name(where)
        if where.type == "cuda"
        else f"cpu, {torch.get_num_threads()} threads",
        "precision": "bfloat16 autocast" if where.type == "cuda" else "float32",
        "image_encoder": config.model.image_encoder,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "batch_size": config.batch_size,
        "repeats": repeats,
        "clock": "wall" if where.type == "cuda" else "CPU time of the process",
        "seconds": {name: round(statistics.median(values), 4) for name, values in seconds.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def describe(device: torch.device) -> str:
    """The device's name, or how many CPU threads were used."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def write_radiographs(folder: Path, num: int, height: int, width: int) -> list[Path]:
    """JPEG files of the size of released radiographs: smooth, with some grain."""
    generator = np.random.default_rng(0)
    lines = ["file,report"]
    for i in range(num):
        smooth = cv2.resize(generator.integers(0, 256, (24, 20)).astype(np.uint8), (width, height))
        grain = cv2.resize(generator.integers(-8, 9, (height // 4, width // 4)).astype(np.float32), (width, height))
        image = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i:04d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        lines.append(f"{i:04d}.jpg,{' '.join(SENTENCES[: 1 + i % 4])}")
    (folder / "reports.csv").write_text("\n".join(lines) + "\n")
    return sorted(folder.glob("*.jpg"))


def read_files(files: list[Path], generator: np.random.Generator) -> torch.Tensor:
    """float32 [B, 1, 224, 224] as the field's loader makes it from image files."""
    batch = []
    for file in files:
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        height, width = image.shape
        scale = 256 / max(height, width)
        image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        top, left = (256 - image.shape[0]) // 2, (256 - image.shape[1]) // 2
        bottom, right = 256 - image.shape[0] - top, 256 - image.shape[1] - left
        image = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT)
        y, x = generator.integers(0, 33, 2)
        batch.append(torch.from_numpy(image[y : y + 224, x : x + 224].astype(np.float32) / 127.5 - 1))
    return torch.stack(batch).unsqueeze(1)


def crop(images: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """uint8 [B, 1, 256, 256] -> float32 [B, 1, 224, 224] in [-1, 1], each image at its own place."""
    places = generator.integers(0, 33, (len(images), 2))
    cropped = [image[:, y : y + 224, x : x + 224] for image, (y, x) in zip(images, places.tolist(), strict=True)]
    return torch.stack(cropped).float().div_(127.5).sub_(1)


def rates(
    loaders: dict[str, Callable[[np.ndarray], object]], num_images: int, batch_size: int, repeats: int
) -> dict[str, list[float]]:
    """Images per second over random batches, one value a repeat; a first pass of each warms the page cache."""
    found: dict[str, list[float]] = {name: [] for name in loaders}
    for repeat in range(repeats + 1):
        order = np.random.default_rng(repeat).permutation(num_images)
        batches = np.split(order, range(batch_size, num_images, batch_size))
        for name, load in loaders.items():
            # A pass over the store takes milliseconds: several make a time that can be trusted.
            passes = 1 if name == "files" else 10
            started = time.perf_counter()
            for _ in range(passes):
                for indices in batches:
                    load(indices)
            found[name].append(passes * num_images / (time.perf_counter() - started))
    return {name: values[1:] for name, values in found.items()}


def time_loader(num: int, height: int, width: int, batch_size: int, repeats: int) -> dict[str, Any]:
    """Images per second of one thread: files, the store with its reports, and the store with augmentation."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "files"
        root.mkdir()
        files = write_radiographs(root, num, height, width)
        settings = {"release": "folder", "size": 256, "reports": str(root / "reports.csv"), "test_fraction": 0.0}
        settings |= {"validate_fraction": 0.0, "min_words": 0}
        preprocess(Preset.model_validate({"preprocess": settings}), root, Path(place) / "store", workers=1)
        store = open_store(Path(place) / "store")
        tokenizer = Tokenizer.train(SENTENCES, 200)
        pairs = Pairs(store, store.select("train"), tokenizer, max_tokens=112, max_sentences=16)
        config = PretrainConfig.model_validate({"model": {"image_size": 224}})
        generator, random = torch.Generator().manual_seed(0), np.random.default_rng(0)

        def augmented(indices: np.ndarray) -> PairBatch:
            drawn = draw(len(indices), 1.0, generator)
            return to_model_input(pairs.batch(indices), drawn, config, torch.device("cpu"))

        loaders: dict[str, Callable[[np.ndarray], object]] = {
            "files": lambda indices: read_files([files[i] for i in indices], random),
            "store": pairs.batch,
            "store_cropped": lambda indices: crop(pairs.batch(indices).images, random),
            "store_augmented_on_cpu": augmented,
        }
        found = rates(loaders, num, batch_size, repeats)
    torch.set_num_threads(threads)
    ratios = {
        name: [ours / theirs for ours, theirs in zip(values, found["files"], strict=True)]
        for name, values in found.items()
        if name != "files"
    }
    return {
        "part": "loader",
        "images": f"{num} JPEG files of {width} x {height}",
        "batch_size": batch_size,
        "repeats": repeats,
        "images_per_second": {name: round(statistics.median(values), 1) for name, values in found.items()},
        "ratio": {name: round(statistics.median(values), 1) for name, values in ratios.items()},
        "ratio_range": {name: [round(min(values), 1), round(max(values), 1)] for name, values in ratios.items()},
    }


def main() -> None:
    """Print one JSON object a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny shapes and few images")
    parser.add_argument("--only", choices=("step", "loader"), help="one part")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=128, help="files for the loader")
    arguments = parser.parse_args()
    repeats = 3 if arguments.quick else arguments.repeats
    if arguments.only != "loader":
        recipe = tiny_recipe(16) if arguments.quick else field_recipe(arguments.batch_size)
        print(json.dumps(time_steps(*recipe, arguments.device, repeats)), flush=True)
    if arguments.only != "step":
        num, height, width = (16, 640, 512) if arguments.quick else (arguments.images, 2544, 2048)
        print("preparing files and store for the loader ...", file=sys.stderr)
        print(json.dumps(time_loader(num, height, width, min(64, num), repeats)))


if __name__ == "__main__":
    main()
