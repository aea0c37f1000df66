"""The three ensembles that CheckpointKD compares (Table 2, Figure 3)."""

from ..errors import ConfigError
from ..registry import SELECTORS
from ..validate import check_choice, check_int
from .selector import Selection, Selector, chosen_phase_ends, phase_ends, require_available, stopped_early


@SELECTORS.register_module(name='ensemble')
class EnsembleSelector(Selector):
    """An ensemble of k teachers (CheckpointKD, Sec. 3.4).

    Args:
        kind: 'snapshot': the ends of k equal phases of one training, EN3; 'full': the last snapshots of k
            trainings with seeds of their own, EN1; 'mixed': of training m the end of its m-th phase of k, so
            of two trainings the half-way teacher of the first and the full teacher of the second, EN2.
        k: number of teachers; 1, 2, 4, 7, 10 in Figure 3.
    """

    def __init__(self, kind: str, k: int) -> None:
        self.kind = check_choice('selector: kind', kind, ('snapshot', 'full', 'mixed'))
        self.k = check_int('selector: k', k, 1)

    @property
    def runs(self) -> int:
        return 1 if self.kind == 'snapshot' else self.k

    def wanted(self, max_epochs, run=0):
        if self.kind == 'full':
            return [int(max_epochs)]
        ends = phase_ends(max_epochs, self.k)
        return ends if self.kind == 'snapshot' else [ends[run]]

    def epochs(self, available, max_epochs, run=0):
        if self.kind == 'full':  # of a folder of checkpoints that was cut short the last is the full teacher
            return [max(available)]
        return require_available(self.wanted(max_epochs, run), available, max_epochs)

    def check(self, available, max_epochs):
        self._require_runs(len(available))
        for run in range(self.runs):
            self.epochs(available[run], max_epochs[run], run)

    def _require_runs(self, count: int) -> None:
        if count < self.runs:
            raise ConfigError(f'selector: {self.kind} ensemble of k={self.k} needs {self.runs} trainings of '
                              f'the teacher, but teacher.trajectory names {count}; name as many folders, or '
                              'leave it out and they are trained')

    def reason(self, epochs, max_epochs):
        return {'snapshot': f'snapshot ensemble: the ends of {self.k} equal phases of {max_epochs.text}',
                'full': f'its last, for the full ensemble of {self.k}',
                'mixed': f'the end of a phase, for the mixed ensemble of {self.k}'}[self.kind]

    def select_all(self, trajectories, contexts):
        self._require_runs(len(trajectories))
        found = []
        for run, trajectory in enumerate(trajectories[:self.runs]):
            planned, epochs = trajectory.planned, [trajectory.last.time]
            if self.kind != 'full':
                epochs = chosen_phase_ends(self.wanted(planned, run), trajectory)
            training = f'training {run + 1}: {trajectory.at(epochs[0]).when}, ' if self.runs > 1 else ''
            found.append(Selection([trajectory.at(epoch) for epoch in epochs],
                                   training + self.reason(epochs, planned) + stopped_early(trajectory)))
        return found + [Selection([], f'not needed for k={self.k}') for _ in trajectories[self.runs:]]

    def select(self, trajectory, context=None):
        return self.select_all([trajectory], [context])[0]
