"""What can be known of a network before it is trained."""

from mmengine.config import Config
from torch import nn

from ..classifier_heads import number_of_classes
from ..errors import ConfigError
from ..trajectory import model_config_of
from .run import Run


def check_network(name: str, run: Run, config: Config) -> str:
    """It can be built, and its head has as many classes as the student's."""
    network = run.network(name, model_config_of(config))
    classes = number_of_classes(network)
    wanted = number_of_classes(run.network('student', model_config_of(run.student_training())))
    if None not in (classes, wanted) and classes != wanted:
        raise ConfigError(f'{name}.model.head.num_classes={classes} and model.head.num_classes={wanted} '
                          'should be equal')
    known = '' if classes is None else f', {classes} classes'
    return f'{number_of_parameters(network):,} parameters{known}'


def number_of_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())

