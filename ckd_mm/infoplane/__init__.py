"""The information plane of a trajectory (CheckpointKD, Sec. 4.2 and Algorithm 1)."""

from .decoder import Decoder
from .estimators import ProbeImages, estimate_point, extract_features, information_x, information_y
from .images import held_out_part, load_probe_images, probe_dataset
from .layers import check_layer
from .plane import PLANE, InformationPlane, PlanePoint
from .probe import probe_trajectory
from .settings import ProbeSettings

__all__ = [
    'PLANE', 'Decoder', 'InformationPlane', 'PlanePoint', 'ProbeImages', 'ProbeSettings', 'check_layer',
    'estimate_point', 'extract_features', 'held_out_part', 'information_x', 'information_y',
    'load_probe_images', 'probe_dataset', 'probe_trajectory'
]
