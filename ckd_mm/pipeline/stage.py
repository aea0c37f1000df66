"""What every stage of a run is."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ..record import differences
from ..report.section import Section
from .changes import Changes

if TYPE_CHECKING:
    from ..infoplane.probe import Probe
    from .run import Run

STUDENT = 'student'  # name of the stage that trains the network of the config itself


class Check(NamedTuple):
    """Something that can be known to be wrong before anything is trained.

    Args:
        name: a word or two.
        run: returns the finding for the log, or raises a CkdError. Called on all ranks.
    """
    name: str
    run: Callable[[], str]


@dataclass(kw_only=True)
class Result:
    """What a stage leaves; its dict is the format in ``stages.json``.

    Args:
        stage_seconds: spent in it, over all the runs that it took; None: since it was started last.
    """
    stage_seconds: float | None = None

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of the files in the work_dir that a training is done for, by name."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != 'stage_seconds'}


R = TypeVar('R', bound=Result)


class Stage(Generic[R]):
    """A step of a run that is done once, written down, and not repeated by ``--resume``.

    Attributes:
        name: its key in ``stages.json`` and, where it trains, its folder below the work_dir.
        requires: names of the stages whose results it reads.
        Result: dataclass of what it leaves.
        held_out: images that it is not trained on, or that it measures.
        is_cheap: it is run again, not refused, when the config has gained a stage that it requires.
    """
    name: str
    requires: tuple[str, ...] = ()
    held_out: 'Probe | None' = None
    is_cheap: bool = False
    Result: type[R]

    def depends_on(self, run: 'Run') -> dict[str, Any]:
        """All that the result depends on; a resumed run compares it."""
        raise NotImplementedError

    def changes(self, run: 'Run', before: dict[str, Any], now: dict[str, Any]) -> Changes:
        """How what it depends on, flat, has changed since it was begun."""
        return Changes(differences(before, now), [])

    def checks(self, run: 'Run') -> Iterator[Check]:
        return iter(())

    def rehearse(self, run: 'Run') -> str | None:
        """Try in seconds what :meth:`execute` will do. Called on all ranks before the first stage, after the
        checks.

        Args:
            run: in a scratch folder, where a rehearsal leaves what those of later stages read.

        Returns:
            The finding for the log; None if there is nothing to rehearse.

        Raises:
            CkdError: naming stage, key and value.
        """

    def execute(self, run: 'Run') -> R:
        raise NotImplementedError

    def is_current(self, run: 'Run', result: R) -> bool:
        """Whether a finished result is still valid, else the stage is done again. Called on rank 0."""
        return True

    def report(self, run: 'Run', result: R) -> Section:
        """Its part of the page, the table and ``summary.json``."""
        return Section()

    def setting(self, run: 'Run', key: str) -> str:
        """The name of a key of its training for messages."""
        return key

    @property
    def title(self) -> str:
        """For a person: 'assistant 1'."""
        return self.name.replace('_', ' ')


class TeachingStage(Stage[R]):
    """A stage whose result can teach."""

    def cohort(self, run: 'Run') -> dict[str, Any]:
        """Config of the teachers, a :class:`ckd_mm.teachers.BaseCohort`; in a rehearsal, of networks like
        theirs."""
        raise NotImplementedError

    def fingerprint(self, run: 'Run') -> list[dict[str, Any]]:
        """What identifies the teachers: the SHA-256 of their files, and what else decides their outputs."""
        raise NotImplementedError

    def verify(self, run: 'Run') -> None:
        """Called on rank 0 before the training that it teaches: hours may lie in between.

        Raises:
            CkdError: a file is missing, damaged or another one than this run left or chose.
        """

    def given(self, run: 'Run') -> tuple[list[Any], bool]:
        """Snapshots that exist before the run and may teach, and whether they surely will."""
        return [], False

    def exists(self, run: 'Run') -> bool:
        """Whether teachers exist before the run; then a rehearsal has weights of theirs."""
        return False


def numbered(name: str, index: int) -> str:
    """Names of like stages: ``teacher``, ``teacher_2``, ``teacher_3``, ..., counted from 0."""
    return name if index == 0 else f'{name}_{index + 1}'


def needed_by(stages: Sequence[Stage], done: set[str]) -> set[str]:
    """Names of the stages that are not ``done``, and of those whose results they need.

    Args:
        stages: of a run, in their order.
    """
    needed: set[str] = set()
    for stage in reversed(stages):
        if stage.name in needed or stage.name not in done:
            needed |= {stage.name, *stage.requires}
    return needed
