"""Teachers that cannot teach, and settings with which they do not: what the doctor finds in a run that is
taught by a whole trajectory."""

import contextlib
import json
import random
import re
import shutil
from pathlib import Path

import torch
from mmengine.registry import RUNNERS
from mmpretrain.registry import TRANSFORMS
from torch import nn

from ckd_mm.errors import CkdError
from ckd_mm.pipeline.preflight import Preflight
from ckd_mm.registry import MODELS

from ..conftest import distil_config, resnet
from . import planted as table
from .planted import Fault

TINT = (1.0, 0.7, 0.3)  # of the three equal channels of a digit: their order counts
STATISTICS = dict(num_classes=10, mean=[77.9 * part for part in TINT], std=[95.9 * part for part in TINT],
                  to_rgb=False)
TEACHER = resnet(2, channels=8)
OF_INPUTS = ('mean', 'std', 'to_rgb')


@TRANSFORMS.register_module(name='TintOfTests')
def tint():
    return lambda results: dict(results, img=(results['img'] * TINT).astype('uint8'))


@MODELS.register_module()
class ScaledLoss(nn.Module):
    """A loss of one's own: the squared difference of logits, times a scale."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, student, teachers):
        return self.scale * (student - teachers.mean(dim=0)).square().mean()


def config_in(work_dir: Path, **settings):
    config = distil_config(work_dir, selector='last', probe=None, data_preprocessor=STATISTICS, **settings)
    for name in ('train', 'val', 'test'):
        dataset = config[f'{name}_dataloader'].dataset
        dataset.pipeline = [dict(type='TintOfTests'), dict(type='PackInputs')]
        dataset.pop('indices')
    return config


def make_teacher(folder: Path) -> Path:
    """A teacher after 1 to 6 epochs."""
    config = config_in(folder, teacher=dict(model=TEACHER, train_cfg=dict(max_epochs=6)))
    RUNNERS.build(config).train(until='teacher')
    shutil.rmtree(folder / 'teacher')
    return folder


class Run(table.Run):
    """A run that is taught by a copy of the trained teacher, whose folder it is."""

    def __init__(self, folder: Path, config, whole: Path, random: random.Random) -> None:
        super().__init__(folder, config, whole, random)
        self.manifest = json.loads((folder / 'trajectory.json').read_text())

    def file(self, epoch: int = 6) -> Path:
        return self / f'snapshots/epoch_{epoch}.pth'

    def weights(self, change, epoch: int = 6) -> None:
        """Change the state dict of a snapshot in place."""
        with self.edited(f'snapshots/epoch_{epoch}.pth') as content:
            change(content['state_dict'])

    def statistics(self, **changes) -> None:
        self.manifest['model']['data_preprocessor'].update(changes)

    def without_metrics(self) -> None:
        for entry in self.manifest['snapshots']:
            entry['metrics'] = {}

    def record(self, accuracy: float) -> None:
        self.manifest['snapshots'][-1]['metrics']['accuracy/top1'] = accuracy

    def findings(self) -> tuple[str, str]:
        """Problems and warnings."""
        for entry in self.manifest['snapshots']:
            entry['sha256'] = entry['size'] = None
        (self / 'trajectory.json').write_text(json.dumps(self.manifest))
        preflight = Preflight(lambda line: None, all_problems=True)
        with contextlib.suppress(CkdError):
            RUNNERS.build(self.config).prepare(preflight, warn=preflight.warn)
        return '\n'.join(preflight.problems), '\n'.join(preflight.warnings)


def taught_by(trained: Path, folder: Path, seed: str) -> Run:
    given = shutil.copytree(trained, folder / 'given')
    config = config_in(folder / 'run')
    config.teacher = dict(trajectory=str(given))
    return Run(given, config, trained, random.Random(seed))


# ------------------------------------------------------------ faults
def untrained(weights) -> None:
    torch.manual_seed(0)
    for value in weights.values():
        if value.dim() > 1:
            value.normal_(0, 0.1)


def zero_head(weights) -> None:
    for name in ('head.fc.weight', 'head.fc.bias'):
        weights[name].zero_()


def head_rows(rows: list[int]):

    def change(weights) -> None:
        for name in ('head.fc.weight', 'head.fc.bias'):
            weights[name].copy_(weights[name][rows])

    return change


def head_times(factor: float):

    def change(weights) -> None:
        for name in ('head.fc.weight', 'head.fc.bias'):
            weights[name].mul_(factor)

    return change


def value_in(name: str, value: float):

    def change(weights) -> None:
        weights[name].view(-1)[0] = value

    return change


def planted(*steps, metrics: bool = True):
    """Weights of the last snapshot, settings of the config (dict)."""

    def plant(run: Run) -> None:
        for step in steps:
            if callable(step):
                run.weights(step)
            elif set(step) <= set(OF_INPUTS):
                run.statistics(**step)
            else:
                run.config.merge_from_dict(step)
        if not metrics:
            run.without_metrics()

    return plant


def unnamed(plant):
    """Neither the teacher nor the data set has names for its classes."""

    def change(run: Run) -> None:
        plant(run)
        run.manifest.pop('classes')
        for name in ('train', 'val', 'test'):
            run.config[f'{name}_dataloader'].dataset.metainfo = dict(classes=None)

    return change


def weak_and_honest(run: Run) -> None:
    run.weights(untrained)
    run.record(10.0)


def nan_in_the_second(run: Run) -> None:
    run.config.selector, run.config.probe = 'information_plane', dict(held_out=0.2)
    run.weights(value_in('backbone.conv1.weight', float('nan')), 2)


def negative_variance_in_the_second(run: Run) -> None:
    nan_in_the_second(run)
    shutil.copy(run.file(1), run.file(2))
    run.weights(value_in('backbone.bn1.running_var', -1.0), 2)


def own_teacher(same_file: bool):

    def plant(run: Run) -> None:
        run.config.model, run.config.load_from = TEACHER, str(run.file())
        if not same_file:  # other bytes, and other facts beside the weights
            content = torch.load(run.file(), weights_only=False)
            torch.save(dict(state_dict=content['state_dict']), run.folder / 'start.pth')
            run.config.load_from = str(run.folder / 'start.pth')

    return plant


def distilled(**settings):
    return planted({f'distill.{key}': value for key, value in settings.items()})


def own_loss(scale: float):

    def plant(run: Run) -> None:
        run.config.distill = dict(loss=dict(type='ckd_mm.ScaledLoss', scale=scale))

    return plant


ROLLED, SWAPPED = [*range(1, 10), 0], [0, 1, 2, 5, 4, 3, 6, 7, 8, 9]
UNITS = dict(mean=[value / 255 for value in STATISTICS['mean']],
             std=[value / 255 for value in STATISTICS['std']])
RAW = dict(mean=None, std=None)
PROBLEMS = {
    'at chance': (planted(untrained, metrics=False), r'is at chance \(.* %\): it is right on .* % of 500'),
    'at chance, against its record': (planted(untrained), r'its manifest records 9\d.\d %'),
    'all zero': (planted(zero_head, metrics=False), 'is at chance.*its logits are the same for all images'),
    'all zero, against its record': (planted(zero_head), r'its manifest records 9\d.\d %'),
    'permuted': (unnamed(planted(head_rows(ROLLED), metrics=False)),
                 r'has its classes in another order than the labels: it is right on \d.\d %.*, and on 9'),
    'permuted, against its record': (planted(head_rows(ROLLED)), 'in another order than the labels'),
    'two classes swapped': (unnamed(planted(head_rows(SWAPPED), metrics=False)),
                            r'what it calls class (3 is mostly labelled 5|5 is mostly labelled 3)'),
    'statistics of 0 to 1': (planted(UNITS), r'with mean and std times 255 .* on 9\d.\d %'),
    'statistics of 0 to 1, no metrics': (planted(UNITS, metrics=False),
                                         r'with mean and std times 255 .* on 9\d.\d %'),
    'channel order': (planted(dict(to_rgb=True)), r'\(recorded 9\d.\d %\), and with to_rgb=False on 9'),
    'channel order, no metrics': (planted(dict(to_rgb=True), metrics=False), r'and with to_rgb=False on 9'),
    'mean and std reversed': (planted({key: STATISTICS[key][::-1] for key in ('mean', 'std')},
                                      metrics=False),
                              r'with (mean and std reversed|to_rgb=True)'),
    'not normalised': (planted(RAW), r"with the student's data_preprocessor \(mean=.*\) on 9"),
    'not normalised, no metrics': (planted(RAW, metrics=False), r"with the student's data_preprocessor"),
    'NaN in the last': (planted(value_in('head.fc.bias', float('nan'))),
                        r'epoch_6.pth \(epoch 6\): 1 of its \d+ weights are not finite .*: head.fc.bias'),
    'NaN in one that may be chosen': (nan_in_the_second, r'epoch_2.pth \(epoch 2\): 1 of its \d+ weights'),
    'infinity': (planted(value_in('backbone.bn1.running_var', float('inf'))),
                 'first: backbone.bn1.running_var'),
    'logits that are not finite': (planted(value_in('backbone.bn1.running_var', -1.0)),
                                   'gives logits that are not finite'),
    'likewise of one that may be chosen': (negative_variance_in_the_second,
                                           r'epoch_2.pth \(epoch 2\) gives logits that are not finite'),
    'tau too small': (distilled(tau=1e-8), 'distill.tau=1e-08 should be a finite number, at least 0.01'),
    'tau too large': (distilled(tau=1e9), 'distill.tau=1000000000.0 should be .*, at most 1000'),
    'kd_weight too small': (distilled(kd_weight=1e-9), r'kd_weight=1e-09.*it teaches the student nothing'),
    'kd_weight too large': (distilled(kd_weight=1e9), 'distill.kd_weight=1000000000.0 should be '),
    'own loss of nothing': (own_loss(0.0), r'ScaledLoss.*gradient .* is 0.0e\+00 of that'),
    'own loss too large': (own_loss(1e10), r'ScaledLoss.*it leaves nothing of the labels'),
    'own loss of NaN': (own_loss(float('nan')), 'the loss of the first step is nan'),
    'its own teacher': (own_teacher(True), r'it would be its own teacher'),
    'its own teacher in another file': (own_teacher(False), r'start.pth .* it would be its own teacher'),
}
WARNINGS = {
    'at chance, as its record says': (weak_and_honest, r'is at chance .*recorded 10.0 %'),
    'saturated': (planted(head_times(1e6)), r'probabilities of the teachers are 1 for one class'),
    'learning rate of another batch size': (planted(dict(auto_scale_lr=dict(base_batch_size=256))),
                                            r'learning rate is for 256 images a step .* has 16'),
}


# ------------------------------------------------------------ no false alarms
def measured(run: Run) -> None:
    """An early snapshot is at chance among those that a selector measures."""
    run.config.selector, run.config.probe = 'information_plane', dict(held_out=0.2)
    run.weights(untrained, 1)


def never_chosen(run: Run) -> None:
    run.weights(value_in('head.fc.bias', float('nan')), 2)


def young_member(run: Run) -> None:
    run.config.selector = dict(type='even', k=6)
    run.weights(untrained, 1)
    run.without_metrics()


def scaled(run: Run) -> None:
    run.config.auto_scale_lr = dict(base_batch_size=256, enable=True)


def other_weights(run: Run) -> None:
    run.config.model, run.config.load_from = TEACHER, str(run.file(2))


HEALTHY = {
    'nothing': planted(), 'no metrics': planted(metrics=False), 'one measured is at chance': measured,
    'NaN in one that is never chosen': never_chosen, 'an untrained member': young_member,
    'a learning rate that is scaled': scaled, 'other weights of its network': other_weights,
    'the head as it is': planted(head_rows(list(range(10)))), 'tau 1': distilled(tau=1.0),
    'tau 20': distilled(tau=20.0), 'teachers alone': distilled(ce_weight=0.0), 'an own loss': own_loss(1.0),
}


# ------------------------------------------------------------ what is expected
def finds(message: str):

    def expected(run: Run) -> None:
        problems, _ = run.findings()
        assert re.search(message, problems), problems

    return expected


def warns(message: str):

    def expected(run: Run) -> None:
        problems, warnings = run.findings()
        assert problems == ''
        assert re.search(message, warnings), warnings

    return expected


def finds_nothing(run: Run) -> None:
    assert run.findings() == ('', '')


FAULTS = {
    **{name: Fault('taught', plant, finds(message)) for name, (plant, message) in PROBLEMS.items()},
    **{name: Fault('taught', plant, warns(message)) for name, (plant, message) in WARNINGS.items()},
    **{f'healthy: {name}': Fault('taught', plant, finds_nothing) for name, plant in HEALTHY.items()},
}
