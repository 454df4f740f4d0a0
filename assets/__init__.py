"""Dagster assets, one file a stage, each a thin wrapping of the stage's functions in `its_platform`.

A wrapping reads its configuration, calls one function, and shows what came out as metadata. Decisions, formats
and storage do not belong here.
"""

from assets import dataset, frames, labels, marts, model, monitoring, release

_STAGES = (frames, labels, dataset, model, release, monitoring, marts)
ALL_ASSETS = [asset for stage in _STAGES for asset in stage.ASSETS]
ALL_CHECKS = [check for stage in _STAGES for check in stage.CHECKS]
