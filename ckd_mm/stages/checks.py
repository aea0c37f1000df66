"""A check that several stages make."""

import torch
from torch import nn

from ..evaluation.evaluate import evaluation_parts
from ..infoplane import extract_features, load_probe_images
from ..pipeline.run import Run


def check_maps(network: nn.Module, run: Run) -> str:
    """A probe finds feature maps.

    Raises:
        ConfigError: the network has none, or the test set cannot be read.
    """
    if run.test_set() is None:  # a ConfigError, where it cannot be read
        return 'no images to look at'
    images = load_probe_images(evaluation_parts(run.config)[0]['dataset'], 2)
    features = extract_features(network, images, torch.device('cpu'))
    return f'feature maps {tuple(features.maps.shape[1:])}'
