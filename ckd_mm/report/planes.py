"""Students and their teacher on one information plane (Fig. 4 and 6 of CheckpointKD)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..counting import WORDS
from ..infoplane.plane import InformationPlane
from .figures import BASELINE, TEACHER, one_panel, save_figure, star

# role: name, the paper's colour, and a marker that tells the curve apart without it
STYLES = dict(
    teacher=('teacher', TEACHER, 'o'),
    alone=('student alone', BASELINE, 's'),
    full=('student of the full teacher', '#0b3c8c', '^'),
    inter=('student of the intermediate teacher', '#4fb3e8', 'v'),
    smooth=('student alone, smoothed labels', '#e6a700', 'D'))
STARS = dict(full=('full teacher', 300), inter=('intermediate teacher', 140))  # one is seen upon the other


def draw_planes(planes: dict[str, InformationPlane], path: Path | None = None,
                teaches: dict[str, Sequence[int]] | None = None) -> Figure:
    """Trajectories on the same axes, in their units; markers grow with time, the first and last epochs are
    labelled.

    Args:
        planes: role (a key of :data:`STYLES`) to its plane; all measured with one probe.
        teaches: 'full' and 'inter' to the epochs that taught them, starred on the teacher's curve.
    """
    figure, axes = one_panel(7.2, 6.2)
    word = WORDS[next(iter(planes.values())).unit]
    places = {role: {point.epoch: (point.information_x, point.information_y) for point in plane.points}
              for role, plane in planes.items()}
    starred = {epoch for epochs in (teaches or {}).values() for epoch in epochs}
    for index, (role, curve) in enumerate(places.items()):
        label, colour, marker = STYLES[role]
        axes.plot(*zip(*curve.values()), color=colour, linewidth=1.3, alpha=0.75, zorder=2)
        axes.scatter(*zip(*curve.values()), s=np.linspace(10, 60, len(curve)), color=colour, marker=marker,
                     zorder=3, label=label)
        angle = 2 * np.pi * index / len(places)  # each curve has its labels on another side
        in_legend = starred if role == 'teacher' else set()
        for epoch in {min(curve), max(curve)} - in_legend:
            axes.annotate(str(epoch), curve[epoch], textcoords='offset points', ha='center', va='center',
                          xytext=(11 * np.cos(angle), 11 * np.sin(angle)), fontsize=9, color=colour, zorder=5,
                          path_effects=[withStroke(linewidth=2.5, foreground='white')])
    for role, epochs in (teaches or {}).items():
        label, size = STARS[role]
        star(axes, *zip(*(places['teacher'][epoch] for epoch in epochs)), size, color=STYLES[role][1],
             zorder=4, label=f'{label}: {word} {", ".join(map(str, epochs))}')
    axes.margins(0.07)
    axes.set(xlabel='I(X;F), nats per pixel and channel', ylabel='I(Y;F), accuracy')
    axes.set_title(f'Information plane: markers grow with time, numbers are {word}s', fontsize=10)
    axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.11), ncol=2, fontsize=8, frameon=False)
    return save_figure(figure, path)
