"""placecli: learn from chest radiographs and their reports without labels, from DICOM to result."""

__version__ = "0.1.0"
