"""Students and their teacher on one information plane (Fig. 4 and 6 of CheckpointKD)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..infoplane.plane import InformationPlane
from .figures import ALONE, TEACHER, one_panel, save_figure, star

# role: name, the paper's colour, and a marker that tells the curve apart without it
STYLES = dict(
    teacher=('teacher', TEACHER, 'o'),
    alone=('student alone', ALONE, 's'),
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
        path: a .png or .svg to write, or None.
        teaches: 'full' and 'inter' to the epochs that taught them, starred on the teacher's curve.
    """
    figure, axes = one_panel(7.2, 6.2)
    for role, plane in planes.items():
        label, colour, marker = STYLES[role]
        places = [(point.information_x, point.information_y) for point in plane.points]
        axes.plot(*zip(*places), color=colour, linewidth=1.3, alpha=0.75, zorder=2)
        axes.scatter(*zip(*places), s=np.linspace(10, 60, len(places)), color=colour, marker=marker, zorder=3,
                     label=label)
    teacher = {point.epoch: (point.information_x, point.information_y) for point in planes['teacher'].points}
    for role, epochs in (teaches or {}).items():
        label, size = STARS[role]
        star(axes, *zip(*(teacher[epoch] for epoch in epochs)), size, color=STYLES[role][1], zorder=4,
             label=f'{label}: epoch {", ".join(map(str, epochs))}')
    axes.margins(0.07)
    _label_ends(axes, planes, {epoch for epochs in (teaches or {}).values() for epoch in epochs})
    axes.set_xlabel('I(X;F), nats per pixel and channel')
    axes.set_ylabel('I(Y;F), accuracy')
    axes.set_title('Information plane: markers grow with time, numbers are epochs', fontsize=10)
    axes.legend(loc='upper center', bbox_to_anchor=(0.5, -0.11), ncol=2, fontsize=8, frameon=False)
    return save_figure(figure, path)


def _label_ends(axes, planes: dict[str, InformationPlane], starred: set[int]) -> None:
    """The first and the last epoch of each curve, on the side of the marker with most room."""
    along = np.linspace(0, 1, 30)[:, None]
    taken = []  # points on the curves, and labels, in pixels
    for plane in planes.values():
        places = [(point.information_x, point.information_y) for point in plane.points]
        corners = axes.transData.transform(places)
        taken += [corners] + [start + along * (end - start) for start, end in zip(corners, corners[1:])]
    angles = np.arange(16) * np.pi / 8
    offsets = 11 * np.stack([np.cos(angles), np.sin(angles)], axis=1)  # typographic points
    for role, plane in planes.items():
        for point in (plane.points[0], plane.points[-1])[:len(plane.points)]:
            if role == 'teacher' and point.epoch in starred:
                continue  # the legend says which epochs the stars are
            place = (point.information_x, point.information_y)
            spots = axes.transData.transform(place) + offsets * axes.figure.dpi / 72
            room = np.linalg.norm(spots[:, None] - np.concatenate(taken), axis=2).min(axis=1)
            taken.append(spots[[room.argmax()]])
            axes.annotate(str(point.epoch), place, textcoords='offset points', xytext=offsets[room.argmax()],
                          fontsize=9, zorder=5, color=STYLES[role][1], ha='center', va='center',
                          path_effects=[withStroke(linewidth=2.5, foreground='white')])
