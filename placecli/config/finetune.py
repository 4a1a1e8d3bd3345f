"""The section `finetune`: run -> tuned run; one sub-section for each use of an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from placecli.config.base import Count, Fraction, Positive, Section, Weight
from placecli.config.training import TrainingConfig


class TuningConfig(TrainingConfig):
    """What all uses that train by steps share."""

    tune: Literal["probe", "frozen", "full"] = "full"
    """frozen: the encoder keeps its weights and stays in evaluation mode, only what is new learns."""
    image_size: Annotated[int, Field(ge=0, le=1024)] = 0
    """Side of the images that the encoder reads; 0: as it was pre-trained."""
    pretrained_learning_rate_scale: Positive = 0.1


class ClassificationConfig(TuningConfig):
    """Findings of an image, by a linear layer on its features."""

    features: Literal["global", "observations"] = "global"
    """global: the encoder's global feature, as the field's linear protocol. observations: the V-PORs beside it."""

    tune: Literal["probe", "frozen", "full"] = "probe"
    """probe: logistic regression on features computed once. frozen: the same layer learnt by steps, on augmented
    images, as the field's linear protocol does."""
    kind: Literal["multi-label", "multi-class"] = "multi-label"
    """One label alone, as multi-label, is the binary case. multi-class: each image has exactly one of the labels."""
    labels: tuple[str, ...] = ()
    """Empty: all labels that have both kinds of cases in the whole train split, whatever share is learnt from."""
    uncertain: Literal["zeros", "ones", "ignore", "mixed"] = "ignore"
    """How -1 is read. mixed: as present for `uncertain_present`, as absent for the others."""
    uncertain_present: tuple[str, ...] = ("Atelectasis", "Edema", "Pleural Effusion")
    unmentioned: Literal["absent", "ignore"] = "absent"
    penalties: tuple[Positive, ...] = (1e-2, 1e-1, 1.0, 10.0, 100.0)
    """probe: strengths of the L2 penalty that are tried; the validate split chooses."""
    weight_decay: Weight = 1e-6


class SegmentationConfig(TuningConfig):
    """The masks of a store, by a decoder on the encoder's maps."""

    tune: Literal["frozen", "full"] = "full"
    freeze: Literal["all", "weights"] = "all"
    """frozen: what stands still. weights: the field's code forgets evaluation mode, so BatchNorm keeps adapting."""
    decoder: Literal["unet", "setr"] = "unet"
    """unet: joins the maps of several depths. setr: raises the last map step by step."""
    width: Annotated[int, Field(ge=8)] = 64
    """Channels of the decoder at its coarsest map; halved at each step up. The field's setr has 512."""
    loss: Literal["dice", "focal-dice"] = "dice"
    """dice: binary cross-entropy + soft Dice. focal-dice: the field's 10 focal - log Dice."""
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """A pixel is inside where its probability is above."""
    learning_rate: Positive = 1e-3
    patience: Annotated[int, Field(ge=0)] = 0
    """A decoder gains most while the rate falls: 0 lets it fall to the end."""
    epochs: Count = 30
    batch_size: Annotated[int, Field(ge=1)] = 8


class DetectionConfig(TuningConfig):
    """The boxes of a store, by a detector of mmdet on the encoder's maps."""

    tune: Literal["frozen", "full"] = "full"
    freeze: Literal["all", "weights"] = "all"
    """As for segmentation."""
    head: Literal["fcos", "yolov3"] = "fcos"
    """fcos: without anchors. yolov3: the field's, with anchors of COCO scaled to the image."""
    labels: tuple[str, ...] = ()
    """Empty: all labels of boxes in the train split."""
    negatives: Literal["labelled", "none"] = "labelled"
    """Images without a box. labelled: those whose labels say that nothing is there. none: not used, for a release that
    drew boxes on some images only."""
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 96
    """Channels of the feature pyramid."""
    layers: Count = 2
    """fcos: convolutions before each of its outputs."""
    finest_stride: Literal[4, 8] = 8
    """Pixels between two places of the finest map; 4 for findings of a few pixels."""
    turned_box: Literal["ellipse", "corners"] = "ellipse"
    """What an augmentation that turns an image makes of a box: the box around the turned ellipse that filled it, or around
    its turned corners, which is larger than the finding."""
    score_threshold: Fraction = 0.05
    """Boxes with a lower score are not told."""
    overlap: Fraction = 0.5
    """Of two boxes of a label that overlap by more (intersection over union) the one with the lower score is dropped."""
    max_boxes: Count = 100
    """Boxes of an image that are kept."""
    epochs: Count = 30
    batch_size: Annotated[int, Field(ge=1)] = 8


