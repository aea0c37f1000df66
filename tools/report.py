#!/usr/bin/env python
"""Write report.html (and its figures) of a finished run anew, from its report.json, and print the table."""

import argparse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', help='folder of the run')
    args = parser.parse_args()
    from ckd_mm.report import Report, results_table, write_page
    page = write_page(args.work_dir)
    print(results_table(Report.load(args.work_dir)))
    print(f'Report: {page}')


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
