"""The rule-based labeler against labels that people gave to Open-i reports, and its speed on one core.

    python benchmarks/labeler.py --data DATA          the half of the reports that the rules were not written on
    python benchmarks/labeler.py --data DATA --half development
    python benchmarks/labeler.py --quick              twenty sentences of our own, no data, seconds

DATA holds openi_gold_labels/openi_gld_std14.csv (NegBio's release: 14 findings of NIH and "normal", from the collection's
human codes) and openi_nlmcxr/NLMCXR_reports.tgz; default: the folder that PLACE_TEST_DATA names. The text is findings and
impression. A report is of the development half where the CRC-32 of its id ("CXR1") is even.

Each finding is scored against the columns of GOLD below; what has no counterpart is left out on both sides. Uncertain is read
both as present and as absent, because the human codes have no such state. Intervals are 95 %, bootstrapped by report, which
here is by patient.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from placecli.data.releases.openi_xml import ARCHIVE, XmlReport, read_xml_reports
from placecli.metrics.bootstrap import bootstrap
from placecli.metrics.clinical import agreement
from placecli.metrics.clinical.findings import COMPETITION, FINDINGS
from placecli.metrics.clinical.labeler import label_report, label_reports

GOLD = {
    "No Finding": ("normal",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Lung Lesion": ("Mass", "Nodule"),
    "Edema": ("Edema",),
    "Consolidation": ("Consolidation",),
    "Pneumonia": ("Pneumonia",),
    "Atelectasis": ("Atelectasis",),
    "Pneumothorax": ("Pneumothorax",),
    "Pleural Effusion": ("Effusion",),
    "Pleural Other": ("Pleural_Thickening",),
}
"""Finding -> the gold columns any of which states it.

