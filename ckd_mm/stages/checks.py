"""A check that several stages make."""

import torch
from torch import nn

from ..evaluation.evaluate import evaluation_parts
from ..infoplane import extract_features, load_probe_images
from ..pipeline.run import Run


def check_maps(network: nn.Module, run: Run) -> str:
    """A probe finds feature maps.

    Raises:
        ConfigError: the network has none.
    """
    parts = evaluation_parts(run.config)
    if parts is None:
        return 'no images to look at'
    features = extract_features(network, load_probe_images(parts[0]['dataset'], 2), torch.device('cpu'))
    return f'feature maps {tuple(features.maps.shape[1:])}'
