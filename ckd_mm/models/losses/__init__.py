from .cohort_kd_loss import CohortKDLoss, cohort_kd_loss
from .decoupled_kd_loss import DecoupledKDLoss, decoupled_kd_loss

__all__ = ['CohortKDLoss', 'DecoupledKDLoss', 'cohort_kd_loss', 'decoupled_kd_loss']
