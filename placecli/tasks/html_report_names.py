"""Words of the evaluation page: what each task and metric is called and what it means."""

from __future__ import annotations

from typing import Final

TASKS: Final = {
    "retrieval": (
        "Retrieval: image and report",
        "Does an image find its own report among those of all patients of the split, and a report its image?",
    ),
    "zero-shot": (
        "Zero-shot findings",
        "A sentence that states a finding is compared with one that denies it. No label was used for learning; labels"
        " serve only to score the answer.",
    ),
    "grounding": (
        "Where a finding is",
        "The model is asked for a finding that a reader marked: does its heat-map point there?",
    ),
    "class-retrieval": (
        "Retrieval by class",
        "Images that show one finding and no other: how many of the texts, or images, that come first share it?",
    ),
    "classification": ("Classification", "A probability for each finding, from an encoder tuned with labels."),
    "segmentation": ("Segmentation", "The region that a reader marked, pixel by pixel."),
    "detection": ("Detection", "Boxes around findings, each with a score."),
    "report-generation": (
        "Report generation",
        "A report written for the image alone, held against the reference report.",
    ),
}
"""By task a title and a sentence."""

METRICS: Final = {
    "recall@1": ("Report found first", "Recall@1, image to report"),
    "recall@5": ("Report among the first 5", "Recall@5, image to report"),
    "recall@10": ("Report among the first 10", "Recall@10, image to report"),
    "median_rank": ("Median rank of the report", "1 is best"),
    "recall@10_text_to_image": ("Image among the first 10", "Recall@10, report to image"),
    "precision@5_macro": ("First 5 share the label", "Precision@5, mean over labels"),
    "auroc_macro": ("AUROC", "mean over labels"),
    "auroc_macro_global": ("AUROC by the global score", "mean over labels"),
    "auroc_macro_observation": ("AUROC by observations", "mean over labels"),
    "auroc_macro_combined": ("AUROC by both", "mean over labels"),
    "average_precision_macro": ("Average precision", "mean over labels"),
    "ece_macro": ("Calibration error", "15 bins, mean over labels; 0 is best"),
    "accuracy_macro": ("Accuracy at 0.5", "mean over labels"),
    "f1_macro": ("F1 at 0.5", "mean over labels"),
    "pointing_game": ("Pointing game", "the map's maximum lies inside the mark"),
    "pointing_game_prior": ("The same, one map for all", "what knowing the usual place gives"),
    "pointing_game_gain": ("Gain over that", "pointing game minus the line above"),
    "overlap": ("Overlap", "strongest tenth of the map and the mark, intersection over union"),
    "mass_inside": ("Mass inside", "share of the map that lies inside the mark"),
    "precision@1": ("First shares the class", "Precision@1, image to text"),
    "precision@5": ("First 5 share the class", "Precision@5, image to text"),
    "precision@10": ("First 10 share the class", "Precision@10, image to text"),
    "precision@100": ("First 100 share the class", "Precision@100, image to text"),
    "hit@5": ("One of the first 5 does", "Hit@5, image to text"),
    "hit@10": ("One of the first 10 does", "Hit@10, image to text"),
    "precision@5_image_to_image": ("First 5 images do", "Precision@5, image to image"),
    "precision@10_image_to_image": ("First 10 images do", "Precision@10, image to image"),
    "dice_positives": ("Dice", "mean over images with a mark"),
    "iou_positives": ("Intersection over union", "mean over images with a mark"),
    "dice_all": ("Dice, all images", "an empty mask found empty counts 1"),
    "dice_pooled": ("Dice, pixels pooled", "all images as one"),
    "dice_compat": ("Dice as published", "mean of batch means"),
    "bleu_1": ("BLEU-1", "words in common"),
    "bleu_4": ("BLEU-4", "runs of four words in common"),
    "rouge_l": ("ROUGE-L", "longest common word order"),
    "cider_d": ("CIDEr-D", "rare words weigh more; up to 10"),
    "meteor": ("METEOR", "words, stems and synonyms in common"),
    "meteor_exact_stem": ("METEOR without synonyms", "words and stems in common"),
    "f1_micro_14": ("Findings in common, F1", "14 findings by our labeler, all mentions alike"),
    "f1_macro_14": ("Findings in common, F1", "14 findings by our labeler, mean over findings"),
    "f1_micro_5": ("Five main findings, F1", "all mentions alike"),
    "map": ("Mean average precision", "COCO, IoU 0.50 to 0.95"),
    "map_50": ("Average precision at IoU 0.5", "mean over labels"),
    "map_75": ("Average precision at IoU 0.75", "mean over labels"),
    "ap_50": ("Average precision at IoU 0.5", "one label"),
    "froc": ("FROC", "sensitivity at 1/8 to 8 false alarms an image"),
}
"""By name of a metric what it is called, and a remark; the order of the page's tables. Others go by their own name."""

