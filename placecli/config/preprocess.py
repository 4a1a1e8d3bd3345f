"""The section `preprocess`: files -> store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from placecli.config.base import Count, Fraction, Positive, Section


class PreprocessConfig(Section):
    """files -> store."""

    release: Literal[
        "mimic-cxr",
        "openi",
        "folder",
        "demo",
        "chexpert",
        "nih",
        "vindr",
        "covidx",
        "iu-xray",
        "mimic-r2gen",
        "rsna",
        "siim",
        "object-cxr",
        "ms-cxr",
        "lung-masks",
        "covid-chestxray",
    ] = "folder"
    size: Annotated[int, Field(ge=32, le=2048)] = 256
    """S: images are stored as uint8 [S, S], longest side S, zero-padded."""
    views: tuple[Literal["PA", "AP", "FRONTAL", "LATERAL", "OTHER"], ...] = ("PA", "AP", "FRONTAL")
    unknown_view: Literal["keep", "reject"] = "keep"
    not_chest: Literal["reject", "flag"] = "reject"
    """What happens to an image whose header says that it is not a chest radiograph."""
    colour: Literal["reduce", "reject"] = "reduce"
    multi_frame: Literal["reject", "first"] = "reject"
    intensity: Literal["header", "minmax", "percentile"] = "header"
    """header: VOI LUT or window of the file, else its minimum and maximum."""
    reports: Path | None = None
    """folder only: CSV or JSONL of reports, joined by file, study or accession."""
    splits: Literal["clean", "compat", "compat-detection"] = "clean"
    """clean: official test sets, the rest by patient. compat: the field's published split, to the letter, where there
    is one (docs/data.md says for which releases). compat-detection: the same, and for rsna, which has two published
    splits, the one for detection and segmentation."""
    labels: Path | None = None
    """openi: CSV of report-level gold labels, joined by its `filename` column (CXR<uid>). covidx: the training list to
    use where the folder holds several versions. ms-cxr: its table, where it is not under the root."""
    sections: tuple[str, ...] = ("impression", "findings")
    """Sections that the model reads, in this order."""
    splitter: Literal["clinical", "compat"] = "clinical"
    require_report: bool = True
    min_words: Annotated[int, Field(ge=0)] = 3
    validate_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.1
    split_seed: int = 0
    images_per_shard: Count = 1024
    memory_limit_mib: Count = 2048
    time_limit_seconds: Positive = 60.0
    max_megapixels: Positive = 512.0

    @model_validator(mode="after")
    def _fractions_leave_training_data(self) -> PreprocessConfig:
        if self.validate_fraction + self.test_fraction >= 1.0:
            raise ValueError("validate_fraction + test_fraction must stay below 1")
        return self
