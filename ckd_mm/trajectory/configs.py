"""Reading a network's config out of a run's config, from text without running it."""

import ast
import copy
import os
import sys
from collections.abc import Iterator
from typing import Any

from torch import nn

from ..compat import require_mmrazor
from ..errors import SnapshotError
from ..registry import registries, scopes

TYPES = ('type', 'norm_layer')  # keys that name a type; the second is of mmpretrain's TIMMBackbone
CODE = ('.py', '.pkl', '.pickle', '.yaml', '.yml')  # files that mmengine reads by running what is in them
FETCHED = 'name_or_path'  # of what mmpretrain's multimodal networks get from Hugging Face, weights included
FIRST_WEIGHTS = ('init_cfg', 'pretrained', 'checkpoint_path')


def model_config_of(config: dict) -> dict | None:
    """The classifier that a run trains (of a distillation: its student), with its input statistics
    (``data_preprocessor``); None if the run was not built from a config."""
    model = config.get('model')
    if not isinstance(model, dict):
        return None
    statistics, kind = [model.get('data_preprocessor'), config.get('data_preprocessor')], model.get('type')
    if getattr(kind, '__name__', str(kind)).endswith('CheckpointDistill'):  # in pure Python a class
        model = model.get('student')
        if not isinstance(model, dict):
            return None
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
        require_registered(own, source, 'model')
        if model is None:
            model = own
        elif own is not None and own.get('data_preprocessor') is not None:
            model = dict(model, data_preprocessor=own['data_preprocessor'])
    return model, classes_in(meta)


def classes_in(meta: dict) -> tuple[str, ...] | None:
    """The class names in the ``meta`` of a checkpoint; None if unknown."""
    images = meta.get('dataset_meta')
    names = images.get('classes') if isinstance(images, dict) else None
    known = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return tuple(names) if known else None


def require_registered(config: Any, source: str, name: str) -> None:
    """A config that comes out of a file of data may build what is registered, and nothing else.

    Args:
        source: the file.
        name: of the config in it.

    Raises:
        SnapshotError: a type is not registered, or a value would have a file fetched, read or run.
    """
    import mmpretrain.models  # noqa: F401  registers its networks
    try:
        found = list(_values(without_files(config), name))
    except RecursionError as error:
        raise SnapshotError(f'{source}: {name} contains itself, or is nested too deeply') from error
    for path, key, value in found:
        problem = None
        if key in TYPES and not is_registered(value):
            problem = ('is registered nowhere, and nothing is imported for a file of data; register it, and '
                       "import its module in your config: custom_imports=dict(imports=['...'])")
        elif key == '_scope_' and value not in list(scopes()):
            problem = f'should be one of {sorted(scopes())}'
        elif key == 'trust_remote_code' and value:
            problem = 'would run code that is downloaded, which a file of data may not ask for'
        elif isinstance(value, str) and value.lower().endswith(CODE):
            problem = 'would be read by running it, which a file of data may not ask for'
        elif key not in TYPES and isinstance(value, str) and (
                key == FETCHED or '://' in value or os.path.isfile(os.path.expanduser(value))):
            problem = 'names another file, and a file of data may not have one read or fetched'
        if problem is not None:
            raise SnapshotError(f'{source}: {path}={value!r} {problem}')


def is_registered(kind: Any) -> bool:
    """Whether this type of a config is found without importing anything: by its name in a registry, with or
    without scope, by the dotted name of a registered class, or of a network whose module is imported."""
    if not isinstance(kind, str):
        return False
    scope, _, name = kind.rpartition('.')
    if scope == 'mmrazor':
        require_mmrazor(kind)
    for registry in registries():
        found = registry.module_dict.get(name)
        if found is not None and scope in ('', registry.scope):
            return True
        if any(value.__qualname__ == name and f'{value.__module__}.'.startswith(f'{scope}.')
               for value in registry.module_dict.values() if scope and hasattr(value, '__qualname__')):
            return True
    network = getattr(sys.modules.get(scope), name, None)
    return isinstance(network, type) and issubclass(network, nn.Module)


def without_files(config: Any) -> Any:
    """A copy of a network's config that loads no first weights, for a network that gets all of its own."""
    if isinstance(config, dict):
        return {key: without_files(value) for key, value in config.items() if key not in FIRST_WEIGHTS}
    if isinstance(config, (list, tuple)):
        return type(config)(map(without_files, config))
    return copy.deepcopy(config)


def _values(value: Any, path: str, key: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """(where, key, value) of all that is in a config, itself included."""
    yield path, key, value
    items = value.items() if isinstance(value, dict) else \
        enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in items:
        if key == 'targets' and str(value.get('type')).endswith('LoRAModel'):
            continue  # names of layers, each as its `type`
        yield from _values(item, path + (f'.{key}' if isinstance(value, dict) else f'[{key}]'), key)


def parse_config_text(text: str, source: str) -> dict[str, Any]:
    """The values of an mmengine config as text. ``Config.fromstring`` executes it; here only assignments of
    literals, ``dict(...)`` and names (as text) are read, which is what mmengine writes. Raises SnapshotError
    for any other text.
    """
    try:
        return {target.id: _literal(statement.value)
                for statement in ast.parse(text).body if isinstance(statement, ast.Assign)
                for target in statement.targets if isinstance(target, ast.Name)}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
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
