"""A damaged image is named in one line, whoever reads it."""

import copy
import re

import pytest
from mmengine.registry import RUNNERS
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from ckd_mm.data.damaged import name_damaged
from ckd_mm.errors import ImageError

from ..helpers import digit_files, on_files

DAMAGES = dict(truncated=lambda data: data[:len(data) // 2], empty=lambda data: b'',
               text=lambda data: b'no image')
MENDED = r'Mend it, or put another image of its class in its place, under its name .*, then pass --resume'


def damage(folder, place: int, kind: str = 'truncated'):
    file = sorted(folder.rglob('*.png'))[place]
    file.write_bytes(DAMAGES[kind](file.read_bytes()))
    return file


@pytest.mark.parametrize('kind', DAMAGES)
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('workers', [0, 1])
def test_each_damage_from_each_process(tmp_path, kind, backend, workers):
    config = digit_files(tmp_path)
    config['pipeline'][0]['imdecode_backend'] = backend
    file = damage(tmp_path, 9, kind)
    loader = DataLoader(name_damaged(DATASETS.build(config)), batch_size=4, num_workers=workers,
                        collate_fn=list)
    with pytest.raises(ImageError) as error:
        list(loader)
    assert re.fullmatch(rf'image {file} cannot be read, it is missing or damaged \(\w+: .*\)\. {MENDED}',
                        str(error.value))


@pytest.mark.parametrize('split, workers, in_memory', [('train', 1, False), ('test', 1, False),
                                                       ('train', 0, True)])
def test_in_a_run(distil_run, tmp_path, split, workers, in_memory):
    config = on_files(distil_run(selector='last', probe=None), tmp_path)
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.num_workers = workers
    if in_memory:
        loader = config.train_dataloader
        loader.dataset = dict(type='ckd_mm.InMemory', dataset=loader.dataset)
    file = damage(tmp_path / split, 50)
    with pytest.raises(ImageError, match=f'image {file} cannot be read') as error:
        RUNNERS.build(copy.deepcopy(config)).train()
    assert '\n' not in str(error.value)


def test_of_the_probe_and_of_the_final_evaluation(distil_run, tmp_path):
    config = on_files(distil_run(probe=dict(probe_split='test', decoder_epochs=1)), tmp_path)
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    file = damage(tmp_path / 'test', 50)
    for selector in ('information_plane', 'last'):
        config.selector, config.probe = selector, config.probe if selector != 'last' else None
        with pytest.raises(ImageError, match=f'image {file} cannot be read'):
            RUNNERS.build(copy.deepcopy(config)).train()
        config.resume = True


def test_the_doctor_reads_all_images(tool, distil_run, tmp_path):
    config = on_files(distil_run(selector='last', probe=None), tmp_path)
    config.dump(tmp_path / 'config.py')
    files = [damage(tmp_path / 'train', 40), damage(tmp_path / 'train', 60, 'empty'),
             damage(tmp_path / 'test', 63, 'text')]
    status, out, error = tool('doctor.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'run', '--images')
    assert status == 1 and all(f'image {file} cannot be read' in out for file in files)
    assert error.strip().endswith('images cannot be read, each named above: 2 of train_dataloader.dataset, 1 '
                                  'of val_dataloader.dataset')
