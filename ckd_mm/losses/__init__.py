from .cohort_kd_loss import CohortKDLoss, cohort_kd_loss
from .corrected_kd_loss import RefinedKDLoss, SwappedKDLoss, refined_kd_loss, swapped
from .decoupled_kd_loss import DecoupledKDLoss, decoupled_kd_loss
from .dist_loss import DISTLoss, dist_loss
from .divergence import kl_divergence
from .feature_losses import AttentionTransferLoss, HintLoss, attention_transfer_loss, hint_loss
from .hard_label_kd_loss import HardLabelKDLoss, hard_label_kd_loss
from .normalized_kd_loss import NormalizedKDLoss, normalized_kd_loss
from .soft_target import SoftTarget, soft_target

__all__ = ['AttentionTransferLoss', 'CohortKDLoss', 'DISTLoss', 'DecoupledKDLoss', 'HardLabelKDLoss',
           'HintLoss', 'NormalizedKDLoss', 'RefinedKDLoss', 'SoftTarget', 'SwappedKDLoss',
           'attention_transfer_loss', 'cohort_kd_loss', 'decoupled_kd_loss', 'dist_loss',
           'hard_label_kd_loss', 'hint_loss', 'kl_divergence', 'normalized_kd_loss', 'refined_kd_loss',
           'soft_target', 'swapped']
