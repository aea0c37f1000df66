"""Reading a network's config out of a run's config, from text without running it."""

import ast
import copy
from typing import Any

from ..errors import SnapshotError


def model_config_of(config: dict) -> dict | None:
    """The classifier that a run trains (of a distillation: its student), with its input statistics
    (``data_preprocessor``); None if the run was not built from a config."""
    model = config.get('model')
    if not isinstance(model, dict):
        return None
    statistics, kind = [model.get('data_preprocessor'), config.get('data_preprocessor')], model.get('type')
    if getattr(kind, '__name__', str(kind)).endswith('CheckpointDistill'):  # in pure Python a class
        model = model['student']
    model = copy.deepcopy(model)
    for given in statistics:
        if given is not None:
            model.setdefault('data_preprocessor', copy.deepcopy(given))
    return model


def network_and_classes(meta: dict, source: str,
                        model: dict | None = None) -> tuple[dict | None, tuple[str, ...] | None]:
    """The model config and the class names in the ``meta`` of the checkpoint ``source``; None if unknown. A
    ``model`` replaces the checkpoint's own, and gets its input statistics where it has none."""
    if model is None or 'data_preprocessor' not in model:
        own = meta.get('model') if isinstance(meta.get('model'), dict) else None
        if own is None and meta.get('cfg'):
            own = model_config_of(parse_config_text(meta['cfg'], source))
        if model is None:
            model = own
        elif own is not None and own.get('data_preprocessor') is not None:
            model = dict(model, data_preprocessor=own['data_preprocessor'])
    names = (meta.get('dataset_meta') or {}).get('classes')
    known = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return model, tuple(names) if known else None


def parse_config_text(text: str, source: str) -> dict[str, Any]:
    """The values of an mmengine config as text. ``Config.fromstring`` executes it; here only assignments of
    literals, ``dict(...)`` and names (as text) are read, which is what mmengine writes. Raises SnapshotError
    for any other text.
    """
    try:
        return {target.id: _literal(statement.value)
                for statement in ast.parse(text).body if isinstance(statement, ast.Assign)
                for target in statement.targets if isinstance(target, ast.Name)}
    except (SyntaxError, ValueError) as error:
        message = f'the config inside {source} cannot be read without running it: {error}'
        raise SnapshotError(message) from error


def _literal(node: ast.AST) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and all(
            isinstance(item, ast.Dict) for item in node.args) and all(item.arg for item in node.keywords):
        # mmengine writes dict({'.cls_token': 1}) where keys are no identifiers
        positional = {key: value for item in node.args for key, value in _literal(item).items()}
        return {**positional, **{keyword.arg: _literal(keyword.value) for keyword in node.keywords}}
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_literal(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Name):  # classes are written as their dotted names, and read as text
        return node.id
    if isinstance(node, ast.Attribute):
        return f'{_literal(node.value)}.{node.attr}'
    return ast.literal_eval(node)
