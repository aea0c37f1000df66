"""Ways to put a frozen network to train mode."""

import pytest
from torch import nn

WAYS = {
    'train': lambda model: model.train(),
    'parts': lambda model: [part.train() for part in model.children()],
    'every module': lambda model: [module.train() for module in list(model.modules())],
    'leaves by force': lambda model: [setattr(module, 'training', True) for module in model.modules()
                                      if not list(module.children())],
    'as a part': lambda model: nn.Sequential(model).train(),
}


@pytest.fixture(params=WAYS)
def wake(request):
    return WAYS[request.param]
