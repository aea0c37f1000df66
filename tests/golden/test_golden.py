"""What the code did before the redesign: configs of all stages, messages, weights. GOLDEN=record writes them
anew."""

import gzip
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from mmengine.registry import RUNNERS

from ..conftest import resnet
from .stages import CONFIGS, SETTINGS, config_of, stage_configs

FOLDER = Path(__file__).parent
RECORD = os.environ.get('GOLDEN') == 'record'
pytestmark = pytest.mark.skipif('GOLDEN' not in os.environ, reason='for the redesign: GOLDEN=compare '
                                                                   '(weights are of one kind of processor)')


def golden(name, found):
    """Compare with the recorded, or record."""
    file = FOLDER / f'{name}.json.gz'
    known = json.loads(gzip.decompress(file.read_bytes())) if file.exists() else {}
    if RECORD:
        known.update(found)
        file.write_bytes(gzip.compress(json.dumps(known, indent=1, sort_keys=True).encode(), mtime=0))
    else:
        for key, value in found.items():
            assert value == known[key], key


@pytest.mark.parametrize('name', CONFIGS)
def test_configs(name):
    golden('configs', {name: stage_configs(config_of(name))})


@pytest.mark.parametrize('row', range(len(SETTINGS)))
def test_messages(distil_run, row):
    change, _ = SETTINGS[row]
    config = distil_run()
    for key, value in change.items():
        config[key] = {
            **config.get(key, {}), **value
        } if isinstance(value, dict) and key not in ('selector', 'val_evaluator') else value
    with pytest.raises(Exception) as caught:
        RUNNERS.build(config).train()
    golden('messages', {f'{row:02d} {json.dumps(change, default=str, sort_keys=True)}': str(caught.value)})


HINT = dict(type='mmrazor.ConfigurableDistiller',
            student_recorders=dict(map=dict(type='ModuleOutputs', source='backbone.layer1')),
            teacher_recorders=dict(map=dict(type='ModuleOutputs', source='networks.0.backbone.layer1')),
            distill_losses=dict(loss_hint=dict(type='L2Loss', normalize=False, div_element=True)),
            loss_forward_mappings=dict(loss_hint=dict(s_feature=dict(from_student=True, recorder='map'),
                                                      t_feature=dict(from_student=False, recorder='map'))))
PLAIN = dict(selector='last', probe=None)
METHODS = dict(kd=PLAIN, plane=dict(), student_alone=dict(PLAIN, student_alone=2),
               test_split=dict(probe=dict(probe_split='test', decoder_epochs=1)),
               snapshot_ensemble=dict(PLAIN, selector=dict(type='ensemble', kind='snapshot', k=3)),
               full_ensemble=dict(PLAIN, selector=dict(type='ensemble', kind='full', k=2)),
               heads=dict(PLAIN, heads=dict(out_indices=[0, 1], train_cfg=dict(max_epochs=1))),
               heads_only=dict(PLAIN, heads=dict(out_indices=[0], use=[0], train_cfg=dict(max_epochs=1))),
               stop=dict(PLAIN, distill=dict(tau=4.0, stop_epoch=1)),
               cached=dict(PLAIN, distill=dict(tau=4.0, cache=dict(views=2))), cached_float16=dict(PLAIN,
                                   distill=dict(tau=4.0, cache=dict(views=1, dtype='float16', top_k=3))),
               hint=dict(PLAIN, hint=dict(distiller=HINT, train_cfg=dict(max_epochs=1))),
               assistants=dict(PLAIN, assistants=[dict(model=resnet(2, channels=3))]),
               generations=dict(PLAIN, generations=2),
               cached_generations=dict(PLAIN, generations=2, distill=dict(cache=dict(views=1))),
               dkd=dict(PLAIN, distill=dict(loss=dict(type='ckd_mm.DecoupledKDLoss'))),
               standardize=dict(PLAIN, distill=dict(tau=2.0, standardize=True, ce_weight=0.5)),
               reduction_sum=dict(PLAIN, selector=dict(type='even', k=2), distill=dict(reduction='sum')),
               logit=dict(PLAIN, selector=dict(type='even', k=2), distill=dict(aggregation='logit')),
               anneal=dict(PLAIN,
                           distill=dict(schedule=dict(type='ckd_mm.AnnealDistillationHook', begin=0, end=2))),
               overtaken=dict(PLAIN,
                              distill=dict(schedule=dict(type='ckd_mm.StopWhenOvertakenHook', held_out=16))),
               progressive=dict(PLAIN, selector=dict(type='even', k=2),
                                distill=dict(schedule=dict(type='ckd_mm.ProgressiveTeacherHook'))),
               calibration=dict(selector='calibration'), cmi=dict(selector='cmi'),
               short_probe=dict(selector=dict(type='short_probe', epochs=1)),
               peer=dict(probe=None, selector=None, teacher=None, distill=None, peer=dict(model=resnet())),
               no_teacher=dict(probe=None, selector=None, teacher=None, distill=None),
               student_snapshots=dict(PLAIN, student_snapshots=dict(interval=1)))


@pytest.mark.parametrize('name', METHODS)
def test_weights(distil_run, name):
    """On one kind of machine: sums differ from processor to processor."""
    config = distil_run()
    for key, value in METHODS[name].items():
        config[key] = value
    summary = RUNNERS.build(config).train()
    found = {}
    for file in sorted(Path(config.work_dir).glob('*.pth')):
        weights = torch.load(file, map_location='cpu', weights_only=False)['state_dict']
        found[file.name] = hashlib.sha256(b''.join(
            key.encode() + value.contiguous().numpy().tobytes()
            for key, value in weights.items())).hexdigest() if file.name != 'heads.pth' else sorted(weights)
    accuracies = {
        key: value['accuracy_top1']
        for key, value in summary.items() if isinstance(value, dict) and 'accuracy_top1' in value
    }
    stages = list(json.loads((Path(config.work_dir) / 'stages.json').read_text()))
    golden('weights', {name: dict(files=found, accuracies=accuracies, stages=stages,
                                  chosen=(summary.get('selection') or {}).get('epochs'))})
