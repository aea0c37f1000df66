"""Networks that are named by the config file that describes them."""

from pathlib import Path

from mmengine.config import Config, ConfigDict

from ..errors import ConfigError, in_a_line, reading
from ..training import overrides_of


def resolve_model_files(config: Config) -> None:
    """Replace ``teacher.model = dict(cfg_path=FILE, ...)`` by the ``model`` of that config file, in place,
    with the other keys merged over it as those of a derived config are; likewise ``peer.model`` and the
    ``model`` of each of ``assistants``.

    ``cfg_path``, mmrazor's word, is a path from the working folder, or from that of the config where it
    begins with ``{{fileDirname}}``, or a config that a package ships:
    ``'mmpretrain::resnet/resnet34_8xb32_in1k.py'``.

    Raises:
        ConfigError: there is no such file, or it describes no network.
    """
    for name, described in dict(overrides_of(config), peer=config.get('peer')).items():
        model = described.get('model') if isinstance(described, dict) else None
        if isinstance(model, dict) and 'cfg_path' in model:
            described['model'] = _resolved(f'{name}.model', ConfigDict(model))


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
