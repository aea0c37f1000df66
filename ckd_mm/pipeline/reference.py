"""``docs/config.md`` from the settings themselves: ``python -m ckd_mm.pipeline.reference docs/config.md``."""

import sys
import textwrap
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from ..settings import RUNNER_KEYS, Settings, TrainingSettings, kinds_of, settings_in
from ..stages.networks import AssistantSettings
from ..stages.peers import MutualSettings
from .build import RunSettings

HEAD = """# Keys of a config

*Written by `python -m ckd_mm.pipeline.reference docs/config.md`; do not edit.*

The config itself is the student's, an ordinary mmpretrain config. Beside mmengine's keys it may have
those below. A key that is set to `None` has its default, except `teacher` and `probe`. Unknown keys are
refused; helper variables of a config are not.
"""


def config_reference() -> str:
    """The page, in Markdown."""
    parts = [HEAD, *_section('the whole config', '', RunSettings)]
    for field in RunSettings.own_fields():
        for kind in settings_in(field.type):
            title = f'`{field.name}`' + (' beside `peer`' if kind is MutualSettings else '')
            parts += _section(title, f'{field.name}.', kind)
    parts += _section('`assistants[i]`', 'assistants[i].', AssistantSettings)
    return '\n'.join(parts) + '\n'


def _section(title: str, prefix: str, settings: type[Settings]) -> list[str]:
    lines = [f'## {title}', '', ' '.join((settings.__doc__ or '').replace('``', '`').split()), '',
             '| key | type | default | bounds | meaning |', '|---|---|---|---|---|']
    nested = []
    for field in settings.own_fields():
        default = 'required' if field.default is MISSING else f'`{field.default!r}`'
        cells = [f'`{prefix}{field.name}`', _type_of(field.type), default, _bounds(field.metadata),
                 field.metadata['help'].replace('|', '\\|')]
        lines.append('| ' + ' | '.join(cells) + ' |')
        if prefix:
            nested += [(f'`{prefix}{field.name}`', f'{prefix}{field.name}.', kind)
                       for kind in settings_in(field.type)]
    if issubclass(settings, TrainingSettings):
        keys = ', '.join(f'`{key}`' for key in RUNNER_KEYS)
        text = ("And any of mmengine's keys to train it otherwise, merged over the inherited as in a derived "
                f'config: {keys}.')
        lines += ['', *textwrap.wrap(text, 110)]
    lines.append('')
    for inner in nested:
        lines += _section(*inner)
    return lines


def _type_of(annotation: Any) -> str:
    names = ['dict' if kind in settings_in(annotation) else kind.__name__ for kind in kinds_of(annotation)]
    return ' or '.join(dict.fromkeys(name for name in names if name not in ('Path', 'tuple')))


def _bounds(metadata: Any) -> str:
    if metadata['choices'] is not None:
        return ', '.join(f'`{choice!r}`' for choice in metadata['choices'])
    return ', '.join(f'{key.replace("_", " ")} {metadata[key]}' for key in ('above', 'at_least', 'at_most')
                     if metadata[key] is not None)


if __name__ == '__main__':
    Path(sys.argv[1]).write_text(config_reference(), encoding='utf-8')
