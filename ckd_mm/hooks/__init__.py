from .finite_loss_hook import FiniteLossHook
from .info_plane_hook import InfoPlaneHook
from .snapshot_hook import SnapshotHook
from .stage_state_hook import StageStateHook
from .stop_distillation_hook import StopDistillationHook

__all__ = ['FiniteLossHook', 'InfoPlaneHook', 'SnapshotHook', 'StageStateHook', 'StopDistillationHook']
