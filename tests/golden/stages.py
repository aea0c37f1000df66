"""The flattened config of each stage."""

import ast
from pathlib import Path
from types import SimpleNamespace

from mmengine.config import Config

from ckd_mm.files import plain
from ckd_mm.pipeline.build import RunSettings, build_pipeline
from ckd_mm.pipeline.run import Run

from ..conftest import ROOT, resnet  # noqa: F401

FOLDER = ROOT / 'configs'
CONFIGS = sorted(str(path.relative_to(FOLDER).with_suffix('')) for path in FOLDER.rglob('*.py')
                 if '_base_' not in path.parts and 'places365' not in path.name)


def config_of(name):
    path = FOLDER / f'{name}.py'
    config = Config(Config.fromfile(path).to_dict(), filename=str(path), format_python_code=False)
    config.work_dir = 'unused'
    return config


def settings():
    tree = ast.parse((Path(__file__).parents[1] / 'test_pipeline' / 'test_bad_input.py').read_text())
    node = next(
        node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == 'SETTINGS')
    return eval(compile(ast.Expression(node.value), 'SETTINGS', 'eval'))


SETTINGS = settings()


def flat(value, prefix=''):
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {prefix: value}
    found = {}
    for key, item in items:
        found.update(flat(item, f'{prefix}.{key}' if prefix else str(key)))
    return found


def stage_configs(config):
    run = Run(config, RunSettings.of(config))
    stages, found = build_pipeline(run), {}
    for stage in stages:
        if stage.name == 'select':
            stage.chosen = lambda run, stage=stage: [
                dict(trajectory='T', epoch=index + 1) for index in range(stage.expected(run))]
        run.results[stage.name] = SimpleNamespace(checkpoint=f'{stage.name}.pth', sha256='')
        if stage.name == 'heads':
            stage.input_shape = lambda run: (3, 32, 32)
        if hasattr(stage, 'config'):
            found[stage.name] = stage.config(run)
    return {name: flat(plain(config.to_dict())) for name, config in found.items()}
