#!/usr/bin/env python
"""Draw how similar the classes are to two snapshots of a trajectory (CheckpointKD, Eq. 8 and Fig. 5).

    python tools/class_correlation.py CONFIG work_dirs/run          # the half-way snapshot and the last
    python tools/class_correlation.py CONFIG work_dirs/run --epochs 120 200 --tau 4

The config gives the images. Written: class_correlation.png, .json (mean and spread of each map), .npz (maps).
"""

import argparse
import io
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from ckd_mm.cli import add_config_arguments
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)
    parser.add_argument('trajectory', help='a trajectory.json, a folder with one, or a folder of epoch_*.pth')
    parser.add_argument('--epochs', nargs=2, type=int, metavar=('A', 'B'),
                        help='snapshots; default: half-way and the last')
    parser.add_argument('--tau', type=float, default=5.0,
                        help='temperature of the softened probabilities; default: 5')
    parser.add_argument('--split', choices=['test', 'held_out'], default='test',
                        help='images: the test set, as in the paper, or those held out from the training set '
                             'by `probe`')
    parser.add_argument('--num-images', type=int, default=10000,
                        help='at most this many images; default: 10000')
    parser.add_argument('--out', help='folder to write to; default: that of the trajectory')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import numpy as np
    import torch
    from mmengine.device import get_device

    from ckd_mm.cli import load_config
    from ckd_mm.counting import WORDS
    from ckd_mm.errors import ConfigError
    from ckd_mm.evaluation.class_correlation import KINDS, correlation_maps, diversity
    from ckd_mm.files import atomic_write, write_json
    from ckd_mm.infoplane import load_probe_images
    from ckd_mm.infoplane.probe import Probe
    from ckd_mm.registry import use_scope
    from ckd_mm.report import draw_class_correlation
    from ckd_mm.selection import build_selector
    from ckd_mm.trajectory import Trajectory
    config = load_config(args)
    use_scope(config)
    model = (config.get('teacher') or {}).get('model')
    trajectory = Trajectory.open(args.trajectory, None if model is None else dict(model))
    word = WORDS[trajectory.unit]
    epochs = args.epochs or [build_selector(name).epochs(trajectory.times, trajectory.length)[0]
                             for name in ('half_way', 'last')]
    if epochs[0] == epochs[1]:
        raise ConfigError(f'both snapshots are of {word} {epochs[0]}: nothing to compare. '
                          f'{trajectory.folder} has {word}s {trajectory.times}; choose two with --epochs')
    snapshots = [trajectory.at(epoch) for epoch in epochs]
    probe = Probe(config, **dict(config.get('probe') or {}, probe_split=args.split,
                                 num_images=args.num_images))
    images = load_probe_images(probe.dataset, probe.num_images, probe.seed)
    device = torch.device(get_device())
    maps = {snapshot.time: correlation_maps(snapshot.build(), images, device, args.tau)
            for snapshot in snapshots}
    absent = int(maps[epochs[0]]['logits'].diagonal().isnan().sum())
    if absent:
        print(f'{absent} classes have no image among these {len(images)}: they are grey in the figure and '
              'NaN in the maps; raise --num-images')
    rows = [dict(epoch=epoch, kind=kind, **diversity(maps[epoch][kind]))
            for kind in KINDS for epoch in epochs]
    print(f'{word:>6}  {"cosine similarity of":<22} {"mean":>7} {"std":>7}   (off-diagonal)')
    for row in rows:
        what = 'logits' if row['kind'] == 'logits' else f'softmax(logits / {args.tau:g})'
        print(f'{row["epoch"]:>6}  {what:<22} {row["mean"]:>7.4f} {row["std"]:>7.4f}')
    path = Path(args.out or trajectory.folder) / 'class_correlation.json'
    write_json(path, dict(trajectory=str(trajectory.folder), epochs=epochs, tau=args.tau, split=args.split,
                          images=len(images), classes_without_images=absent, off_diagonal=rows))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{f'{kind}_{epoch}': maps[epoch][kind].numpy()
                                   for kind in KINDS for epoch in epochs})
    atomic_write(path.with_suffix('.npz'), buffer.getvalue())
    draw_class_correlation(maps, args.tau, path.with_suffix('.png'), snapshots[0].classes)
    print(f'Written: {path}, .npz and .png')


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