Left out of the gold set: Infiltration (a part of Lung Opacity only), Emphysema, Fibrosis, Hernia. Left out of the findings:
Enlarged Cardiomediastinum, Lung Opacity, Fracture, Support Devices.
"""

QUICK = (
    ("Small left pleural effusion with adjacent atelectasis.", {"Pleural Effusion": 1, "Atelectasis": 1}),
    ("No pneumothorax or effusion.", {"No Finding": 1, "Pneumothorax": 0, "Pleural Effusion": 0}),
    (
        "Without focal consolidation, effusion, or edema.",
        {"No Finding": 1, "Consolidation": 0, "Pleural Effusion": 0, "Edema": 0},
    ),
    ("No change in the right effusion.", {"Pleural Effusion": 1}),
    ("The effusion has resolved.", {"No Finding": 1, "Pleural Effusion": 0}),
    ("The effusion has not resolved.", {"Pleural Effusion": 1}),
    ("Opacity may represent pneumonia.", {"Lung Opacity": 1, "Pneumonia": -1}),
    ("Pneumonia cannot be excluded.", {"Pneumonia": -1}),
    ("Pneumonia has been excluded.", {"No Finding": 1, "Pneumonia": 0}),
    ("No pneumothorax, mild cardiomegaly.", {"Pneumothorax": 0, "Cardiomegaly": 1}),
    ("Heart size is normal.", {"No Finding": 1, "Cardiomegaly": 0}),
    ("The heart is borderline enlarged.", {"Cardiomegaly": -1}),
    ("The mediastinum is widened.", {"Enlarged Cardiomediastinum": 1}),
    ("Old rib fractures.", {"Fracture": 1}),
    ("PICC tip in the SVC.", {"No Finding": 1, "Support Devices": 1}),
    ("Atelectasis versus scarring.", {"Atelectasis": -1, "Lung Opacity": -1}),
    ("Apical pleural thickening.", {"Pleural Other": 1}),
    ("Nodule in the left upper lobe.", {"Lung Lesion": 1}),
    ("The lungs are clear.", {"No Finding": 1}),
    ("Scoliosis of the spine.", {}),
)


@dataclass(frozen=True)
class Case:
    """One report with its human codes by column."""

    name: str
    text: str
    gold: dict[str, str]


def read_cases(data: Path) -> list[Case]:
    """Every report that has gold labels, sorted by id."""
    with (data / "openi_gold_labels" / "openi_gld_std14.csv").open(encoding="utf-8", newline="") as stream:
        gold = {row["filename"]: row for row in csv.DictReader(stream)}
    with tempfile.TemporaryDirectory() as folder:
        # The reader prefers an unpacked folder beside the archive, which may hold a few reports only.
        (Path(folder) / ARCHIVE).symlink_to((data / "openi_nlmcxr" / ARCHIVE).resolve())
        reports = [report for report in read_xml_reports(Path(folder)) if isinstance(report, XmlReport)]
    texts = {
        each.study_id: f"{each.sections.get('findings', '')}\n\n{each.sections.get('impression', '')}"
        for each in reports
    }
    return [Case(name, texts[name], gold[name]) for name in sorted(gold) if name in texts]


def half_of(name: str) -> str:
    return "development" if crc32(name.encode()) % 2 == 0 else "test"


def gold_table(cases: Sequence[Case]) -> NDArray[np.float64]:
    """float64 [n, 14]: 1 or 0, nan for findings without a counterpart."""
    table = np.full((len(cases), len(FINDINGS)), np.nan)
    for finding, columns in GOLD.items():
        table[:, FINDINGS.index(finding)] = [any(case.gold[column] == "1" for column in columns) for case in cases]
    return table


def report_half(cases: Sequence[Case], uncertain: agreement.Uncertain, predicted: NDArray[np.float64]) -> None:
    truth = gold_table(cases)
    outcomes = agreement.outcomes(predicted, truth, uncertain)
    precision, recall, f1 = agreement.precision(outcomes), agreement.recall(outcomes), agreement.f1(outcomes)
    print(f"\nuncertain read as {uncertain}\n\n| finding | coded | precision | recall | F1 |\n|---|---|---|---|---|")
    for finding in GOLD:
        column = FINDINGS.index(finding)
        coded = int(np.nansum(truth[:, column]))
        print(f"| {finding} | {coded} | {precision[column]:.3f} | {recall[column]:.3f} | {f1[column]:.3f} |")
    patients = [case.name for case in cases]
    five = tuple(name for name in COMPETITION if name in GOLD)
    for title, names in ((f"all {len(GOLD)}", tuple(GOLD)), ("the five of CheXpert's competition", five)):
        chosen = agreement.select(outcomes, names)
        for kind, score in (("micro", agreement.micro_f1), ("macro", agreement.macro_f1)):
            found = bootstrap(lambda w, s=score, c=chosen: s(c, w), patients, replicates=1000, seed=0)  # type: ignore[misc]
            print(f"{kind} F1, {title}: {score(chosen):.3f} ({found.low:.3f} to {found.high:.3f})")


def timed(texts: Sequence[str]) -> tuple[NDArray[np.float64], float]:
    """Labels, and reports a second of processor time."""
    start = time.process_time()
    labels = label_reports(texts)
    return labels, len(texts) / max(time.process_time() - start, 1e-9)


def run_quick() -> int:
    wrong = [text for text, labels in QUICK if label_report(text) != labels]
    _, speed = timed([" ".join(text for text, _ in QUICK)] * 20)
    print(
        f"{len(QUICK) - len(wrong)} of {len(QUICK)} sentences right; {speed:.0f} reports of {len(QUICK)} sentences a second"
    )
    for text in wrong:
        print(f"wrong: {text}")
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PLACE_TEST_DATA", "")))
    parser.add_argument("--half", choices=("test", "development"), default="test")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        return run_quick()
    if not (options.data / "openi_gold_labels").is_dir():
        print(f"no openi_gold_labels in {options.data.resolve()}: give --data or set PLACE_TEST_DATA", file=sys.stderr)
        return 1
    cases = [case for case in read_cases(options.data) if half_of(case.name) == options.half]
    predicted, speed = timed([case.text for case in cases])
    words = sum(len(case.text.split()) for case in cases) / len(cases)
    print(
        f"{options.half} half: {len(cases)} reports of {words:.0f} words on average; {speed:.0f} reports a second on one core"
    )
    for uncertain in ("present", "absent"):
        report_half(cases, uncertain, predicted)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
