"""Readers of published layouts, one module each: `studies(root, config)` yields Study or Reject, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from placecli.config import PreprocessConfig
from placecli.records import PlaceError, Reject, Study


def read_studies(config: PreprocessConfig, root: Path) -> Iterator[Study | Reject]:
    """Studies of the release that `config.release` names, in an order that depends on the files alone.

    Raises PlaceError at the first item if `root` is not a folder or not of that layout.
    """
    if not root.is_dir():
        raise PlaceError(f"{root}: not a folder; give the folder of the {config.release} release as --root")
    match config.release:
        case "mimic-cxr":
            from placecli.data.releases import mimic_cxr

            return mimic_cxr.studies(root, config)
        case "openi":
            from placecli.data.releases import openi

            return openi.studies(root, config)
        case "chexpert":
            from placecli.data.releases import chexpert

            return chexpert.studies(root, config)
        case "nih":
            from placecli.data.releases import nih

            return nih.studies(root, config)
        case "vindr":
            from placecli.data.releases import vindr

            return vindr.studies(root, config)
        case "covidx":
            from placecli.data.releases import covidx

            return covidx.studies(root, config)
        case "covid-chestxray":
            from placecli.data.releases import covid_chestxray

            return covid_chestxray.studies(root, config)
        case "iu-xray" | "mimic-r2gen":
            from placecli.data.releases import r2gen

            return r2gen.studies(root, config)
        case "folder":
            from placecli.data.releases import folder

            return folder.studies(root, config)
        case "demo":
            from placecli.data.releases import demo

            return demo.studies(root, config)
        case _:
            return _read_marked(config, root)


def _read_marked(config: PreprocessConfig, root: Path) -> Iterator[Study | Reject]:
    """`read_studies` of the releases that mark where in an image something is and have no reports."""
    match config.release:
        case "rsna":
            from placecli.data.releases import rsna

            return rsna.studies(root, config)
        case "siim":
            from placecli.data.releases import siim

            return siim.studies(root, config)
        case "object-cxr":
            from placecli.data.releases import object_cxr

            return object_cxr.studies(root, config)
        case "ms-cxr":
            from placecli.data.releases import ms_cxr

            return ms_cxr.studies(root, config)
        case "lung-masks":
            from placecli.data.releases import lung_masks

            return lung_masks.studies(root, config)
        case _:
            raise PlaceError(f"preprocess.release: there is no reader of {config.release}; correct the preset")