NO_SHARES: Final = ("median_rank", "cider_d", "compat_cider_d")
"""How names begin of numbers that may pass 1."""

NEAREST: Final = ("bleu_4", "rouge_l", "cider_d", "f1_micro_14")
"""Metrics of a report that is copied from the most similar training image."""

SCORES: Final = {
    "global": "the global score",
    "observation": "the score by observations",
    "combined": "both scores combined",
}

COUNTS: Final = {
    "n": "{} cases",
    "patients": "{} patients",
    "images": "{} images",
    "studies": "{} studies",
    "labels": "{} labels",
    "reports": "{} reports to choose from",
    "images_without_report": "{} images without a report",
    "texts": "{} texts",
    "per_class": "{} images of each class",
    "cases_with_mask": "{} cases with a mask",
    "images_in_prior": "{} images behind the map for all",
    "positives": "{} with something marked",
    "empty": "{} with nothing marked",
    "compat_batch": "batches of {} in the published Dice",
    "images_with_boxes": "{} images with a box",
    "detections": "{} boxes of the first run",
    "empty_reports": "{} empty reports",
    "distinct_reports": "{} different reports",
    "distinct_reference_reports": "{} different references",
    "left_out_as_leaked": "{} images left out, since they leaked from train",
}
"""By key of the counts, in order, the words that the page has for it; others are not shown."""

LABEL_COUNTS: Final = {
    "zero-shot": "Present",
    "classification": "Present",
    "grounding": "Marked images",
    "class-retrieval": "Queries",
    "detection": "Boxes",
}
"""What the number beside a label counts."""

LABEL_METRICS: Final = {
    "zero-shot": ("auroc", "average_precision"),
    "classification": ("auroc", "average_precision"),
    "grounding": ("pointing_game",),
    "class-retrieval": ("precision@5",),
    "detection": ("ap_50",),
}
"""Metrics of single labels that a task's table shows."""

PROTOCOLS: Final = {
    "clean": (
        "Protocol clean: patients of this split are in no other split of its store, leaks being looked for by id and by"
        " pixels. Equal reports count as one, and every image counts."
    ),
    "compat": (
        "Protocol compat: the field's published way of counting, with its known leaks and short-cuts. Compare these numbers"
        " with published ones only, and describe no model by them."
    ),
}

READING: Final = (
    (
        "Interval",
        "The bar or the small figures: 95 % bootstrap interval. Patients are drawn again and again with replacement, all"
        " images of a patient together. It says how much the choice of test patients matters, not what another training"
        " would give. A calibration error can lie below its own interval: cases that are drawn twice make it larger.",
    ),
    (
        "Chance",
        "What guessing gives, the black tick: a random order, an even guess; for masks and boxes the best guess that is the same"
        " for every image; for reports the most frequent one. A measure without one has no simple chance level.",
    ),
    (
        "Difference",
        "The run minus the first one, both on the same resampled patients. Many measures are compared at once: one interval"
        " in twenty misses its value by chance alone.",
    ),
    (
        "Colours in reports",
        "Green: states a finding that the other report states. Dotted line below: denies one that the other denies."
        " Underlined on red: contradicts it. Amber: a finding that it does not mention. Dashed frame: a finding that the other"
        " report does not state. Found by rules from the words, so a hint, not a judgement.",
    ),
    ("Cases", "Chosen by the numbers, not by hand: the best, the middle and the worst of this split."),
)
