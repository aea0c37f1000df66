"""What data sets and their configs say, before anything is trained."""

import inspect
from typing import TYPE_CHECKING, Any

from ..classifier_heads import number_of_classes
from ..data.damaged import damaged_images
from ..data.labels import classes_of, require_labels_below, require_same_classes, require_same_labels
from ..data.views import random_state_kept
from ..data.wrappers import kind_of
from ..errors import ConfigError, ImageError
from ..training import apply_overrides, overrides_of
from ..trajectory import MANIFEST, Trajectory

if TYPE_CHECKING:
    from .run import Run


def require_own_settings(what: str, dataset: Any) -> None:
    """A config that puts another data set where it inherits one in ``ckd_mm.InMemory`` inherits the one
    inside, too: raises ConfigError, telling how to write what may have been meant."""
    inner = dataset.get('dataset') if isinstance(dataset, dict) else None
    if isinstance(inner, dict) and not _takes_dataset(kind_of(dataset)):
        kind = dataset['type'] if isinstance(dataset['type'], str) else dataset['type'].__name__
        raise ConfigError(f'{what}: {kind} takes no `dataset`, but inherits that of ckd_mm.InMemory, of type '
                          f'{inner.get("type")}. Write dataset=dict(dataset=dict(type={kind!r}, ...)) to '
                          f'have {kind} in memory, too, or dataset=dict(_delete_=True, type={kind!r}, ...) '
                          'to inherit nothing')


def _takes_dataset(kind: Any) -> bool:
    """Whether a type of data set has an argument ``dataset``; True if the type (None) is unknown."""
    makers = [vars(base).get('__init__') for base in kind.__mro__] if inspect.isclass(kind) else [kind]
    return kind is None or any('dataset' in inspect.signature(maker).parameters
                               for maker in makers if inspect.isfunction(maker))


def image_shape(dataset: Any) -> tuple[int, ...]:
    """(C, H, W) of the first image; random numbers drawn later do not change by it."""
    with random_state_kept():
        return tuple(dataset[0]['inputs'].shape)


LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def data_sets_of(run: 'Run') -> dict[str, tuple[Any, dict]]:
    """The data sets of all trainings and evaluations of a run and the configs of their loaders, by the name
    in the config, say 'teacher.train_dataloader.dataset'; the student's first, each once."""
    student, found = run.student_training(), {}
    for stage, overrides in {'': dict.fromkeys(LOADERS), **overrides_of(run.config)}.items():
        config = apply_overrides(student, overrides, stage) if stage else student
        for key in LOADERS:
            if key in overrides and config.get(key) is not None:
                name = f'{stage}.{key}.dataset'.removeprefix('.')
                dataset = run.data_set(config[key].get('dataset'), name)
                if not any(dataset is known for known, _ in found.values()):
                    found[name] = dataset, config[key]
    return found


def check_labels(run: 'Run') -> str:
    """Raises ConfigError where a label would mean two things, or none, in the data sets of a run."""
    classes = number_of_classes(run.config.model)
    data_sets = data_sets_of(run)
    first = next(iter(data_sets))
    manifest = run.work_dir / MANIFEST
    if run.resumes and manifest.exists():  # folders may have been renamed since the teacher was trained
        own = 'teacher.train_dataloader.dataset'
        name = own if own in data_sets else first
        require_same_classes(f'{manifest}', Trajectory.from_manifest(manifest).info.get('classes'), name,
                             classes_of(data_sets[name][0]))
    for name, (dataset, _) in data_sets.items():
        require_same_labels(first, data_sets[first][0], name, dataset)
        if classes is not None:
            require_labels_below(classes, name, dataset, run.compares_networks)
    train, *evaluated = (dict((run.config.get(key) or {}).get('dataset') or {}, pipeline=None)
                         for key in LOADERS)
    for key, images in zip(LOADERS[1:], evaluated):
        if images == train:
            run.warn(f'{key}.dataset is that of train_dataloader: what is measured on it was trained on')
    names = classes_of(data_sets[first][0])
    if None not in (names, classes) and len(names) < classes:
        run.warn(f'{first} has {len(names)} classes and model.head.num_classes={classes}: a teacher that was '
                 'trained on more classes may number these otherwise')
    return ', '.join(f'{name.removesuffix(".dataset")} {len(dataset):,} images'
                     for name, (dataset, _) in data_sets.items())


def check_image_files(run: 'Run') -> str:
    """Reads every image of a run; raises ImageError where some cannot be read, which the log has named."""
    damaged = {name: damaged_images(dataset, name, loader.get('num_workers', 0), run.log)
               for name, (dataset, loader) in data_sets_of(run).items()}
    if any(damaged.values()):
        raise ImageError('images cannot be read, each named above: '
                         + ', '.join(f'{count} of {name}' for name, count in damaged.items() if count))
    return 'all can be read'
