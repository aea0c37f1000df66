#!/usr/bin/env python
"""Mean and spread of finished runs, a row for each method.

A folder holds the runs of one method, which differ in their seeds alone:

    python tools/train.py CONFIG --work-dir work_dirs/dih/seed_3 --cfg-options randomness.seed=3
    python tools/compare_runs.py work_dirs/kd work_dirs/dih
"""

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='+', type=Path, help='of one method each: FOLDER/*/summary.json')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write all numbers here')
    args = parser.parse_args()
    from ckd_mm.files import write_json
    from ckd_mm.sweep import methods_table, read_runs
    methods = [read_runs(folder) for folder in args.folders]
    print(methods_table(methods))
    if args.json is not None:
        write_json(args.json, methods)


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
