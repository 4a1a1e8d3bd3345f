"""Draw where the visual observations (V-PORs) of one image look, each with the sentence of its report it answers most.

python docs/draw_observations.py RUN STORE OUT.png [IMAGE_ID]
python docs/draw_observations.py RUN STORE OUT.png --findings

Without IMAGE_ID: the first image of the test split with three marked findings, or with as many as there are below.
One panel outlines what is marked. `--findings` shows no patient: for each label the mean, over the test images that
have it, of the map with which its prompt is answered, upon the mean of all test images.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parent.parent
# The program of this tree, not an older copy that may be installed.
sys.path.insert(0, str(REPOSITORY))

from placecli.data.store import Store, open_store  # noqa: E402
from placecli.engine.checkpoint import LoadedRun, load_model  # noqa: E402
from placecli.engine.distributed import choose_device  # noqa: E402
from placecli.metrics.grounding import resize_bilinear  # noqa: E402
from placecli.records import Row  # noqa: E402
from placecli.tasks.embed import embed_images_with_maps, embed_texts  # noqa: E402
from placecli.tasks.figures import Panel, draw_heatmaps, write_png  # noqa: E402
from placecli.tasks.grounding import cases_of, label_maps  # noqa: E402
from placecli.tasks.prompts import embed_prompts  # noqa: E402

NUM_OBSERVATIONS, NUM_FINDINGS = 6, 3
NUM_LABELS, MIN_IMAGES = 7, 10  # a mean of fewer images would show the images


def choose_row(rows: Sequence[Row], image_id: str | None) -> Row:
    """The row of that image, else the first with the wanted number of findings among its boxes."""
    if image_id is None:
        return max(rows, key=lambda row: min(len({box.label for box in row.boxes}), NUM_FINDINGS))
    for row in rows:
        if row.image_id == image_id:
            return row
    raise SystemExit(f"{image_id} is no image of the store")


def answer_weights(run: LoadedRun, observations: NDArray[np.float32], row: Row) -> NDArray[np.float64]:
    """[S, K], rows of sum 1: how much each observation answers each sentence, softmax_k(<t_s, v_k> / temperature)."""
    texts = embed_texts(run, [row.sentences])
    logits = texts.observations[0][texts.mask[0]] @ observations.T
    logits = logits.astype(np.float64) / run.preset.pretrain.objective.match_temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def marked_panel(store: Store, row: Row) -> Panel:
    """The outline of all that is marked in the image."""
    x0, y0, x1, y1 = row.content
    labels = sorted({box.label for box in row.boxes})
    marked = np.zeros((store.size, store.size), bool)
    for case in cases_of(row, store.size, store.masks([row])[0], labels):
        marked |= case.region if case.mask is None else case.mask
    nothing = np.zeros((1, 1), np.float32)
    return Panel(title=f"marked: {', '.join(labels) or 'nothing'}", heat=nothing, mask=marked[y0:y1, x0:x1])


def observation_panels(run: LoadedRun, store: Store, row: Row) -> list[Panel]:
    """A panel for each of the observations that answer most, the one that answers a sentence most clearly first."""
    vectors, maps = embed_images_with_maps(run, store.images([row]))
    weights = answer_weights(run, vectors.observations[0], row)
    x0, y0, x1, y1 = row.content
    panels = []
    for k in np.argsort(-weights.max(axis=0))[:NUM_OBSERVATIONS]:
        heat = resize_bilinear(maps.attention[0, k].reshape(maps.grid), (store.size, store.size))[y0:y1, x0:x1]
        title = f"V-POR {k + 1}: {row.sentences[int(weights[:, k].argmax())]}"
        panels.append(Panel(title=title, heat=heat, score=float(weights[:, k].max())))
    return panels


def finding_panels(run: LoadedRun, store: Store, rows: Sequence[Row]) -> list[Panel]:
    """A panel for each of the commonest labels, those of at least `MIN_IMAGES` images."""
    having = {label: [i for i, row in enumerate(rows) if row.labels.get(label) == 1.0] for label in store.labels()}
    common = sorted(
        (label for label in having if len(having[label]) >= MIN_IMAGES), key=lambda each: -len(having[each])
    )
    prompts = embed_prompts(run, common[:NUM_LABELS], run.preset.evaluate.prompts, 64)
    temperature = run.preset.pretrain.objective.match_temperature
    vectors, maps = embed_images_with_maps(run, store.images(rows))
    panels = []
    for label in prompts:
        answers = [
            label_maps(prompts[label].positive, vectors.observations[i], maps.attention[i], maps.grid, temperature)
            for i in having[label]
        ]
        heat = resize_bilinear(np.mean(answers, axis=0), (store.size, store.size))
        panels.append(Panel(title=f"{label.replace('_', ' ')} ({len(answers)} images)", heat=heat))
    return panels


def main() -> None:
    """Write the picture; print the image's id."""
    run_folder, store_folder, out, *image_id = sys.argv[1:]
    run, store = load_model(Path(run_folder), choose_device("cpu")), open_store(Path(store_folder))
    if image_id == ["--findings"]:
        rows = store.select("test")
        mean = store.images(rows).mean(axis=0).round().astype(np.uint8)
        write_png(Path(out), draw_heatmaps(mean, finding_panels(run, store, rows), f"mean of {len(rows)} images"))
        return
    row = choose_row(store.select("all" if image_id else "test"), image_id[0] if image_id else None)
    x0, y0, x1, y1 = row.content
    panels = [marked_panel(store, row), *observation_panels(run, store, row)]
    write_png(Path(out), draw_heatmaps(store.images([row])[0][y0:y1, x0:x1], panels))
    print(row.image_id)


if __name__ == "__main__":
    main()
