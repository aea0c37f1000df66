from .info_plane_hook import InfoPlaneHook
from .snapshot_hook import SnapshotHook
from .stage_state_hook import StageStateHook
from .stop_distillation_hook import StopDistillationHook

__all__ = ['InfoPlaneHook', 'SnapshotHook', 'StageStateHook', 'StopDistillationHook']
