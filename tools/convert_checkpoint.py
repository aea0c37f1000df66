#!/usr/bin/env python
"""Convert a CIFAR ResNet or WRN that RepDistiller, mdistiller or the code of CheckpointKD's authors trained.

    python tools/convert_checkpoint.py ckpt_epoch_240.pth config.py teachers/wrn40-2

writes teachers/wrn40-2/epoch_240.pth. A folder of such files is a trajectory:
teacher=dict(trajectory='teachers/wrn40-2'). The config has the network and the input statistics
(data_preprocessor), which should be those it was trained with. ResNets of RepDistiller and mdistiller are
ckd_mm.CIFARResNet(shortcut='B'), those of CheckpointKD's authors shortcut='A'.
"""

import argparse


def parse_args() -> argparse.Namespace:
    from ckd_mm.cli import add_config_arguments
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='checkpoint file')
    add_config_arguments(parser)
    parser.add_argument('out', help='folder to write epoch_N.pth to')
    parser.add_argument('--epoch', type=int, help='N; default: the epoch in the file')
    parser.add_argument('--teacher', action='store_true',
                        help="the network is the config's `teacher.model`, not its `model`")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from ckd_mm.cli import load_config
    from ckd_mm.errors import ConfigError
    from ckd_mm.registry import use_scope
    from ckd_mm.trajectory import model_config_of
    from ckd_mm.trajectory.convert import convert_checkpoint
    config = load_config(args)
    use_scope(config)
    network = (config.get('teacher') or {}).get('model') if args.teacher else config.get('model')
    model = model_config_of(dict(model=network, data_preprocessor=config.get('data_preprocessor')))
    if model is None:
        raise ConfigError(f'{args.config} has no `{"teacher.model" if args.teacher else "model"}`: give a '
                          'config with the network')
    snapshot = convert_checkpoint(args.source, model, args.out, args.epoch)
    print(f'Written: {snapshot.file}, {snapshot.size:,} bytes')


if __name__ == '__main__':
    from ckd_mm.cli import run
    run(main)
