"""What is wrong with a distiller, known before anything is trained."""

import copy

import torch
from mmengine.config import Config
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..errors import CkdError, ConfigError, in_a_line
from ..pipeline.data_sets import image_shape
from ..pipeline.run import Run
from ..pipeline.stage import TeachingStage
from ..students.distiller import ROLES, Distiller
from ..students.taught_student import build_distiller
from ..teachers import BaseCohort, build_cohort
from ..trajectory import model_config_of


def check_stage(key: str, distiller: dict, teachers: TeachingStage, run: Run, config: Config) -> str:
    """Before the rehearsal of a student that ``distiller`` distils.

    Args:
        key: of the config, where the distiller is.
        teachers: the stage before it.
        run: a rehearsal.
        config: of the student's training.

    Returns, Raises: see :func:`check_distiller`.
    """
    images = run.data_set(config.train_dataloader.dataset, 'train_dataloader.dataset')
    network = run.network('student', model_config_of(config))
    return check_distiller(network, build_cohort(teachers.cohort(run)), distiller,
                           torch.rand(2, *image_shape(images)), key)


@torch.no_grad()
def check_distiller(student: nn.Module, cohort: BaseCohort, distiller: dict, inputs: Tensor,
                    key: str = 'distill.distiller') -> str:
    """Record, connect and compare once, on copies: no weight, no statistic and no random state changes.

    Args:
        student: mmpretrain classifier.
        distiller: config of a :class:`ckd_mm.students.FeatureDistiller` or of mmrazor's.
        inputs: two images as the data preprocessor leaves them, (2, 3, H, W).
        key: of the config, where the distiller is.

    Returns:
        The losses, for a log.

    Raises:
        ConfigError: a loss or another part does not exist, a layer is none of its network, or what the layers
            give does not fit a loss.
        EnvironmentConflict: mmrazor is needed and missing.
    """
    if not isinstance(distiller, dict) or 'type' not in distiller:
        raise ConfigError(f"{key}={distiller!r} should be a dict, type='ckd_mm.FeatureDistiller' and losses")
    with torch.random.fork_rng(devices=[]):
        try:
            return _tried(_built(distiller), student, cohort, inputs)
        except ConfigError as error:
            raise ConfigError(f'{key}.{error}') from error


def _built(config: dict) -> Distiller:
    try:
        return build_distiller(config)
    except CkdError:
        raise
    except Exception as error:  # whatever a constructor says
        raise ConfigError(f'{config["type"]} cannot be built: {in_a_line(error)}') from error


def _tried(distiller: Distiller, student: nn.Module, cohort: BaseCohort, inputs: Tensor) -> str:
    networks = dict(student=copy.deepcopy(student).eval(), teacher=copy.deepcopy(cohort).freeze())
    for role in ROLES:
        distiller.attach(role, networks[role])
    with distiller.recording('teacher'):
        networks['teacher'](inputs)
    with distiller.recording('student'):
        networks['student'](inputs, [DataSample().set_gt_label(0) for _ in inputs], mode='loss')
    distiller.losses()
    return str(distiller)
