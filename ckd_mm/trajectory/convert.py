"""CIFAR networks of RepDistiller, of mdistiller and of the code of CheckpointKD's authors as ours."""

import copy
import re
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError, SnapshotError
from ..validate import check_int
from .checkpoint_file import load_safely
from .snapshot import Snapshot, load_weights, write_snapshot
from .trajectory import MANIFEST

WEIGHTS = ('model', 'model_state', 'state_dict')  # where a file keeps its state dict, if it is not one itself
NORM = r'(?:weight|bias|running_mean|running_var|num_batches_tracked)'
CONVOLUTIONS = rf'conv[12]\.weight|bn[12]\.{NORM}'
HEAD = (r'(?:fc|linear)\.(weight|bias)', r'head.fc.\1')
# all keys that a network can have, and what they become in an ImageClassifier
KEYS = dict(
    resnet=(HEAD, (rf'(conv1\.weight|bn1\.{NORM})', r'backbone.\1'),
            (rf'(layer[123]\.\d+\.(?:{CONVOLUTIONS}|downsample\.0\.weight|downsample\.1\.{NORM}))',
             r'backbone.\1')),
    wrn=(HEAD, (r'(conv1\.weight)', r'backbone.\1'), (rf'bn1\.({NORM})', r'backbone.bn.\1'),
         (rf'block([123])\.layer\.(\d+\.(?:{CONVOLUTIONS}))', r'backbone.layer\1.\2'),
         (r'block([123])\.layer\.(\d+)\.convShortcut\.weight', r'backbone.layer\1.\2.shortcut.weight')))


def convert_state_dict(state_dict: dict[str, Tensor]) -> 'OrderedDict[str, Tensor]':
    """Weights of a ResNet or WRN of theirs under the names of an ``ImageClassifier`` with a ``CIFARResNet``
    or ``WideResNet``, global average pooling and a ``LinearClsHead``, each once. Where no BatchNorm has
    counted its batches, all begin at 0. Raises SnapshotError for a key that such a network does not have, or
    has twice.
    """
    names = {key: re.sub(r'^module\.', '', key) for key in state_dict}
    network = 'wrn' if any(name.startswith('block1.') for name in names.values()) else 'resnet'
    converted = OrderedDict()
    for key, name in names.items():
        new = next((re.sub(pattern, becomes, name) for pattern, becomes in KEYS[network]
                    if re.fullmatch(pattern, name)), None)
        if new is None:
            raise SnapshotError(f'{key!r} is no weight of a CIFAR {network} of RepDistiller or mdistiller: '
                                'only their ResNets with basic blocks and their WRNs can be converted, from '
                                'files of one network (mdistiller: student_*)')
        if new in converted:
            raise SnapshotError(f'{key!r} is there twice under two names, as {new!r}: give a file of one '
                                'network')
        converted[new] = state_dict[key]
    if not any(key.endswith('num_batches_tracked') for key in converted):  # before torch 0.4.1
        for key in [key for key in converted if key.endswith('running_var')]:
            converted[key.replace('running_var', 'num_batches_tracked')] = torch.tensor(0)
    return converted


def convert_checkpoint(source: Path, model: dict, folder: Path, epoch: int | None = None) -> Snapshot:
    """A checkpoint file of theirs as ``folder/epoch_N.pth``: a folder of such files is a trajectory. Nothing
    in the file is executed. Raises SnapshotError if it is missing, damaged, or not of this network, and
    ConfigError if no epoch is known, or the folder holds a trajectory with a manifest.

    Args:
        model: mmpretrain config of the network, with its input statistics (``data_preprocessor``).
        epoch: N, finished epochs; default: what the file says.
    """
    from mmpretrain.registry import MODELS
    checkpoint = load_safely(source, 'checkpoint')
    checkpoint = checkpoint if isinstance(checkpoint, dict) else {}
    weights = next((checkpoint[key] for key in WEIGHTS if key in checkpoint), checkpoint)
    if not isinstance(weights, dict) or not weights or not all(
            isinstance(value, Tensor) for value in weights.values()):
        raise SnapshotError(f'checkpoint {source} holds no state dict, neither alone nor as one of {WEIGHTS}')
    epoch = check_int('epoch', checkpoint.get('epoch') if epoch is None else epoch, 1,
                      f' of epochs after which {source} was taken (--epoch)')
    if (Path(folder) / MANIFEST).exists():
        raise ConfigError(f'{folder} holds the trajectory of a run, {MANIFEST}: choose another folder')
    converted = convert_state_dict(weights)
    load_weights(MODELS.build(copy.deepcopy(model)), converted, str(source), model)
    return write_snapshot(Path(folder) / f'epoch_{epoch}.pth', converted, epoch=epoch, model=model)
