"""Which settings of a training may change before its run is resumed."""

import re
from typing import Any, NamedTuple

from ..hooks import ScheduleHook, SnapshotHook
from ..record import differences
from ..registry import HOOKS

# how a training was carried out. All else says which network it trains, on which images, by which recipe:
# model, optimizer, schedule, epochs, seed, data set and preprocessing, snapshots, teachers and their loss
CARRIED_OUT = re.compile(r'val_(cfg|dataloader)\b|sync_bn$|train_cfg\.(?!max_(epochs|iters)$)|'
                         r'randomness\.(?!seed$)|train_dataloader\.(?!dataset\b)|custom_hooks\.(?P<hook>\w+)')
IN_LIST = re.compile(r'(?P<list>(.*\.)?custom_hooks)\.(?P<place>\d+)\.(?P<rest>.*)')


AFTER_DIVERGENCE = re.compile(r'(student\.)?(optim_wrapper\.(optimizer\.lr|clip_grad)|'
                              r'param_scheduler\.(\d+\.)?eta_max)\b')


class Changes(NamedTuple):
    """How settings differ from those that a stage was begun with, each as 'key was x, now y'.

    Args:
        refused: those that would make another result.
        accepted: those that a resumed run warns of.
        remedy: a way out of what is refused, for the message.
    """
    refused: list[str]
    accepted: list[str]
    remedy: str = ''

    def after_divergence(self) -> 'Changes':
        """A training that has diverged may go on with another learning rate and clipping of gradients."""
        tamed = [change for change in self.refused if AFTER_DIVERGENCE.match(change)]
        return self._replace(refused=[change for change in self.refused if change not in tamed],
                             accepted=self.accepted + tamed)


def training_changes(before: dict[str, Any], now: dict[str, Any], prefix: str = '') -> Changes:
    """Of flat settings whose hooks are :func:`named_by_type`; those of a training begin with ``prefix``."""
    changes = Changes([], [])
    for key in sorted({*before, *now}):
        carried_out = key.startswith(prefix) and is_carried_out(key.removeprefix(prefix))
        found = differences(*({key: settings.get(key)} for settings in (before, now)))
        (changes.accepted if carried_out else changes.refused).extend(found)
    return changes


def is_carried_out(key: str) -> bool:
    """Whether a flat setting of a training says how it was carried out. Hooks do, but for those that are the
    method: snapshots and schedules of distillation."""
    found = CARRIED_OUT.match(key)
    hook = HOOKS.module_dict.get(found['hook'], object) if found else object
    return found is not None and not issubclass(hook, (ScheduleHook, SnapshotHook))


def named_by_type(settings: dict[str, Any]) -> dict[str, Any]:
    """'custom_hooks.0.momentum' as 'custom_hooks.EMAHook.momentum': a hook that is taken out moves the
    others."""
    names: dict[str, str] = {}
    renamed: dict[str, Any] = {}
    for key, value in settings.items():
        if found := IN_LIST.fullmatch(key):
            place = f'{found["list"]}.{found["place"]}'
            if place not in names:
                name = str(settings.get(f'{place}.type')).split('.')[-1]
                alike = sum(re.sub(r'_\d+$', '', other) == name for other in names.values())
                names[place] = f'{name}_{alike + 1}' if alike else name
            key = f'{found["list"]}.{names[place]}.{found["rest"]}'
        renamed[key] = value
    return renamed
