from .layout import Layout
from .target_file import TargetFile
from .target_writer import TargetWriter

__all__ = ['Layout', 'TargetFile', 'TargetWriter']
