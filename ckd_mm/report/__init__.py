from .figures import draw_information_plane, draw_training
from .head_figures import draw_head_probabilities
from .heatmaps import draw_class_correlation
from .page import results_table, write_report
from .planes import draw_planes

__all__ = [
    'draw_class_correlation', 'draw_head_probabilities', 'draw_information_plane', 'draw_planes',
    'draw_training', 'results_table', 'write_report'
]
