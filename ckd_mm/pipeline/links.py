"""From the teacher to the student by way of assistants and generations."""

import copy
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from ..errors import ConfigError
from .settings import RUNNER_KEYS, merged, require_known, whole_number, with_seed

STUDENT = 'student'
ASSISTANT = 100  # the n-th assistant has a seed higher by so many times n


@dataclass(frozen=True)
class Link:
    """A network that learns from the one before it; the first from the chosen teachers.

    Args:
        stage: its name: ``assistant_1``, ..., ``generation_1``, ..., and always ``student``, the last.
        config: an ordinary mmengine config: how it would be trained without a teacher.
    """
    stage: str
    config: Config

    @property
    def what(self) -> str:
        """For a person: 'assistant 1'."""
        return self.stage.replace('_', ' ')


def read_links(config: Config, student: Config) -> list[Link]:
    """
    Args:
        config: the whole, with ``assistants`` and ``generations``.
        student: the student's own training, on all images.

    Raises:
        ConfigError: a setting cannot work.
    """
    assistants: Any = config.get('assistants') or []
    if not isinstance(assistants, (list, tuple)):
        raise ConfigError(f'assistants={assistants!r} should be a list of dict(model=..., <training '
                          'settings>), from large to small')
    links = []
    for number, changes in enumerate(assistants, 1):
        name = f'assistants[{number - 1}]'
        require_known(name, changes, ('model', ) + RUNNER_KEYS)
        if not isinstance(changes.get('model'), dict):
            raise ConfigError(f'{name}.model is missing: give assistants=[dict(model=...)], each an '
                              'mmpretrain classifier')
        own = copy.deepcopy(student)
        own.load_from = None  # of another network
        # a seed each: one of its teacher's own network would begin with its weights
        links.append(Link(f'assistant_{number}', merged(with_seed(own, ASSISTANT * number), changes)))
    given: int | None = config.get('generations')
    if given is None:
        return links + [Link(STUDENT, student)]
    count = whole_number('generations', given, 1)
    # a seed each: a generation that began with the weights of the one before would be no new network
    for number in range(1, count + 1):
        links.append(
            Link(STUDENT if number == count else f'generation_{number}',
                 with_seed(copy.deepcopy(student), number)))
    return links


def generation_stages(links: list[Link], generations: int | None) -> list[str]:
    """Stages of all generations, in turn; empty where the config asks for none."""
    return [] if generations is None else [
        link.stage for link in links if not link.stage.startswith('assistant')
    ]


def chain_of(links: list[Link]) -> dict[str, str | None]:
    """Who teaches in each stage: the stage before it, None for the chosen teachers."""
    return {link.stage: links[index - 1].stage if index else None for index, link in enumerate(links)}
