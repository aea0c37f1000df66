"""Networks, snapshots, trajectories and runs that several tests make."""

import copy
import itertools
import json
import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmpretrain.registry import DATASETS, MODELS
from mmpretrain.structures import DataSample
from PIL import Image
from sklearn.datasets import load_digits

from ckd_mm.compat import accelerator_available
from ckd_mm.pipeline.build import open_run
from ckd_mm.pipeline.preflight import Preflight
from ckd_mm.pipeline.run import Run
from ckd_mm.pipeline.runner import CheckpointDistillRunner
from ckd_mm.pipeline.stage import Stage
from ckd_mm.trajectory import Trajectory, write_snapshot

from .conftest import STATISTICS, free_port, resnet

DIGITS = tuple('0123456789')
DIGIT_NAMES = ('a_zero', 'b_one', 'c_two', 'd_three', 'e_four', 'f_five', 'g_six', 'h_seven', 'i_eight',
               'j_nine')  # folders in the order of the labels
RUNS = itertools.count()
BEFORE_STAGES = {'.lock', 'owner.json', 'ckd_mm.log'}  # in a work_dir


def with_statistics(model: dict, **statistics) -> dict:
    """A model config that carries its own input statistics, as snapshots do."""
    return dict(copy.deepcopy(model), data_preprocessor=dict(STATISTICS, **statistics))


TEACHER = with_statistics(resnet(2))  # of every trajectory below, unless it says otherwise


def digit_files(folder: Path, split: str = 'train', images: int = 64) -> dict:
    """Config of a data set of digits in PNG files below ``folder``, one folder a class."""
    for index, info in enumerate(DATASETS.build(dict(type='ckd_mm.Digits', split=split, indices=images))):
        path = Path(folder) / DIGIT_NAMES[info['gt_label']] / f'{index:03}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(info['img']).save(path)
    return dict(type='CustomDataset', data_root=str(folder),
                pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])


def on_files(config: Config, folder: Path) -> Config:
    """``config`` with digits in files below ``folder``, in ``train`` and ``test``; in place."""
    for loader, split in ((config.train_dataloader, 'train'), (config.val_dataloader, 'test')):
        loader.dataset = ConfigDict(digit_files(folder / split, split))
    config.test_dataloader = copy.deepcopy(config.val_dataloader)
    return config


def vision_transformer(dropout: float = 0.0, drop_path: float = 0.0) -> dict:
    """Config of a transformer for 8x8 images, with Dropout and DropPath."""
    arch = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)
    backbone = dict(type='VisionTransformer', img_size=8, patch_size=4, drop_rate=dropout,
                    drop_path_rate=drop_path, arch=arch)
    head = dict(type='VisionTransformerClsHead', num_classes=10, in_channels=8,
                loss=dict(type='CrossEntropyLoss'))
    return dict(type='ImageClassifier', backbone=backbone, head=head)


def network(model: dict, seed: int):
    """A network with random weights and random BatchNorm statistics, so that eval and train mode differ."""
    torch.manual_seed(seed)
    built = MODELS.build(copy.deepcopy(model))
    for parameter in built.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    for name, buffer in built.named_buffers():
        if name.endswith('running_mean'):
            buffer.normal_(0, 0.3)
        elif name.endswith('running_var'):
            buffer.uniform_(0.5, 2.0)
    return built.eval()


def trajectory(folder: Path, epochs=(1, 2, 3), model: dict = TEACHER, classes=DIGITS, seed: int = 0,
               **info) -> Trajectory:
    """A trajectory on disk whose snapshot of epoch e is ``network(model, seed + e)``."""
    run = Trajectory(Path(folder), (), dict(info, model=model, classes=list(classes), max_epochs=max(epochs)))
    for epoch in epochs:
        weights = network(model, seed + epoch).state_dict()
        run.add(write_snapshot(Path(folder, 'snapshots', f'epoch_{epoch}.pth'), weights, epoch=epoch,
                               iteration=4 * epoch, lr=0.1, model=model, classes=classes))
    return run


