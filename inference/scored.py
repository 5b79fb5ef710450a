"""What does evaluate.py evaluate? Scores with labels, and the runs and thresholds that belong to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evaluation.decisions import Decisions
from evaluation.table import ScoreTable


@dataclass(frozen=True)
class Scored:
    """Scores with labels.

    Attributes:
        runs: the runs with these scores; none for a table of another tool.
        decisions: the thresholds and the calibration of the run, if they were fitted.
        window_s: seconds of a row.
        name: a description for messages.
        of_seeds: if the table is the mean over several seeds, the table of each.
    """

    table: ScoreTable
    runs: tuple[Path, ...] = ()
    decisions: Decisions | None = None
    window_s: float = 0.0
    name: str = ""
    of_seeds: Mapping[int, ScoreTable] = field(default_factory=dict)

    def thresholds_for(self, aim: str) -> tuple[np.ndarray, str]:
        """The thresholds ``(classes,)`` of the run for an aim (``auto``: the newest), and their description.

        Raises:
            UserError: none were fitted for this aim.
        """
        thresholds = self.decisions.fit_for(aim, self.runs[0]).thresholds
        fitted_on = self.decisions.fitted_on
        description = f"the run's thresholds ({list(self.decisions.fits)[-1] if aim == 'auto' else aim}, {fitted_on})"
        if fitted_on == self.name:
            description += "; fitted on these recordings, so precision and recall are too good"
        return thresholds, description
