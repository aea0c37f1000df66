"""T*, CheckpointKD's own choice."""

from ..errors import ConfigError
from ..infoplane.plane import InformationPlane
from ..registry import SELECTORS
from .selector import Selection, Selector


@SELECTORS.register_module(name='information_plane')
class InformationPlaneSelector(Selector):
    """T*, the snapshot with the most information: the maximum of normalised I(X;F) + I(Y;F) (Algorithm 1, Eq.
    11)."""

    needs_plane = True

    def epochs(self, available, max_epochs):
        return sorted(available)  # all are candidates

    def select(self, trajectory, context=None):
        plane = None if context is None else context.plane
        if plane is None:
            raise ConfigError('selector: information_plane needs the information plane of the trajectory: '
                              'add a `probe` to the config, or run tools/probe.py first')
        missing = [
            snapshot.epoch for snapshot in trajectory if not plane.has(snapshot.epoch, snapshot.sha256)
        ]
        if missing:
            raise ConfigError(f'selector: the information plane lacks the snapshots of epochs {missing} of '
                              f'{trajectory.folder}, or was measured on others of these epochs; run the '
                              'probe again')
        plane = InformationPlane([point for point in plane.points if point.epoch in trajectory.epochs])
        rows, best = plane.normalised(), plane.best_epoch
        top = next(row for row in rows if row['epoch'] == best)
        return Selection([trajectory.at(best)],
                         f'T*: normalised I(X;F) {top["x"]:.3f} + I(Y;F) {top["y"]:.3f} = {top["sum"]:.3f} '
                         f'is the most of {len(rows)} snapshots', [dict(epoch=row['epoch'], score=row['sum'])
                          for row in rows], 'sum of two min-max normalised axes, 0 to 2',
                         dict(teacher_forwards=sum(point.teacher_forwards or 0.0 for point in plane.points),
                              seconds=sum(point.seconds or 0.0 for point in plane.points)))
