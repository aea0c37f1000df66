"""The networks from teacher to student: assistants, generations, the student."""

from dataclasses import dataclass

from ..pipeline.run import Run
from ..pipeline.stage import STUDENT
from ..settings import TrainingSettings, setting

BASELINE = 'student_alone'
ASSISTANT_SEED = 100  # added n times to the seed of the n-th assistant


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
        settings: of an assistant.
        key: of these settings in the config, 'assistants[0]'.
        seed_shift: added to the seed, so that a network does not begin with its teacher's first weights.
        generation: counted from 1; 0: it is none.
    """
    name: str
    settings: TrainingSettings | None = None
    key: str = ''
    seed_shift: int = 0
    generation: int = 0


def networks_of(run: Run) -> list[Network]:
    """From teacher to student: assistants, then generations, of which the last is the student."""
    assistants = [Network(f'assistant_{number}', own, f'assistants[{number - 1}]', ASSISTANT_SEED * number)
                  for number, own in enumerate(run.settings.assistants or [], 1)]
    count = run.settings.generations
    if count is None:
        return [*assistants, Network(STUDENT)]
    return assistants + [Network(STUDENT if number == count else f'generation_{number}', seed_shift=number,
                                 generation=number) for number in range(1, count + 1)]
