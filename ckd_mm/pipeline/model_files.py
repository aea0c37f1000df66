"""Networks that are named by the config file that describes them."""

import difflib
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..errors import ConfigError, in_a_line, reading
from ..training import overrides_of
from ..trajectory import model_config_of


def resolve_model_files(config: Config) -> None:
    """Replace ``teacher.model = dict(cfg_path=FILE, ...)`` by the ``model`` of that config file, in place,
    with the other keys merged over it as those of a derived config are; likewise ``peer.model`` and the
    ``model`` of each of ``assistants``.

    ``cfg_path``, mmrazor's word, is a path from the working folder, or from that of the config where it
    begins with ``{{fileDirname}}``, or a config that a package ships:
    ``'mmpretrain::resnet/resnet34_8xb32_in1k.py'``.

    A text, say ``teacher.model='resnet34_8xb32_in1k'``, is a name of mmpretrain's model zoo;
    ``teacher.pretrained=True`` beside it becomes ``teacher.checkpoint``, where its weights are.

    Raises:
        ConfigError: there is no such file or name, or it describes no network.
    """
    for name, described in dict(overrides_of(config), peer=config.get('peer')).items():
        model = described.get('model') if isinstance(described, dict) else None
        if isinstance(model, dict) and 'cfg_path' in model:
            described['model'] = _resolved(f'{name}.model', ConfigDict(model))
        elif isinstance(model, str):
            found = _in_model_zoo(f'{name}.model', model)
            described['model'] = model_config_of(found.config)
            if name == 'teacher' and described.pop('pretrained', False):
                described['checkpoint'] = _weights(f'{name}.model', found)


def _in_model_zoo(name: str, model: str) -> Any:
    from mmpretrain.apis.model import ModelHub, list_models
    try:
        return ModelHub.get(model)
    except Exception as error:  # its config may need a package that is not there
        names = difflib.get_close_matches(model.lower(), list_models(), n=3)
        meant = [f'dict(cfg_path={model!r})'] if model.endswith('.py') else [*map(repr, names)]
        raise ConfigError(f"{name}={model!r} cannot be found in mmpretrain's model zoo ({in_a_line(error)})"
                          + (f'; did you mean {" or ".join(meant)}?' if meant else '')) from error


def _weights(name: str, found: Any) -> str:
    if found.weights is None:
        raise ConfigError(f"{name}={found.name!r} has no weights in mmpretrain's model zoo; give "
                          'teacher.checkpoint')
    return found.weights


def _resolved(name: str, changes: ConfigDict) -> ConfigDict:
    network = Config(dict(model=_model_in(f'{name}.cfg_path', changes.pop('cfg_path'))))
    with reading(f'{name} does not fit over its cfg_path'):  # say a dict over what is none in the file
        network.merge_from_dict(dict(model=changes))
    return network.model


def _model_in(name: str, cfg_path: str) -> ConfigDict:
    if not isinstance(cfg_path, (str, Path)):
        raise ConfigError(f'{name}={cfg_path!r} should be the path of a config file')
    try:
        # what `_base_` does with a name: '::' finds a package's file, and nothing is installed for it
        found = Config.fromfile(Config._get_cfg_path(str(cfg_path), '')[0])
    except Exception as error:  # missing, of a package that is not there, no Python, a base is missing, ...
        raise ConfigError(f'{name}={str(cfg_path)!r} cannot be read: {in_a_line(error)}; name a config '
                          "file, or one of a package like 'mmpretrain::resnet/resnet34_8xb32_in1k.py'"
                          ) from error
    if not isinstance(found.get('model'), dict):
        raise ConfigError(f'{name}={str(cfg_path)!r} holds no `model`; name a config file that describes a '
                          'network')
    return found.model