def batch(images: int = 6, seed: int = 0) -> dict:
    """Raw uint8 images whose channels differ, with labels, as a DataLoader yields them."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, 256, (images, 3, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (images, ), generator=generator)
    return dict(inputs=list(inputs), data_samples=[DataSample().set_gt_label(int(label)) for label in labels])


def labels_of(data: dict) -> torch.Tensor:
    return torch.cat([sample.gt_label for sample in data['data_samples']])


def is_last(tensor: torch.Tensor) -> bool:
    """Channels last and not also in the usual order, as tensors with one channel or one pixel are."""
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def train(config, *hooks) -> Runner:
    """Under a name of its own: mmengine shares logs between runs of one name that start in one second."""
    config = copy.deepcopy(config)
    config.experiment_name = f'run_{next(RUNS)}'
    runner = Runner.from_cfg(config)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def stopped_at(config: Config, stage: str, epoch: int) -> None:
    """Run it until a stage has trained so many epochs. Afterwards the config says ``resume``."""
    run_epoch = EpochBasedTrainLoop.run_epoch

    def stopping(loop) -> None:
        if Path(loop.runner.work_dir).name == stage and loop.epoch == epoch:
            raise KeyboardInterrupt
        run_epoch(loop)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(EpochBasedTrainLoop, 'run_epoch', stopping)
        RUNNERS.build(config).train()
    config.resume = True


def opened(config: Config) -> tuple[Run, dict[str, Stage]]:
    """A run and its stages by name, as if each had a result, so that their configs can be made. No snapshot
    of the teacher is chosen."""
    run, stages = open_run(config)
    run.results = {stage.name: SimpleNamespace(checkpoint=f'{stage.name}.pth', sha256='') for stage in stages}
    named = {stage.name: stage for stage in stages}
    if 'select' in named:
        named['select'].chosen = lambda run: []
    return run, named


def hint_distiller(layer: str = 'backbone.layer1', channels: tuple[int, int] = (4, 8), **loss) -> dict:
    """Our distiller of one layer: ``loss_feature``, the mean squared error of a hint."""
    loss = dict(dict(type='ckd_mm.HintLoss', student_channels=channels[0], teacher_channels=channels[1],
                     reduction='mean'), **loss)
    return dict(type='ckd_mm.FeatureDistiller', losses=dict(
        loss_feature=dict(loss, student=layer, teacher=f'networks.0.{layer}')))


def feature_distiller(source: str = 'backbone.layer1', channels: tuple[int, int] | None = (4, 8),
                      **loss) -> dict:
    """mmrazor's distiller of one layer: ``loss_feature``, by default an L2Loss; if channels are given, behind
    the connector ``adapt``."""
    if 'type' not in loss:
        loss = dict(dict(type='L2Loss', normalize=False, div_element=True), **loss)
    distiller = dict(
        type='mmrazor.ConfigurableDistiller', distill_losses=dict(loss_feature=loss),
        student_recorders=dict(feature=dict(type='ModuleOutputs', source=source)),
        teacher_recorders=dict(feature=dict(type='ModuleOutputs', source=f'networks.0.{source}')),
        loss_forward_mappings=dict(loss_feature=dict(s_feature=dict(recorder='feature', from_student=True),
                                                     t_feature=dict(recorder='feature', from_student=False))))
    if channels is not None:
        connector = dict(type='ConvModuleConnector', in_channel=channels[0], out_channel=channels[1])
        distiller['connectors'] = dict(adapt=connector)
        distiller['loss_forward_mappings']['loss_feature']['s_feature']['connector'] = 'adapt'
    return distiller


def prepared(config: Config) -> tuple[list[str], list[str]]:
    """All that is checked before anything is trained: a line for each check, and the warnings."""
    lines = []
    preflight = Preflight(lines.append)
    CheckpointDistillRunner(config).prepare(preflight, warn=preflight.warn)
    return lines, preflight.warnings


def cohort_of(folder: Path, *epochs: int, model: dict = TEACHER) -> dict:
    """Config of an ensemble of these snapshots of a trajectory, which is made where there is none."""
    if not Path(folder, 'trajectory.json').exists():
        trajectory(folder, model=model)
    return dict(type='ckd_mm.SnapshotEnsemble',
                snapshots=[dict(trajectory=str(folder), epoch=epoch) for epoch in epochs])


def graphs_of_compiler(graphs: list):
    """A backend for ``torch.compile`` which keeps what it is given, (graph, example inputs), and runs it as
    it is."""
    return lambda graph, inputs: graphs.append((graph, inputs)) or graph.forward


def logged(folder: Path, key: str | None = None) -> list[dict]:
    """Rows of the log of a training, in all its parts; those with a value of ``key``."""
    rows = [json.loads(line) for file in sorted(Path(folder).glob('*/vis_data/scalars.json'))
            for line in file.read_text().splitlines()]
    return [row for row in rows if key is None or key in row]


class StepLog(Hook):
    """What every training step returned: (epoch counted from 1, the dict that is logged)."""

    def __init__(self) -> None:
        self.steps = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.steps.append((runner.epoch + 1, {name: value.item() for name, value in outputs.items()}))


def weights_of(file: Path) -> dict:
    """Its state dict."""
    return torch.load(file, map_location='cpu', weights_only=False)['state_dict']


def assert_same_weights(left: dict, right: dict) -> None:
    """The same keys in the same order and the same bits."""
    assert list(left) == list(right)
    assert [key for key in left if not torch.equal(left[key], right[key])] == []


def in_two_processes(work, timeout: int = 300) -> list:
    """What ``work()`` returns in each of two processes of a group, as a launcher on this machine starts them.
    Forked: fresh ones would import for half a minute."""
    if accelerator_available():
        pytest.skip('forked processes cannot use an accelerator')
    context, port = multiprocessing.get_context('fork'), free_port()
    found = context.SimpleQueue()

    def one(rank: int) -> None:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                          MASTER_PORT=port)
        found.put((rank, work()))

    processes = [context.Process(target=one, args=(rank, )) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return [result for _, result in sorted(found.get() for _ in processes)]


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels of the test images of the fixtures, straight from scikit-learn."""
    found = load_digits()
    images = torch.from_numpy(found.images[1297:1397]).float().mul(255 / 16).round()
    return ((images - 77.9) / 95.9)[:, None].expand(-1, 3, -1, -1), torch.from_numpy(found.target[1297:1397])


def logits_of(file: Path, model: dict | None = None) -> torch.Tensor:
    """Of a published network on the test images, by a network built here."""
    network = MODELS.build(with_statistics(model or resnet()))
    network.load_state_dict(weights_of(file), strict=True)
    with torch.no_grad():
        return network.eval()(digits()[0])


def accuracy(scores: torch.Tensor):
    """Of logits or probabilities on the test images, percent, to be compared with a summary."""
    return pytest.approx(100 * (scores.argmax(1) == digits()[1]).float().mean().item(), abs=1e-3)


class Evil:
    """Unpickling it runs ``function(argument)``."""

    def __init__(self, function, argument) -> None:
        self.call = function, (argument, )

    def __reduce__(self):
        return self.call


def open_logs() -> list[str]:
    """Log files that this process holds open."""
    files = map(os.path.realpath, Path('/proc/self/fd').glob('*'))
    return sorted(file for file in files if file.endswith('.log'))
