from .figures import draw_information_plane, draw_training
from .heatmaps import draw_class_correlation
from .planes import draw_planes
from .report import results_table, write_report

__all__ = ['draw_class_correlation', 'draw_information_plane', 'draw_planes', 'draw_training', 'results_table', 'write_report']
