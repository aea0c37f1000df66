"""What ``distill.stop_epoch`` and ``distill.schedule`` say, as hooks of the student's stage."""

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from ..errors import ConfigError
from ..files import plain
from ..hooks.anneal_distillation_hook import AnnealDistillationHook
from ..hooks.progressive_teacher_hook import ProgressiveTeacherHook
from ..hooks.schedule_hook import build_schedule, check_schedules, schedule_class
from ..hooks.stop_when_overtaken_hook import StopWhenOvertakenHook
from ..infoplane.probe import Probe, held_out_record
from ..trajectory import Trajectory

IMAGES = ('held_out', 'num_images', 'seed'
          )  # which images of the training set a comparison holds out, in the words of `probe`


class DistillationSchedule:
    """
    Args:
        distill: the config's ``distill``. Its ``schedule`` is a hook's config or a list of them; a
            ``StopWhenOvertakenHook`` compares on the held-out images of ``probe`` (``held_out``,
            ``num_images``, ``seed``), or without a probe says itself how many there are, in the same words.
        epochs: of the student.
        config: the student's.
        probe: the plan's.

    Attributes:
        configs: of the hooks.
        comparison: the images on which student and teacher are compared, which neither is trained on; None if
            they are not.

    Raises:
        ConfigError: the schedule cannot be met, whatever the teachers.
    """

    def __init__(self, distill: dict, epochs: int, config: Config, probe: Probe | None) -> None:
        listed = distill.get('schedule') or []
        listed = [copy.deepcopy(item) for item in (listed if isinstance(listed, (list, tuple)) else [listed])]
        if distill.get('stop_epoch') is not None:
            listed.insert(0, dict(type='ckd_mm.StopDistillationHook', stop_epoch=distill['stop_epoch']))
        self.epochs = epochs
        self.comparison: Probe | None = None
        self.configs: list[dict] = []
        for item in listed:
            kind = schedule_class(item)
            if issubclass(kind, StopWhenOvertakenHook):
                item = self._with_images(item, config, probe)
            # inside the student's stage a type without a scope would be mmpretrain's
            self.configs.append(
                dict(item, type=item['type'] if '.' in item['type'] else f'ckd_mm.{kind.__name__}'))
        self.hooks = [build_schedule(item) for item in self.configs]
        self.progressive = any(isinstance(hook, ProgressiveTeacherHook) for hook in self.hooks)
        self.check(None)
        if 'ce_weight_after_stop' in distill and any(
                isinstance(hook, AnnealDistillationHook) and hook.stops for hook in self.hooks):
            raise ConfigError(f'distill.ce_weight_after_stop={distill["ce_weight_after_stop"]}: what the '
                              'cross-entropy weighs after '
                              'annealing is ce_end_value of AnnealDistillationHook; take '
                              'ce_weight_after_stop out')
        if self.progressive and distill.get('teacher_weights') is not None:
            raise ConfigError('distill.teacher_weights: with ProgressiveTeacherHook one snapshot teaches at '
                              'a time; take the weights out')

    def _with_images(self, item: dict, config: Config, probe: Probe | None) -> dict:
        given = {key: item.pop(key) for key in IMAGES if key in item}
        if 'dataset' in item or (given and probe is not None):
            raise ConfigError('distill.schedule: StopWhenOvertakenHook compares on the held-out images of '
                              '`probe`; say '
                              f'{next(iter(given), "dataset")!r} there')
        if probe is not None:
            given = {key: getattr(probe, key) for key in IMAGES}
        self.comparison = Probe(config, **given)
        return dict(item, dataset=self.comparison.dataset, num_images=self.comparison.num_images,
                    seed=self.comparison.seed)

    def check(self, teachers: int | None) -> None:
        """
        Args:
            teachers: number of snapshots, None where it is not known yet.

        Raises:
            ConfigError: the schedule cannot be met.
        """
        check_schedules(self.hooks, self.epochs, teachers)

    def check_folders(self, folders: Sequence) -> None:
        if self.progressive and len(folders) > 1:
            raise ConfigError('distill.schedule: ProgressiveTeacherHook walks along one trajectory, but '
                              f'there are {len(folders)}')

    def check_given(self, trajectories: Sequence[Trajectory]) -> None:
        """
        Raises:
            ConfigError: a teacher that exists already knows the images on which the student is to be compared
                with it.
        """
        if self.comparison is None:
            return
        wanted = plain(held_out_record(self.comparison.held_out, self.comparison.seed))
        for trajectory in trajectories:
            if trajectory.info.get('held_out') != wanted:
                raise ConfigError('distill.schedule: StopWhenOvertakenHook needs a teacher that was '
                                  f'trained without {wanted}, and '
                                  f'{trajectory.folder} says {trajectory.info.get("held_out")}: on images '
                                  'it has seen no student would '
                                  'overtake it. Use a trajectory of such a run, or distill.stop_epoch')

    @property
    def stops(self) -> bool:
        return any(hook.stops for hook in self.hooks)

    def is_over(self, checkpoint: dict[str, Any]) -> bool:
        """Whether a student that goes on from this checkpoint needs no teacher."""
        return any(hook.is_over(checkpoint) for hook in self.hooks)
