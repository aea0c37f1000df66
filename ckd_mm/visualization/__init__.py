from .figures import draw_information_plane, draw_training
from .report import results_table, write_report

__all__ = ['draw_information_plane', 'draw_training', 'results_table', 'write_report']
