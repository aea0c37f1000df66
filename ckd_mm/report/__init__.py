from .curves import read_curve
from .figures import draw_information_plane, draw_training
from .head_figures import draw_head_probabilities
from .heatmaps import draw_class_correlation
from .page import write_page
from .planes import draw_planes
from .section import Accuracy, Plane, Report, Section, Table
from .table import results_table

__all__ = [
    'Accuracy', 'Plane', 'Report', 'Section', 'Table', 'draw_class_correlation', 'draw_head_probabilities',
    'draw_information_plane', 'draw_planes', 'draw_training', 'read_curve', 'results_table', 'write_page'
]
