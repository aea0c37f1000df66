#!/usr/bin/env python
"""Draw the probabilities of each head of a teacher, the teacher and their ensemble for images (DIH, Fig. 2).

    python tools/head_probabilities.py CONFIG work_dirs/run                   # the first three test images
    python tools/head_probabilities.py CONFIG work_dirs/run/heads.pth --images 0 17 --tau 10 --out figure.png

The config gives the images: its test set, else its validation set. Written: head_probabilities.png, and .json
with the numbers.
"""

import argparse
from pathlib import Path


def parse_args() -> argparse.Namespace:
    from ckd_mm.cli import add_config_arguments
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)
    parser.add_argument('heads', help='heads.pth, or a folder with it')
    parser.add_argument('--teacher', metavar='SNAPSHOT',
                        help='the snapshot that the heads are mounted on; default: the one they name')
    parser.add_argument('--images', nargs='+', type=int, default=[0, 1, 2], metavar='INDEX',
                        help='images of the test set, counted from 0; default: 0 1 2')
    parser.add_argument('--tau', type=float, default=10.0,
                        help="temperature; default: 10, the paper's for this figure")
    parser.add_argument('--out', help='.png or .svg; default: head_probabilities.png beside the heads')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmengine.dataset import default_collate
    from mmengine.device import get_device
    from mmpretrain.registry import DATASETS

    from ckd_mm.cli import load_config
    from ckd_mm.errors import ConfigError
    from ckd_mm.evaluation import member_probabilities
    from ckd_mm.evaluation.evaluate import evaluation_parts
    from ckd_mm.files import write_json
    from ckd_mm.registry import use_scope
    from ckd_mm.report import draw_head_probabilities
    from ckd_mm.teachers import DIHTeacher, read_heads
    from ckd_mm.teachers.input_statistics import rgb_images
    config = load_config(args)
    use_scope(config)
    file = Path(args.heads) / 'heads.pth' if Path(args.heads).is_dir() else Path(args.heads)
    out = Path(args.out or file.parent / 'head_probabilities.png')
    if out.suffix not in ('.png', '.svg'):
        raise ConfigError(f'--out {out} should end in .png or .svg')
    heads = read_heads(file)
    model = (config.get('teacher') or {}).get('model')
    cohort = DIHTeacher(args.teacher or heads.teacher_file, file,
                        model=None if model is None else dict(model)).to(get_device())
    parts = evaluation_parts(config)
    if parts is None:
        raise ConfigError(f'{args.config} has no test set and no validation set to take images from')
    dataset = DATASETS.build(parts[0]['dataset'])
    beyond = [index for index in args.images if not 0 <= index < len(dataset)]
    if beyond:
        raise ConfigError(f'--images {beyond[0]}: the data set has images 0 to {len(dataset) - 1}')
    batch = default_collate([dataset[index] for index in args.images])
    probabilities, samples = member_probabilities(cohort, batch, args.tau)
    probabilities = probabilities.transpose(0, 1).cpu().numpy()
    labels, names = [int(sample.gt_label) for sample in samples], [*cohort.member_names, 'ensemble']
    classes = cohort.classes or dataset.metainfo.get('classes')
    draw_head_probabilities(rgb_images(batch['inputs'], cohort.data_preprocessor), labels, probabilities,
                            names, args.tau, out, classes)
    write_json(out.with_suffix('.json'), dict(
        heads=str(file), teacher=str(cohort.snapshot.file), tau=args.tau, classes=classes, panels=names,
        images=[dict(index=index, label=label, probabilities=rows)
                for index, label, rows in zip(args.images, labels, probabilities)]))
    print(f'Written: {out} and {out.with_suffix(".json")}')


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
