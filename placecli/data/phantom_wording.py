"""The wordings of synthetic reports: for each finding how it is described, doubted, summed up, and denied.

Slots: {side} left or right, {Side} capitalised, {grade} a word for the severity, {Grade} capitalised, {site} a
lobe or zone, {size} a length, {other} the grade on the other side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from placecli.data import phantom_findings as kinds

Wordings = Mapping[str, tuple[str, ...]]

GRADES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    kinds.EFFUSION: {"mild": ("small", "trace"), "moderate": ("moderate", "moderate-sized"), "severe": ("large",)},
    kinds.PNEUMOTHORAX: {"mild": ("small", "tiny"), "moderate": ("moderate",), "severe": ("large",)},
    kinds.ATELECTASIS: {"mild": ("mild", "minimal"), "moderate": ("moderate",), "severe": ("marked", "extensive")},
    kinds.CONSOLIDATION: {"mild": ("patchy", "subtle"), "moderate": ("moderate",), "severe": ("dense", "extensive")},
    kinds.HERNIA: {"mild": ("small",), "moderate": ("moderate",), "severe": ("large",)},
}
"""Words for mild, moderate and severe where those three words themselves are not used."""
PLAIN_GRADES: Final[Mapping[str, tuple[str, ...]]] = {
    "mild": ("mild",),
    "moderate": ("moderate",),
    "severe": ("severe", "marked"),
}

DESCRIBED: Final[Wordings] = {
    kinds.CARDIOMEGALY: (
        "There is {grade} cardiomegaly.",
        "The heart is {grade}ly enlarged.",
        "{Grade} enlargement of the cardiac silhouette.",
        "The cardiac silhouette is {grade}ly enlarged.",
        "Heart size is {grade}ly increased.",
        "{Grade} cardiomegaly is present.",
        "The cardiomediastinal silhouette shows {grade} enlargement of the heart.",
    ),
    kinds.EFFUSION: (
        "There is a {grade} {side} pleural effusion.",
        "A {grade} {side} pleural effusion is present.",
        "{Grade} {side} pleural effusion with blunting of the costophrenic angle.",
        "The {side} costophrenic angle is blunted by a {grade} effusion.",
        "{Side} pleural effusion is {grade} in size.",
        "{Grade} amount of pleural fluid layers at the {side} base.",
        "Opacity with a meniscus at the {side} base is a {grade} pleural effusion.",
    ),
    f"{kinds.EFFUSION} bilateral": (
        "There are bilateral pleural effusions, {grade} on the right and {other} on the left.",
        "Bilateral pleural effusions, {grade} right and {other} left.",
        "Pleural effusions are seen on both sides, {grade} on the right and {other} on the left.",
        "{Grade} right and {other} left pleural effusions are present.",
        "Both costophrenic angles are blunted by effusions, {grade} right, {other} left.",
        "A {grade} right pleural effusion and a {other} left pleural effusion are noted.",
    ),
    kinds.CONSOLIDATION: (
        "There is {grade} consolidation in the {side} {site}.",
        "{Grade} airspace opacity in the {side} {site} is consistent with consolidation.",
        "{Grade} {side} {site} consolidation.",
        "The {side} {site} shows {grade} consolidation.",
        "Focal {grade} opacity in the {side} {site} is concerning for pneumonia.",
        "{Grade} consolidation is seen in the {side} {site}.",
        "{Grade} opacification of the {side} {site} represents consolidation.",
    ),
    kinds.ATELECTASIS: (
        "There is {grade} atelectasis at the {side} lung base.",
        "{Grade} {side} basilar atelectasis.",
        "Linear opacities at the {side} base reflect {grade} atelectasis.",
        "{Grade} plate-like atelectasis is seen at the {side} base.",
        "Streaky {side} basilar opacity is {grade} atelectasis.",
        "{Grade} subsegmental atelectasis in the {side} lower lung.",
        "Band-like opacity above the {side} hemidiaphragm is {grade} atelectasis.",
    ),
    f"{kinds.ATELECTASIS} bilateral": (
        "There is bibasilar atelectasis, {grade} on the right and {other} on the left.",
        "Bibasilar atelectasis, {grade} right and {other} left.",
        "Linear opacities at both bases reflect atelectasis, {grade} right, {other} left.",
        "Streaky bibasilar opacities are atelectasis, {grade} right and {other} left.",
        "Bilateral basilar atelectasis is {grade} on the right and {other} on the left.",
        "Plate-like atelectasis is seen at both bases, {grade} right, {other} left.",
    ),
    kinds.PNEUMOTHORAX: (
        "There is a {grade} {side} pneumothorax.",
        "A {grade} {side} pneumothorax is present.",
        "{Grade} {side} apical pneumothorax with a visible pleural line.",
        "A pleural line at the {side} apex indicates a {grade} pneumothorax.",
        "{Grade} pneumothorax is seen on the {side}.",
        "{Side}-sided pneumothorax is {grade} in size.",
        "Absent lung markings beyond a pleural line on the {side}, a {grade} pneumothorax.",
    ),
    kinds.NODULE: (
        "There is a {size} nodule in the {side} {site} lung zone.",
        "A {size} pulmonary nodule projects over the {side} {site} lung.",
        "{Size} round nodular opacity in the {side} {site} lung.",
        "{Side} {site} lung nodule measures {size}.",
        "A solitary nodule measuring {size} is seen in the {side} {site} zone.",
        "Well-defined {size} nodule, {side} {site} lung.",
    ),
    kinds.MASS: (
        "There is a {size} mass in the {side} {site} lung.",
        "A {size} lobulated mass projects over the {side} {site} lung zone.",
        "{Size} spiculated mass in the {side} {site} lung.",
        "{Side} {site} lung mass measures {size}.",
        "A large mass-like opacity measuring {size} occupies the {side} {site} zone.",
        "Rounded {size} mass, {side} {site} lung, concerning for malignancy.",
    ),
    kinds.EDEMA: (
        "There is {grade} pulmonary edema.",
        "{Grade} bilateral perihilar opacities are consistent with pulmonary edema.",
        "{Grade} pulmonary edema with vascular congestion.",
        "Pulmonary vascular congestion and {grade} interstitial edema.",
        "Perihilar haziness and Kerley B lines indicate {grade} edema.",
        "{Grade} pulmonary edema is present bilaterally.",
        "Indistinct pulmonary vessels in keeping with {grade} pulmonary edema.",
    ),
    kinds.HYPERINFLATION: (
        "The lungs are {grade}ly hyperinflated.",
        "{Grade} hyperinflation with flattened hemidiaphragms.",
        "There is {grade} hyperinflation of the lungs.",
        "Flattening of the diaphragms reflects {grade} hyperinflation.",
        "{Grade} hyperexpansion of the lungs suggests emphysema.",
        "The lungs are {grade}ly hyperexpanded with low flat diaphragms.",
    ),
    kinds.HERNIA: (
        "There is a {grade} hiatal hernia.",
        "A {grade} hiatal hernia projects behind the heart.",
        "{Grade} retrocardiac hiatal hernia with an air-fluid level.",
        "Retrocardiac opacity with an air-fluid level is a {grade} hiatal hernia.",
        "{Grade} hiatal hernia is noted.",
        "Rounded retrocardiac density containing gas is a {grade} hiatal hernia.",
    ),
    kinds.SCOLIOSIS: (
        "There is {grade} scoliosis of the thoracic spine, convex to the {side}.",
        "{Grade} {side} convex thoracic scoliosis.",
        "The thoracic spine shows {grade} curvature to the {side}.",
        "{Grade} dextroscoliosis of the thoracic spine.|{Grade} levoscoliosis of the thoracic spine.",
        "{Grade} scoliosis with convexity to the {side}.",
        "Scoliotic curvature of the spine, {grade}, convex {side}.",
    ),
    kinds.PACEMAKER: (
        "A {side} chest pacemaker is in place.",
        "{Side}-sided pacemaker with leads in the right heart.",
        "Pacemaker generator overlies the {side} chest.",
        "{Side} pectoral pacemaker with intact leads.",
        "A pacing device is seen on the {side} with leads in standard position.",
        "Cardiac pacemaker, {side} chest wall, leads unchanged in course.",
    ),
    kinds.CENTRAL_LINE: (
        "A {side} central venous line ends in the superior vena cava.",
        "{Side} central venous catheter with tip in the SVC.",
        "{Side}-sided central line terminates in the lower SVC.",
        "A {side} central venous catheter is in place.",
        "Tip of the {side} central line projects over the SVC.",
        "The {side} central venous line is in standard position.",
    ),
    kinds.TUBE: (
        "An endotracheal tube ends above the carina.",
        "Endotracheal tube in standard position.",
        "The endotracheal tube terminates above the carina, and a feeding tube reaches the stomach.",
        "Endotracheal and enteric tubes are in place.",
        "Patient is intubated with the tip of the tube above the carina.",
        "ET tube tip projects above the carina.",
    ),
}

DOUBTED: Final[Wordings] = {
    kinds.CARDIOMEGALY: ("The heart is borderline to mildly enlarged.", "Possible mild cardiomegaly."),
    kinds.EFFUSION: (
        "A small {side} pleural effusion cannot be excluded.",
        "Possible trace {side} pleural effusion.",
        "Slight blunting of the {side} costophrenic angle may reflect a small effusion.",
    ),
    kinds.CONSOLIDATION: (
        "Subtle opacity in the {side} {site} may represent early consolidation.",
        "Possible consolidation in the {side} {site}.",
        "Faint {side} {site} opacity, pneumonia cannot be excluded.",
    ),
    kinds.ATELECTASIS: (
        "Probable minimal {side} basilar atelectasis.",
        "Streaky {side} base opacity, likely atelectasis.",
    ),
    kinds.PNEUMOTHORAX: ("Possible tiny {side} apical pneumothorax.", "A small {side} pneumothorax is suspected."),
    kinds.EDEMA: ("Possible mild pulmonary edema.", "Mild vascular congestion, early edema cannot be excluded."),
    kinds.HYPERINFLATION: ("The lungs appear mildly hyperinflated.", "Probable mild hyperinflation."),
    kinds.HERNIA: ("Probable small hiatal hernia.", "Retrocardiac density may represent a small hiatal hernia."),
    kinds.SCOLIOSIS: ("Slight curvature of the thoracic spine to the {side}, possible mild scoliosis.",),
}

SUMMED: Final[Wordings] = {
    kinds.CARDIOMEGALY: ("{Grade} cardiomegaly.", "{Grade}ly enlarged heart."),
    kinds.EFFUSION: ("{Grade} {side} pleural effusion.", "{Side} pleural effusion, {grade}."),
    f"{kinds.EFFUSION} bilateral": (
        "Bilateral pleural effusions.",
        "Right {grade} and left {other} pleural effusions.",
    ),
    kinds.CONSOLIDATION: (
        "{Side} {site} consolidation.",
        "{Side} {site} pneumonia.",
        "Pneumonia in the {side} {site}.",
    ),
    kinds.ATELECTASIS: ("{Side} basilar atelectasis.", "{Grade} atelectasis at the {side} base."),
    f"{kinds.ATELECTASIS} bilateral": ("Bibasilar atelectasis.", "Atelectasis at both lung bases."),
    kinds.PNEUMOTHORAX: ("{Grade} {side} pneumothorax.", "{Side} pneumothorax, {grade}."),
    kinds.NODULE: ("{Side} {site} lung nodule.", "{Size} {side} lung nodule, follow-up advised."),
    kinds.MASS: ("{Side} {site} lung mass, CT advised.", "{Size} {side} {site} lung mass."),
    kinds.EDEMA: ("{Grade} pulmonary edema.", "Findings of {grade} congestive failure with pulmonary edema."),
    kinds.HYPERINFLATION: ("{Grade} hyperinflation.", "Hyperinflated lungs, likely emphysema."),
    kinds.HERNIA: ("{Grade} hiatal hernia.", "Hiatal hernia, {grade}."),
    kinds.SCOLIOSIS: ("{Grade} thoracic scoliosis.", "Scoliosis convex to the {side}."),
    kinds.PACEMAKER: ("{Side} pacemaker.", "Pacemaker in place."),
    kinds.CENTRAL_LINE: ("{Side} central line in good position.", "Central venous catheter in place."),
    kinds.TUBE: ("Endotracheal tube in good position.", "Intubated patient, tubes in place."),
}

_OPACITIES: Final = (kinds.CONSOLIDATION, kinds.ATELECTASIS, kinds.EDEMA, kinds.NODULE, kinds.MASS)
_PLEURA: Final = (kinds.EFFUSION, kinds.PNEUMOTHORAX)

DENIED: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("Heart size is normal.", (kinds.CARDIOMEGALY,)),
    ("The heart is normal in size.", (kinds.CARDIOMEGALY,)),
    ("The heart is not enlarged.", (kinds.CARDIOMEGALY,)),
    ("Normal heart size.", (kinds.CARDIOMEGALY,)),
    ("Cardiac silhouette is within normal limits.", (kinds.CARDIOMEGALY, kinds.HERNIA)),
    ("The cardiomediastinal silhouette is normal.", (kinds.CARDIOMEGALY, kinds.HERNIA, kinds.MASS)),
    ("No pleural effusion.", (kinds.EFFUSION,)),
    ("There is no pleural effusion.", (kinds.EFFUSION,)),
    ("The costophrenic angles are sharp.", (kinds.EFFUSION, kinds.HYPERINFLATION)),
    ("No pneumothorax.", (kinds.PNEUMOTHORAX,)),
    ("There is no evidence of pneumothorax.", (kinds.PNEUMOTHORAX,)),
    ("No pleural effusion or pneumothorax.", _PLEURA),
    ("There is no pneumothorax or pleural effusion.", _PLEURA),
    ("The pleural spaces are clear.", _PLEURA),
    ("No focal consolidation.", (kinds.CONSOLIDATION, kinds.MASS)),
    ("There is no focal consolidation to suggest pneumonia.", (kinds.CONSOLIDATION, kinds.MASS)),
    ("No focal consolidation, pleural effusion or pneumothorax.", (kinds.CONSOLIDATION, kinds.MASS, *_PLEURA)),
    ("No focal airspace opacity.", (*_OPACITIES, kinds.EFFUSION)),
    ("The lungs are clear.", (*_OPACITIES, *_PLEURA)),
    ("Lungs are clear bilaterally.", (*_OPACITIES, *_PLEURA)),
    ("Both lungs are clear and well expanded.", (*_OPACITIES, *_PLEURA, kinds.HYPERINFLATION, "low volumes")),
    ("No pulmonary edema.", (kinds.EDEMA,)),
    ("No evidence of pulmonary edema or vascular congestion.", (kinds.EDEMA,)),
    ("Pulmonary vasculature is normal.", (kinds.EDEMA,)),
    ("No atelectasis.", (kinds.ATELECTASIS,)),
    ("No nodule or mass.", (kinds.NODULE, kinds.MASS)),
    ("No suspicious pulmonary nodule or mass is seen.", (kinds.NODULE, kinds.MASS)),
    ("The lungs are normally inflated.", (kinds.HYPERINFLATION, kinds.ATELECTASIS, kinds.PNEUMOTHORAX, "low volumes")),
    ("No hyperinflation.", (kinds.HYPERINFLATION,)),
    ("No hiatal hernia.", (kinds.HERNIA,)),
    ("The spine is straight.", (kinds.SCOLIOSIS,)),
    ("No scoliosis.", (kinds.SCOLIOSIS,)),
    ("Osseous structures are unremarkable.", (kinds.SCOLIOSIS,)),
    ("Bony structures are intact.", (kinds.SCOLIOSIS,)),
    ("No support devices.", (kinds.DEVICE,)),
    ("No lines or tubes.", (kinds.DEVICE,)),
    ("Mediastinal contours are normal.", (kinds.CARDIOMEGALY, kinds.HERNIA, kinds.MASS, "tortuous aorta", "rotated")),
    ("The hila are unremarkable.", (kinds.EDEMA, kinds.MASS, kinds.NODULE)),
)
"""Stock sentences of normality, each with all that must be absent for it to be true."""

NOTED: Final[Wordings] = {
    "PA": ("PA view of the chest.", "Single PA view.", "Upright PA radiograph.", "PA chest radiograph."),
    "AP": ("Portable AP view of the chest.", "Single AP view.", "AP portable radiograph.", "AP chest radiograph."),
    "low volumes": ("Lung volumes are low.", "Low lung volumes.", "Shallow inspiration.", "Poor inspiratory effort."),
    "rotated left": ("The patient is rotated to the left.", "Rotation to the left.", "Leftward patient rotation."),
    "rotated right": ("The patient is rotated to the right.", "Rotation to the right.", "Rightward patient rotation."),
    "tortuous aorta": (
        "The aorta is tortuous.",
        "Tortuous aorta.",
        "Prominent aortic knob.",
        "Unfolded thoracic aorta.",
    ),
    "large habitus": ("Image quality is limited by body habitus.", "Large body habitus.", "Overlying soft tissues."),
    "breast shadows": (
        "Breast shadows overlie the lung bases.",
        "Prominent breast shadows.",
        "Overlying breast tissue.",
    ),
}
"""Remarks on what is no finding, said only where true."""

ACUTE: Final = frozenset({*_OPACITIES, *_PLEURA})
NORMAL_SUMMARIES: Final = (
    *("No acute cardiopulmonary process.", "No acute cardiopulmonary abnormality.", "No acute intrathoracic process."),
    *("No acute disease.", "No evidence of acute cardiopulmonary disease.", "No acute findings."),
)
NORMAL_ONLY_SUMMARIES: Final = ("Normal chest radiograph.", "Normal chest.", "Unremarkable chest radiograph.")
