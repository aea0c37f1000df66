from .cohort_kd_loss import CohortKDLoss, cohort_kd_loss
from .decoupled_kd_loss import DecoupledKDLoss, decoupled_kd_loss
from .dist_loss import DISTLoss, dist_loss
from .divergence import kl_divergence
from .normalized_kd_loss import NormalizedKDLoss, normalized_kd_loss
from .soft_target import SoftTarget, soft_target

__all__ = ['CohortKDLoss', 'DISTLoss', 'DecoupledKDLoss', 'NormalizedKDLoss', 'SoftTarget', 'cohort_kd_loss',
           'decoupled_kd_loss', 'dist_loss', 'kl_divergence', 'normalized_kd_loss', 'soft_target']
