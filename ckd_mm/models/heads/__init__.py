from .intermediate_head import IntermediateHead, default_kind

__all__ = ['IntermediateHead', 'default_kind']
