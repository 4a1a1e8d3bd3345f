"""Write goldens/text.json: what pycocoevalcap and its Java programs say of made-up reports. Run by hand; needs Java.

    .venv/bin/python tests/metrics/make_goldens.py

The tests read the file and need neither. All sentences are invented.
"""

from __future__ import annotations

import json
from pathlib import Path

GOLDENS = Path(__file__).resolve().parent / "goldens" / "text.json"

# How a tokenizer may go wrong: numbers, units, abbreviations, hyphens, slashes, brackets, missing spaces, quotes.
TEXTS = (
    "Heart size is normal. Lungs are clear.",
    "A 1.5 cm nodule and a 2.5cm mass; 8mm and 12-15 mm before.",
    "Compared with 10/12/2020 at 10:30, 1,000 mL were drained.",
    "Dr. Smith saw a change vs. the prior CT. No. 5 of 7, Fig. 3.",
    "No acute finding.There is no effusion.Heart is normal.2. Clear lungs",
    "Right-sided chest tube, T12-L1 wedge, C5-6 fusion, x-ray of 02/010/XXXX.",
    "Scarring/atelectasis and/or infiltrate; s/p CABG, c/o SOB, r/o TB.",
    "The patient's lungs aren't clear; it can't be seen, they'll repeat it, cannot exclude.",
    "Opacity (left > right) [unchanged] {old}, <5 mm, >=3, +/-2, 50% of 60-70%.",
    "\u201cGround-glass\u201d opacities \u2013 mild \u2014 at the patient\u2019s left base\u2026 \u00bd inch.",
    "ET tube 4 cm. above the carina, approx. 3 in. lower, i.e. too high, e.g., 2 cm.",
    "COPD/emphysema??? ___ year old, ******, XXXX--XXXX, A&P, AT&T, O'Brien, o'clock.",
    "786.2, 786.07 ,486 .12 V72.5 1. Stable. 2) Normal. 3: none; etc.",
    "5 ft. 3 in. woman at 3 p.m., St. Mary, Jan. 5, Mr. X, U.S. unit, lt. lower lobe, rt. apex.",
    "bilateral pleural effusions with adjacent basal atelectasis",
    "Portable AP view, 2-view PA/lat; T1-weighted, COVID-19, B12, H1N1 and O2.",
    "http://example.org/a?b=1 and someone@example.org wrote 'fine' and ''ok'' and `so`.",
    "x--y and x -y and x- y and -5 and - 5 and 5-6 and 1-1/2 and .5 mm",
    "Gonna, wanna, lemme see; I'd've said it's 80's style &lt;5 &amp; more.",
    "",
)

# Candidate, references. Few words repeat in some and many in others; lengths differ.
REPORTS = (
    ("The heart is normal in size.", ["Heart size is normal.", "The heart is of normal size."]),
    ("The lungs are clear.", ["The lungs are clear."]),
    ("There is no pneumothorax or pleural effusion.", ["No pleural effusion or pneumothorax is seen."]),
    ("Small left pleural effusion with adjacent atelectasis.", ["Small effusion on the left, and left basal atelectasis."]),
    ("Cardiomegaly.", ["The cardiac silhouette is enlarged. No edema."]),
    (
        "The heart is enlarged. The lungs are clear. There is no effusion. There is no pneumothorax.",
        ["Mild cardiomegaly. Clear lungs. No effusion. No pneumothorax."],
    ),
    ("Right upper lobe opacity.", ["A dense opacity of the right upper lobe suggests pneumonia.", "Right upper lobe pneumonia."]),
    ("Endotracheal tube 4.5 cm above the carina.", ["The endotracheal tube ends 4 cm above the carina."]),
    ("No acute cardiopulmonary abnormality.", ["No acute cardiopulmonary disease.", "No acute abnormality of the chest."]),
    ("Interval improvement of the edema.", ["Pulmonary edema has improved in the interval."]),
    ("The the the the.", ["The heart and the lungs are normal."]),
    ("Degenerative changes of the thoracic spine.", ["Bones are intact."]),
    (
        "Low lung volumes with bibasilar atelectasis; there is no focal consolidation, effusion or pneumothorax.",
        ["Lung volumes are low. Bibasilar atelectasis. No focal consolidation, pleural effusion, or pneumothorax."],
    ),
    ("Stable cardiomediastinal silhouette.", ["The cardiomediastinal silhouette is stable and the hila are normal."]),
    ("Healed rib fractures on the right.", ["Old healed fracture of a right rib.", "Several right rib fractures, healed."]),
    ("Clear lungs. Clear lungs. Clear lungs.", ["Lungs are clear."]),
)  # fmt: skip


def main() -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokens = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(TEXTS)})
    wanted = PTBTokenizer().tokenize({i: [{"caption": r} for r in own] for i, (_, own) in enumerate(REPORTS)})
    found = PTBTokenizer().tokenize({i: [{"caption": text}] for i, (text, _) in enumerate(REPORTS)})
    bleu, _ = Bleu(4).compute_score(wanted, found, verbose=0)
    rouge, rouges = Rouge().compute_score(wanted, found)
    cider, ciders = Cider().compute_score(wanted, found)
    program = Meteor()
    meteor, meteors = program.compute_score(wanted, found)
    statistics = [program._stat(found[i][0], wanted[i]) for i in range(len(REPORTS))]
    golden = {
        "made_with": "pycocoevalcap 1.2: PTBTokenizer 3.4.1, METEOR 1.5",
        "texts": [[text, tokens[i][0]] for i, text in enumerate(TEXTS)],
        "reports": [
            {"candidate": text, "references": own, "words": found[i][0], "reference_words": wanted[i]}
            for i, (text, own) in enumerate(REPORTS)
        ],
        "bleu": [float(value) for value in bleu],
        "rouge_l": {"corpus": float(rouge), "cases": [float(value) for value in rouges]},
        "cider": {"corpus": float(cider), "cases": [float(value) for value in ciders]},
        "meteor": {"corpus": meteor, "cases": meteors, "statistics": statistics},
    }
    GOLDENS.write_text(json.dumps(golden, indent=1, ensure_ascii=True) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
