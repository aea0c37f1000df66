"""T*, CheckpointKD's own choice."""

from ..errors import ConfigError
from ..infoplane.plane import InformationPlane
from ..registry import SELECTORS
from .selector import Selection, Selector


@SELECTORS.register_module(name='information_plane')
class InformationPlaneSelector(Selector):
    """T*, the maximum of normalised I(X;F) + I(Y;F) (Algorithm 1, Eq. 11)."""

    needs_plane = True

    def select(self, trajectory, context=None):
        plane = None if context is None else context.plane
        if plane is None:
            raise ConfigError('selector: information_plane needs the information plane of the trajectory: '
                              'add a `probe` to the config, or run tools/probe.py first')
        missing = [one.time for one in trajectory if not plane.has(one.time, one.sha256)]
        if missing:
            raise ConfigError(f'selector: the information plane lacks the snapshots of '
                              f'{trajectory.length.words} {missing} of {trajectory.folder}, or was measured '
                              'on others of these; run the probe again')
        plane = InformationPlane([point for point in plane.points if point.epoch in trajectory.times])
        rows = plane.normalised()
        best = next(row for row in rows if row['epoch'] == plane.best_epoch)
        reason = (f'T*: normalised I(X;F) {best["x"]:.3f} + I(Y;F) {best["y"]:.3f} = {best["sum"]:.3f} is '
                  f'the most of {len(rows)} snapshots')
        cost = {key: sum(getattr(point, key) or 0.0 for point in plane.points)
                for key in ('teacher_forwards', 'seconds')}
        return Selection([trajectory.at(best['epoch'])], reason,
                         [dict(epoch=row['epoch'], score=row['sum']) for row in rows],
                         'sum of two min-max normalised axes, 0 to 2', cost)
