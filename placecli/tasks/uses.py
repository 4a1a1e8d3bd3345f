"""The uses of an encoder by name."""

from __future__ import annotations

from placecli.records import PlaceError
from placecli.tasks.use import Use

TASKS = ("classification", "segmentation", "detection", "report-generation")


def load_use(task: str) -> Use:
    """The use that `task` names. Raises PlaceError for another name."""
    match task:
        case "classification":
            from placecli.tasks import classify

            return classify.Classification()
        case "segmentation":
            from placecli.tasks import segment

            return segment.Segmentation()
        case "report-generation":
            from placecli.tasks import report

            return report.ReportGeneration()
        case "detection":
            from placecli.tasks import detect

            return detect.Detection()
    raise PlaceError(f'task "{task}": choose one of {", ".join(TASKS)}')
