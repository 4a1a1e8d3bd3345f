"""Detectors of mmdet on our encoders: the only package that imports mmdet, mmcv and mmengine, and only when one is built."""
