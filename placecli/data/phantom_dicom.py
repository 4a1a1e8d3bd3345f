"""Synthetic radiographs as DICOM files: several transfer syntaxes, windows and photometric conventions, all valid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from placecli.data.phantom_study import PhantomStudy

SYNTHETIC: Final = "SYNTHETIC"
STORED_MAXIMUM: Final = 4095
"""Frames hold 12 bits."""
IMPLEMENTATION: Final = UID("2.25.210834271340937462180351442097551032769")

ENCODINGS: Final = (
    (ExplicitVRLittleEndian, 0.3),
    (ImplicitVRLittleEndian, 0.15),
    (JPEGLosslessSV1, 0.15),
    (JPEG2000Lossless, 0.15),
    (JPEGLSLossless, 0.15),
    (RLELossless, 0.1),
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one frame is stored. `dark` and `bright` are the stored values of air and of bone."""

    syntax: UID
    is_inverted: bool
    intercept: int
    slope: int
    voi: str
    dark: int
    bright: int


def sample_encoding(rng: np.random.Generator) -> Encoding:
    """A transfer syntax and value convention; every few frames an awkward but valid one."""
    index = int(rng.choice(len(ENCODINGS), p=[share for _, share in ENCODINGS]))
    awkward = rng.random()
    return Encoding(
        syntax=ENCODINGS[index][0],
        is_inverted=bool(rng.random() < 0.25),
        intercept=-1024 if awkward < 0.1 else 0,
        slope=2 if 0.1 <= awkward < 0.15 else 1,
        voi=str(rng.choice(["window", "sigmoid", "table", "none"], p=[0.6, 0.12, 0.13, 0.15])),
        dark=int(rng.integers(150, 500)),
        bright=int(rng.integers(3300, 3900)),
    )


def write_dicom(study: PhantomStudy, image_id: str, encoding: Encoding) -> bytes:
    """The whole DICOM file of `study`; the same study gives the same bytes."""
    stored = _stored_values(study.image, encoding)
    data = _header(study, image_id, encoding)
    data.Rows, data.Columns = stored.shape
    is_raw = encoding.syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    data.PixelData = stored.tobytes() if is_raw else encapsulate([_compress(stored, encoding.syntax)])
    data["PixelData"].VR = "OW" if is_raw else "OB"
    data["PixelData"].is_undefined_length = not is_raw
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _stored_values(image: npt.NDArray[np.float32], encoding: Encoding) -> npt.NDArray[np.uint16]:
    values = encoding.dark + image * np.float32(encoding.bright - encoding.dark)
    whole = np.clip(np.rint(values), 0, STORED_MAXIMUM).astype("<u2")
    return np.asarray(STORED_MAXIMUM - whole, dtype="<u2") if encoding.is_inverted else whole


def _uid(*parts: str) -> UID:
    digest = hashlib.sha256("/".join(("placecli phantom", *parts)).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:15], 'big')}")


