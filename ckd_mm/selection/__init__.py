"""Which snapshots of a trajectory teach."""

from .by_epoch import (
    EpochSelector,
    EvenSelector,
    FractionSelector,
    HalfWaySelector,
    IterSelector,
    LastSelector,
)
from .calibration import CalibrationSelector
from .conditional_mutual_information import ConditionalMutualInformationSelector
from .ensemble import EnsembleSelector
from .information_plane import InformationPlaneSelector
from .selector import Selection, SelectionContext, Selector, build_selector
from .short_probe import ShortProbeSelector

__all__ = [
    'CalibrationSelector', 'ConditionalMutualInformationSelector', 'EnsembleSelector', 'EpochSelector',
    'EvenSelector', 'FractionSelector', 'HalfWaySelector', 'InformationPlaneSelector', 'IterSelector',
    'LastSelector', 'Selection', 'SelectionContext', 'Selector', 'ShortProbeSelector', 'build_selector'
]
