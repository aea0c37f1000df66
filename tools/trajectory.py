#!/usr/bin/env python
"""Verify every snapshot of a trajectory, or write its trajectory.json anew.

    python tools/trajectory.py verify work_dirs/r34_r18
    python tools/trajectory.py repair work_dirs/r34_r18

verify reads each file once, and ends with status 1 where one is damaged. repair lists the snapshots that are
whole, and keeps what the present manifest says of them.
"""

import argparse
from contextlib import nullcontext
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('action', choices=['verify', 'repair'])
    parser.add_argument('folder', help='folder of the trajectory')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from ckd_mm.errors import CkdError
    from ckd_mm.pipeline.owner import OWNER, owning
    from ckd_mm.report.curves import read_curve
    from ckd_mm.trajectory import Trajectory
    from ckd_mm.trajectory.repair import repair
    if args.action == 'repair':
        folder = Path(args.folder)
        curve = read_curve(folder) or read_curve(folder / 'teacher')  # mmengine logged beside it, or there
        with owning(folder) if (folder / OWNER).exists() else nullcontext():  # no run may be in it
            trajectory = repair(folder, dict(curve))
        print(f'Written: {trajectory.manifest}, {trajectory.length.words} {trajectory.times}')
        return
    problems = []
    trajectory = Trajectory.open(args.folder)
    for snapshot in trajectory:
        try:
            snapshot.state_dict()
            print(f'{snapshot.when}: whole')
        except CkdError as error:
            problems.append(error)
            print(f'{snapshot.when}: {error}')
    if problems:
        raise CkdError(f'{len(problems)} of {len(trajectory)} snapshots are damaged')


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
