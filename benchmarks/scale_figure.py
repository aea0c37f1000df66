"""What ``scale.py`` found, in a line for each axis and as a figure."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ckd_mm.report.figures import ALONE, CHOSEN, STUDENT, TEACHER, canvas, plain_axes, save_figure

AXES = dict(teachers='teachers, M', classes='classes, one teacher', processes='processes, a batch each')
Row = dict[str, float]


def sentences(found: dict[str, list[Row]]) -> Iterator[str]:
    """A line for each, saying what grows how."""
    rows = found.get('teachers', [])
    if len(rows) > 1:
        counts = [row['teachers'] for row in rows]
        measured_slope, counted_slope = (np.polyfit(counts, [row[key] for row in rows], 1)[0]
                                         for key in ('median', 'by_count'))
        yield (f'teachers: linear; each costs {measured_slope:.2f} of a plain step, by count of operations '
               f'{counted_slope:.2f}; '
               f'with cached targets a step is {rows[0]["cached_median"]:.2f} plain ones, whatever M')
    if 'classes' in found:
        first, last = found['classes'][0], found['classes'][-1]
        yield (f'classes: from {first["classes"]} to {last["classes"]} a distilled step goes from '
               f'{first["median"]:.2f} to '
               f'{last["median"]:.2f} plain ones (by count {first["by_count"]:.2f} to '
               f'{last["by_count"]:.2f}), with cached targets from '
               f'{first["cached_median"]:.2f} to {last["cached_median"]:.2f}')
    if 'processes' in found:
        one, two = found['processes']
        yield (f'processes: a step of {two["processes"]} costs each {two["plain_processor_median"]:.2f} '
               'times the processor time of a step '
               f'of one if plain, {two["processor_median"] / one["processor_median"]:.2f} times if '
               'distilled; by the clock, on the cores '
               f'that were free, {two["plain_median"]:.2f} and {two["median"] / one["median"]:.2f} times')


def draw(found: dict[str, list[Row]], path: Path | None = None) -> Figure:
    """What was measured (median, 10th to 90th percentile) beside each other, and by count."""
    panels = [name for name in AXES if name in found]
    figure = canvas(max(4.8, 3.6 * len(panels)), 4.1)
    for name, axes in zip(panels, np.atleast_1d(figure.subplots(1, len(panels)))):
        rows = found[name]
        places = [row[name] for row in rows]
        axes.set_ylabel('time / plain step')
        if name == 'processes':  # by the clock it would show how many cores are free
            band(axes, places, rows, 'processor_', STUDENT, 'distilled step, measured')
            band(axes, places, rows, 'plain_processor_', ALONE, 'plain step')
            axes.set_xlim(places[0] - 0.3, places[-1] + 0.3)
            axes.set_ylabel('processor time of a process / plain step')
        else:
            band(axes, places, rows, '', STUDENT, 'distilled step, measured')
            if name == 'classes':
                band(axes, places, rows, 'cached_', CHOSEN, 'with cached targets')
            else:  # one number, whatever M
                axes.plot(places, [row['cached_median'] for row in rows],
                          color=CHOSEN,
                          linewidth=1.6,
                          label='with cached targets')
            axes.plot(places, [row['by_count'] for row in rows],
                      color=TEACHER,
                      linestyle='--',
                      marker='x',
                      markersize=5,
                      linewidth=1.2,
                      label='by count of operations')
        if name == 'classes':
            axes.set_xscale('log')
            axes.minorticks_off()
        axes.set_xticks(places, [str(place) for place in places])
        axes.set_xlabel(AXES[name])
        axes.axhline(1, color='#b0b0b0', linewidth=1, zorder=0)
        axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
        plain_axes(axes)
    labelled = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels())
    }
    figure.legend(labelled.values(),
                  labelled.keys(),
                  loc='outside lower center',
                  ncols=3,
                  fontsize=8,
                  frameon=False)
    return save_figure(figure, path)


def band(axes, places: Sequence[float], rows: Sequence[Row], prefix: str, colour: str, label: str) -> None:
    low, middle, high = ([row[prefix + key] for row in rows] for key in ('low', 'median', 'high'))
    axes.plot(places, middle, color=colour, marker='o', markersize=5, linewidth=1.6, label=label)
    axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