def _header(study: PhantomStudy, image_id: str, encoding: Encoding) -> FileDataset:
    is_digital = study.pose.view == "PA"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = (
        DigitalXRayImageStorageForPresentation if is_digital else ComputedRadiographyImageStorage
    )
    meta.MediaStorageSOPInstanceUID = _uid(str(study.seed), image_id)
    meta.TransferSyntaxUID = encoding.syntax
    meta.ImplementationClassUID = IMPLEMENTATION
    meta.ImplementationVersionName = "PLACECLI_PHANTOM"
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SpecificCharacterSet = "ISO_IR 100"
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.ImageType = ["ORIGINAL", "PRIMARY"]
    data.StudyDate, data.StudyTime, data.PatientBirthDate = "", "", ""
    data.Modality = "DX" if is_digital else "CR"
    data.Manufacturer, data.ReferringPhysicianName = "placecli phantom", ""
    data.StudyDescription, data.SeriesDescription = f"{SYNTHETIC} CHEST", f"{SYNTHETIC} {study.pose.view}"
    data.PatientName, data.PatientID, data.PatientSex = f"{SYNTHETIC}^PHANTOM", study.patient_id, study.anatomy.sex
    data.StudyInstanceUID = _uid(str(study.seed), study.study_id)
    data.SeriesInstanceUID = _uid(str(study.seed), study.study_id, "series")
    data.StudyID, data.AccessionNumber, data.SeriesNumber, data.InstanceNumber = study.study_id, study.study_id, 1, 1
    data.BodyPartExamined, data.ViewPosition, data.PatientOrientation = "CHEST", study.pose.view, ["L", "F"]
    data.ImageComments = f"{SYNTHETIC} radiograph made by placecli; it shows no patient"
    spacing = f"{10.0 / study.pose.pixels_per_cm:.4f}"
    data.ImagerPixelSpacing = [spacing, spacing]
    if is_digital:
        data.PresentationIntentType = "FOR PRESENTATION"
    data.BurnedInAnnotation = "YES" if study.pose.marker else "NO"
    data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 1, 16, 12, 11, 0
    data.PhotometricInterpretation = "MONOCHROME1" if encoding.is_inverted else "MONOCHROME2"
    data.PresentationLUTShape = "INVERSE" if encoding.is_inverted else "IDENTITY"
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = encoding.intercept, encoding.slope, "US"
    data.LossyImageCompression = "00"
    _set_voi(data, encoding)
    return data


def _set_voi(data: Dataset, encoding: Encoding) -> None:
    low, high = encoding.dark, encoding.bright
    if encoding.is_inverted:
        low, high = STORED_MAXIMUM - high, STORED_MAXIMUM - low
    low, high = low * encoding.slope + encoding.intercept, high * encoding.slope + encoding.intercept
    if encoding.voi in ("window", "sigmoid"):
        data.WindowCenter, data.WindowWidth = f"{(low + high) / 2:.1f}", f"{high - low}"
        if encoding.voi == "sigmoid":
            data.VOILUTFunction = "SIGMOID"
    elif encoding.voi == "table":
        item = Dataset()
        # First mapped value in the VR of the table's input; values below the table take its first entry.
        entries = np.linspace(0, STORED_MAXIMUM, 1024).astype("<u2")
        entries = np.interp(np.arange(high - low + 1), np.linspace(0, high - low, 1024), entries).astype("<u2")
        item.add_new(0x00283002, "SS" if low < 0 else "US", [len(entries), low, 12])
        item.LUTExplanation = "linear"
        item.add_new(0x00283006, "OW", entries.tobytes())
        data.VOILUTSequence = DicomSequence([item])


def _compress(stored: npt.NDArray[np.uint16], syntax: UID) -> bytes:
    match syntax:
        case UID() if syntax == JPEGLosslessSV1:
            return bytes(imagecodecs.ljpeg_encode(stored, bitspersample=12))
        case UID() if syntax == JPEG2000Lossless:
            return bytes(
                imagecodecs.jpeg2k_encode(stored, level=0, reversible=True, codecformat="j2k", bitspersample=12)
            )
        case UID() if syntax == JPEGLSLossless:
            return bytes(imagecodecs.jpegls_encode(stored))
        case _:
            return _run_length(stored)


def _run_length(stored: npt.NDArray[np.uint16]) -> bytes:
    """PS3.5 annex G: a header of 16 little-endian words, then one PackBits segment a byte plane, high bytes first."""
    planes = (stored >> 8).astype(np.uint8), (stored & 0xFF).astype(np.uint8)
    segments = [b"".join(bytes(imagecodecs.packbits_encode(row.tobytes())) for row in plane) for plane in planes]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets = [64, 64 + len(segments[0])]
    return np.array([2, *offsets, *[0] * 13], "<u4").tobytes() + b"".join(segments)
