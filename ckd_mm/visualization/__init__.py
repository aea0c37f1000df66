from .figures import draw_information_plane, draw_training
from .head_figures import draw_head_probabilities
from .heatmaps import draw_class_correlation
from .planes import draw_planes
from .report import results_table, write_report

__all__ = [
    'draw_class_correlation', 'draw_head_probabilities', 'draw_information_plane', 'draw_planes', 'draw_training', 'results_table',
    'write_report'
]
