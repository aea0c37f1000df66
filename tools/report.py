#!/usr/bin/env python
"""Write report.html (and its figures) of a finished run anew, and print the table."""

import argparse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', help='folder of the run')
    args = parser.parse_args()
    from pathlib import Path

    from ckd_mm.files import read_json
    from ckd_mm.report import results_table, write_report
    page = write_report(Path(args.work_dir))
    print(results_table(read_json(Path(args.work_dir) / 'summary.json')))
    print(f'Report: {page}')


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
