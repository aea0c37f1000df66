#!/usr/bin/env python
"""Measure the information plane of a trajectory: one's own (trajectory.json) or any folder of checkpoints.

The config gives the images: its training and evaluation sets and its `probe` settings.
"""

import argparse
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from ckd_mm.cli import add_config_arguments
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument('trajectory', help='a trajectory.json, a folder with one, or one of checkpoints')
    parser.add_argument('--out', help='folder for information_plane.json and .png; default: that of the '
                                      'trajectory')
    parser.add_argument('--probe-split', choices=['held_out', 'test'],
                        help="images: held out from the training set, or the test set (the papers' way)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from ckd_mm.cli import load_config
    from ckd_mm.counting import WORDS
    from ckd_mm.infoplane import PLANE
    from ckd_mm.infoplane.probe import Probe, probe_trajectory
    from ckd_mm.registry import use_scope
    from ckd_mm.report import draw_information_plane
    from ckd_mm.trajectory import Trajectory
    config = load_config(args)
    use_scope(config)
    settings = dict(config.get('probe') or {})
    if args.probe_split:
        settings['probe_split'] = args.probe_split
    model = (config.get('teacher') or {}).get('model')
    trajectory = Trajectory.open(args.trajectory, None if model is None else dict(model))
    path = Path(args.out or trajectory.folder) / PLANE
    plane = probe_trajectory(trajectory, Probe(config, **settings), path)
    draw_information_plane(plane, path.with_suffix('.png'))
    print(f'{WORDS[plane.unit]:>6} {"I(X;F) nats":>12} {"I(Y;F)":>8} {"sum":>6}')
    for point, row in zip(plane.points, plane.normalised()):
        print(f'{point.epoch:>6} {point.information_x:>12.5f} {point.information_y:>8.4f} '
              f'{row["sum"]:>6.3f}{"  <- T*" if point.epoch == plane.best_epoch else ""}')
    print(f'Written: {path} and {path.with_suffix(".png")}')


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