class ReportGenerationConfig(TuningConfig):
    """The report of a study, by a transformer decoder that looks at the patches of its images."""

    sections: Annotated[tuple[Literal["findings", "impression"], ...], Field(min_length=1)] = ("findings", "impression")
    """What is written, in this order."""
    views: Annotated[int, Field(ge=1, le=2)] = 1
    """Images of a study that are read."""
    cleaning: Literal["clean", "compat"] = "clean"
    """compat: R2Gen's cleaning of reports, byte for byte, without sections."""
    compat_source: Literal["iu-xray", "mimic"] = "iu-xray"
    """Whose of R2Gen's two cleaners compat means."""
    layers: Count = 3
    width: Count = 256
    heads: Count = 4
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    min_count: Count = 3
    """A word that occurs less often in the train split is unknown."""
    rarity: Weight = 0.5
    """How much more words of rare sentences count in training: (1 / train reports with the sentence) ^ rarity, of mean 1.
    0: all words alike, as with `cleaning: compat` always."""
    max_tokens: Annotated[int, Field(ge=8, le=1024)] = 128
    """Longest report, start and end included."""
    num_beams: Count = 3
    length_penalty: Weight = 1.0
    """Above 1 beam search favours longer reports, below 1 shorter ones."""
    candidates: Literal["written", "nearest"] = "nearest"
    """What competes to be the report. written: what the decoder writes, alone. nearest: also the reports of the train
    studies that the pre-trained run finds most like the image; the one that these agree with most is told."""
    num_nearest: Count = 50
    """Nearest train studies whose reports compete."""
    agreement_temperature: Positive = 0.35
    """How fast the say of a train study falls with its unlikeness, in standard deviations of likeness."""
    select_by: Literal["bleu_4", "cider", "loss"] = "loss"
    """What chooses the model on the validate split. bleu_4: the field's choice; it rises and falls with length."""
    validate_reports: Count = 100
    """Studies of the validate split that are written, greedily, for the first two."""
    grounding: Literal["none", "mark", "drop"] = "none"
    """mark: say which sentences the pre-trained run contradicts. drop: leave them out."""
    grounding_threshold: float = -1.0
    """A sentence is contradicted where its score lies below this many standard deviations from its mean over images."""
    tune: Literal["frozen", "full"] = "frozen"
    augment: Weight = 0.0
    """0: as stored, so that patches of a frozen encoder are computed once."""
    epochs: Count = 30
    batch_size: Annotated[int, Field(ge=1)] = 16


class FinetuneConfig(Section):
    """What is tuned, from what and on how much; `task` and the `start` keys are filled in by the command."""

    task: Literal["", "classification", "segmentation", "detection", "report-generation"] = ""
    start: Literal["run", "imagenet", "random"] = "run"
    start_run: Path | None = None
    start_digest: str = ""
    fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the train split that is learnt from."""
    sampling: Literal["patients", "rows"] = "patients"
    """patients: whole patients are drawn, a small share within each larger one. rows: the field's draw of rows."""
    classification: ClassificationConfig = ClassificationConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    detection: DetectionConfig = DetectionConfig()
    report_generation: ReportGenerationConfig = ReportGenerationConfig()
