"""The networks from teacher to student: assistants, generations, the student."""

from dataclasses import dataclass

from ..pipeline.run import Run
from ..settings import TrainingSettings, setting

STUDENT, BASELINE = 'student', 'student_alone'
ASSISTANT_SEED = 100  # the n-th assistant has a seed higher by so many times n


@dataclass(frozen=True, kw_only=True)
class AssistantSettings(TrainingSettings):
    """``assistants[i]``: a network between teacher and student (TAKD; Mirzadeh et al., arXiv 1902.03393)."""
    model: dict = setting(help='mmpretrain classifier; or dict(cfg_path=FILE, ...)',
                          remedy='give assistants=[dict(model=...)], each an mmpretrain classifier')


@dataclass
class Network:
    """What a student stage trains.

    Args:
        name: of the stage.
        settings: what it says otherwise than the student.
        key: where the config says so, 'assistants[0]'.
        seed_shift: added to the seed: a network that began with its teacher's weights would be no new one.
        generation: how many have learned so before it, counted from 1; 0: it is no generation.
    """
    name: str
    settings: TrainingSettings | None = None
    key: str = ''
    seed_shift: int = 0
    generation: int = 0


def networks_of(run: Run) -> list[Network]:
    """From teacher to student: assistants, then generations, of which the last is the student.

    Raises:
        ConfigError: ``assistants`` is no list.
    """
    settings, found = run.settings, []
    for number, own in enumerate(settings.assistants or [], 1):
        found.append(Network(f'assistant_{number}', own, f'assistants[{number - 1}]',
                             ASSISTANT_SEED * number))
    if settings.generations is None:
        return [*found, Network(STUDENT)]
    count = settings.generations
    return found + [
        Network(STUDENT if number == count else f'generation_{number}', seed_shift=number, generation=number)
        for number in range(1, count + 1)
    ]
