"""What a DICOM header says about its picture: the view, whether it is a chest at all, and what to doubt."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from placecli.data.dicom_header import WHITELIST, Header

RADIOGRAPHY: Final = frozenset({"CR", "DX", "DR", "RG"})
"""Modalities of projection radiography. DR is no DICOM term, yet written."""

_CHEST = re.compile(
    "CHEST|THORA[XC]|TORAX|TORACE|TORAC|CHST|PECHO|POUMON|LUNG|PULM|BRUST|KLATK|MEDIASTIN|BORST|CXR|GOGUS"
    "|胸|흉부|ГРУД|ОГК"
)
_NO_BODY_PART: Final = frozenset({"", "UNKNOWN", "OTHER", "NONE", "DEFAULT", "UNDEFINED", "NA", "N A", "WHOLEBODY"})
_OTHER_PART = re.compile(
    r"\b(C SPINE|T SPINE|L SPINE|SPINE|CERVICAL|LUMBAR|LUMBOSACRAL|SACRUM|SKULL|SINUS(ES)?|FACIAL|MANDIBLE|DENTAL|HAND"
    r"|FINGER|WRIST|FOREARM|ELBOW|HUMERUS|SHOULDER|CLAVICLE|PELVIS|HIPS?|FEMUR|KNEES?|TIBIA|FIBULA|ANKLE|FOOT|FEET|TOE"
    r"|CALCANEUS|EXTREMITY|ABDOMEN|KUB|BREAST|MAMMO\w*)\b"
)
_VETERINARY = re.compile(r"VETERINAR|\b(CANINE|FELINE|EQUINE|BOVINE|PORCINE|OVINE|AVIAN|MURINE|RODENT)\b")
_HUMAN = re.compile(r"HUMAN|HOMO|SAPIENS")
_DOCUMENT_CONVERSIONS: Final = frozenset({"SD", "DRW"})

_SPECIAL = re.compile(
    r"\b(DECUB\w*|LLD|RLD|OBLI\w*|LAO|RAO|LPO|RPO|LLO|RLO|LORDOTIC|APICAL|APEX|SWIMMER\w*|AXIAL|TANGENTIAL|RIBS?)\b"
)
_LATERAL = re.compile(r"\b(LATERAL\w*|LAT|LL|RL|PERFIL|PROFIL|SEITLICH|XTABLE|CROSS TABLE)\b")
_PA = re.compile(r"\b(PA|P A|POSTERO ?ANTERIOR)\b")
_AP = re.compile(r"\b(AP|A P|ANTERO ?POSTERIOR)\b")
_FRONTAL = re.compile(r"\bFRONTAL\b")


def whitelisted(header: Header, transfer_syntax: str) -> dict[str, str]:
    """The values that may leave this package: those of WHITELIST, the normalised view and the transfer syntax."""
    values = {name: header.text(keyword) for name, keyword in WHITELIST.items()}
    return {**values, "view": find_view(header), "transfer_syntax": transfer_syntax}


def find_view(header: Header) -> str:
    """One of records.VIEWS: from View Position, View Code, descriptions or Patient Orientation, in this order.

    FRONTAL where a frontal view is certain and PA or AP is not; "" where nothing tells.
    """
    views = (parse_view(text) for text in _view_texts(header))
    return next((view for view in views if view), "") or _view_of_orientation(header)


def parse_view(text: str) -> str:
    """The view that a coded or free text names, one of records.VIEWS; "" if none, or several that contradict."""
    words = _fold(text)
    if _SPECIAL.search(words):
        return "OTHER"
    is_pa, is_ap, is_lateral = bool(_PA.search(words)), bool(_AP.search(words)), bool(_LATERAL.search(words))
    is_frontal = is_pa or is_ap or bool(_FRONTAL.search(words))
    if is_lateral:
        return "" if is_frontal else "LATERAL"
    if is_pa != is_ap:
        return "PA" if is_pa else "AP"
    return "FRONTAL" if is_frontal else ""


def why_not_chest(header: Header) -> str:
    """One sentence saying how the header excludes a human chest radiograph; "" if it does not. Quotes no value."""
    modality = _fold(header.text("Modality"))
    if modality and modality not in RADIOGRAPHY:
        return "the modality is not projection radiography (CR, DX or RG)"
    species = " ".join(_fold(text) for text in _species(header))
    if species and not _HUMAN.search(species):
        return "the patient is an animal by the header's species"
    keywords = ("AcquisitionDeviceProcessingDescription", "SeriesDescription", "StudyDescription", "InstitutionName")
    if any(_VETERINARY.search(_fold(header.text(keyword))) for keyword in keywords):
        return "the header names a veterinary examination"
    if _fold(header.text("ConversionType")) in _DOCUMENT_CONVERSIONS:
        return "the image is a scanned document or a drawing"
    return _why_other_part(header)


def doubts(header: Header) -> set[str]:
    """Flags of an image that is used as it is although its header gives cause to look twice."""
    found = set()
    if not header.text("Modality"):
        found.add("modality_missing")
    if header.text("BurnedInAnnotation").upper() == "YES":
        found.add("burned_in_annotation")
    if header.text("PresentationIntentType").upper() == "FOR PROCESSING":
        found.add("for_processing")
    if header.items("PresentationLUTSequence"):
        found.add("presentation_lut_ignored")
    row, column = _orientation(header)
    # A frontal picture is shown with the patient's left on the right and the feet below.
    if column == "H" or (column == "F" and row == "R"):
        found.add("orientation_unusual")
    return found


def _why_other_part(header: Header) -> str:
    part = _fold(header.text("BodyPartExamined"))
    if part not in _NO_BODY_PART:
        return "" if _CHEST.search(part) else "the body part is not the chest"
    regions = " ".join(_fold(item.text("CodeMeaning")) for item in header.items("AnatomicRegionSequence"))
    if regions:
        return "" if _CHEST.search(regions) else "the anatomic region is not the chest"
    keywords = ("StudyDescription", "SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
    described = " ".join(_fold(header.text(keyword)) for keyword in keywords)
    if _OTHER_PART.search(described) and not _CHEST.search(described):
        return "the descriptions name another body part"
    return ""


def _species(header: Header) -> list[str]:
    coded = [item.text("CodeMeaning") for item in header.items("PatientSpeciesCodeSequence")]
    return [text for text in (header.text("PatientSpeciesDescription"), *coded) if text]


def _view_texts(header: Header) -> list[str]:
    coded = [item.text("CodeMeaning") for item in header.items("ViewCodeSequence")]
    keywords = ("SeriesDescription", "AcquisitionDeviceProcessingDescription", "ProtocolName", "StudyDescription")
    return [header.text("ViewPosition"), *coded, *(header.text(keyword) for keyword in keywords)]


def _orientation(header: Header) -> tuple[str, str]:
    """First letters of the directions in which rows and columns run; "" each if not given."""
    letters = [part.strip()[:1].upper() for part in header.text("PatientOrientation").split("\\")]
    return (letters[0], letters[1]) if len(letters) == 2 else ("", "")


def _view_of_orientation(header: Header) -> str:
    row, column = _orientation(header)
    if column not in ("F", "H"):
        return ""
    return {"L": "FRONTAL", "R": "FRONTAL", "A": "LATERAL", "P": "LATERAL"}.get(row, "")


def _fold(text: str) -> str:
    """Upper case without accents, anything but letters and digits as single spaces."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    # Composed again, because the decomposition also takes Korean syllables apart.
    return " ".join(re.sub(r"[\W_]+", " ", unicodedata.normalize("NFC", plain).upper()).split())
