from .selectors import (
                        EpochSelector,
                        EvenSelector,
                        FractionSelector,
                        HalfWaySelector,
                        InformationPlaneSelector,
                        LastSelector,
                        Selection,
                        Selector,
                        build_selector,
)

__all__ = [
    'EpochSelector', 'EvenSelector', 'FractionSelector', 'HalfWaySelector', 'InformationPlaneSelector', 'LastSelector', 'Selection',
    'Selector', 'build_selector'
]
