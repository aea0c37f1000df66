from .anneal_distillation_hook import AnnealDistillationHook
from .channels_last_hook import ChannelsLastHook
from .finite_loss_hook import FiniteLossHook
from .info_plane_hook import InfoPlaneHook
from .progressive_teacher_hook import ProgressiveTeacherHook
from .schedule_hook import ScheduleHook, build_schedule, check_schedules
from .snapshot_hook import SnapshotHook
from .stage_state_hook import StageStateHook
from .stop_distillation_hook import StopDistillationHook
from .stop_hook import StopHook
from .stop_when_overtaken_hook import StopWhenOvertakenHook
from .train_agreement_hook import TrainAgreementHook

__all__ = [
    'AnnealDistillationHook', 'ChannelsLastHook', 'FiniteLossHook', 'InfoPlaneHook', 'ProgressiveTeacherHook',
    'ScheduleHook', 'SnapshotHook', 'StageStateHook', 'StopDistillationHook', 'StopHook',
    'StopWhenOvertakenHook', 'TrainAgreementHook', 'build_schedule', 'check_schedules'
]
