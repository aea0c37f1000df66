from .cohort_kd_loss import CohortKDLoss, cohort_kd_loss

__all__ = ['CohortKDLoss', 'cohort_kd_loss']
