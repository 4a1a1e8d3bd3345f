"""Anatomy whose size reports judge, and the words of the judgement. `patterns.compile_phrases` explains the notation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from placecli.metrics.clinical.phrases import Phrases

SUBJECTS: Final[Mapping[str, Phrases]] = {
    "Cardiomegaly": (
        "heart",
        "hearts",
        "cardiac silhouette/size/shadow/contour/contours/outline/silhouettes",
        "cardiopericardial silhouette/shadow/contour",
        "cardiac ,/_ and/_ mediastinal ,/_ and/_ hilar/_ silhouette/silhouettes/contour/contours/shadow/shadows/size",
        "cardio mediastinal silhouette",
        "cardiomediastinal/cardiovascular silhouette/size/silhouettes",
    ),
    "Enlarged Cardiomediastinum": (
        "mediastinum",
        "mediastinal silhouette/silhouettes/contour/contours/size/shadow/shadows/structures/width/outline/borders",
        "mediastinal ,/_ and/_ hilar contour/contours/silhouette/silhouettes/structures",
        "cardiomediastinum",
        "cardiomediastinal silhouette/silhouettes/contour/contours/size/shadow/structures/outline/borders",
    ),
}

NORMAL: Final[Phrases] = (
    "not/nor/no/isnt/without significantly/particularly/definitely/grossly/overtly/_ enlarg*/dilated/widen*/wide/prominent/"
    "increased/large/abnormal*/remarkable",
    "top/upper/high/uppermost of/_ the/_ limit/limits/end/normal of/_ the/_ normal/limits/limit/_",
    "normal",
    "normally",
    "unremarkable",
    "within normal/_ limits",
    "normal limits",
    "wnl",
    "not enlarged",
    "small",
)
"""Judgements by which a subject is not enlarged."""

ENLARGED: Final[Phrases] = (
    "enlarg*",
    "prominen*",
    "widen*",
    "wide",
    "large/larger",
    "dilat*",
    "increased in size",
    "increased",
    "globular",
    "big",
)

BORDERLINE: Final[Phrases] = (
    "borderline",
    "top/upper limit/limits/_ of/_ normal to/or mildly/slightly/minimally/borderline/_ enlarg*",
    "may/could/might be/to/_ be/_ mildly/slightly/_ enlarge*",
    "possibly/probably/questionably mildly/slightly/_ enlarge*",
    "generous/full",
    "not well evaluated/seen/assessed",
)
"""Judgements that leave open whether a subject is enlarged."""
