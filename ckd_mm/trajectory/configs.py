"""Reading a network's config out of a run's config, from text without running it."""

import ast
import copy
from typing import Any

from ..errors import SnapshotError


def classifier_config(model: dict) -> dict:
    """The plain classifier in a model config: itself, or the student that a distillation algorithm wraps."""
    kind = model.get('type')
    if getattr(kind, '__name__', str(kind)).endswith('CheckpointDistill'):  # in pure Python a class
        student = copy.deepcopy(model['student'])
        if model.get('data_preprocessor') is not None:
            student.setdefault('data_preprocessor', model['data_preprocessor'])
        return student
    return model


def model_config_of(config: dict) -> dict | None:
    """The network of a run with the input statistics that the run gave it (a run-level
    ``data_preprocessor``); None if it
    was not built from a config."""
    if not isinstance(config.get('model'), dict):
        return None
    model = copy.deepcopy(config['model'])
    if config.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', copy.deepcopy(config['data_preprocessor']))
    return classifier_config(model)


def network_and_classes(meta: dict, source: str,
                        model: dict | None = None) -> tuple[dict | None, tuple[str, ...] | None]:
    """What a checkpoint's ``meta`` says about its network: the model config and the class names, each None if
    it does not.

    Args:
        source: name of the file, for messages.
        model: config to use instead of the checkpoint's own; input statistics that it does not name are the
            checkpoint's.
    """
    if model is None or 'data_preprocessor' not in model:
        own = meta.get('model') if isinstance(meta.get('model'), dict) else None
        if own is None and meta.get('cfg'):
            own = model_config_of(parse_config_text(meta['cfg'], source))
        if model is None:
            model = own
        elif own is not None and own.get('data_preprocessor') is not None:
            # another description of the network, but the input statistics are those it was trained with
            model = dict(model, data_preprocessor=own['data_preprocessor'])
    names = (meta.get('dataset_meta') or {}).get('classes')
    known = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return model, tuple(names) if known else None


def parse_config_text(text: str, source: str) -> dict[str, Any]:
    """The values of an mmengine config as it stands in a checkpoint's ``meta``.

    mmengine's own ``Config.fromstring`` executes the text; a checkpoint from elsewhere must not be able to
    run code, so only assignments of literals, ``dict(...)`` and names (as text) are read here, which is what
    mmengine writes.

    Raises:
        SnapshotError: the text is no such config.
    """
    try:
        tree = ast.parse(text)
        return {
            target.id: _literal(statement.value)
            for statement in tree.body if isinstance(statement, ast.Assign) for target in statement.targets
            if isinstance(target, ast.Name)
        }
    except (SyntaxError, ValueError) as error:
        raise SnapshotError(
            f'the config inside {source} cannot be read without running it: {error}') from error


def _literal(node: ast.AST) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and \
            all(isinstance(item, ast.Dict) for item in node.args) and all(keyword.arg for keyword in node.keywords):
        # mmengine writes dict({'.cls_token': 1}) where keys are no identifiers
        positional = {key: value for item in node.args for key, value in _literal(item).items()}
        return {**positional, **{keyword.arg: _literal(keyword.value) for keyword in node.keywords}}
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.List):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    if isinstance(node, ast.Name):  # classes are written as their dotted names, and read as text
        return node.id
    if isinstance(node, ast.Attribute):
        return f'{_literal(node.value)}.{node.attr}'
    return ast.literal_eval(node)
