"""What features tell about images and labels: by hand, and as laws."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS

from ckd_mm.infoplane import ProbeSettings, load_probe_images
from ckd_mm.infoplane.estimators import estimate_point, extract_features, information_x, information_y

from ..conftest import resnet
from ..helpers import with_statistics

CPU = torch.device('cpu')
SETTINGS = ProbeSettings(decoder_epochs=30, decoder_batch=32)
PIXELS = dict(type='ckd_mm.Digits', split='train', pipeline=[dict(type='mmpretrain.PackInputs')])


@pytest.fixture(scope='module')
def images():
    return load_probe_images(PIXELS, 200)


def network():
    torch.manual_seed(0)
    built = MODELS.build(with_statistics(resnet(2)))
    built.init_weights()
    return built


def test_accuracy_by_hand():
    assert information_y(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 0, 4])) == 0.75


def test_features_are_those_before_the_pooling(images):
    model = network()
    features = extract_features(model, images, CPU, batch=64)
    inputs = (images.pixels.float() - 77.9) / 95.9
    with torch.no_grad():
        maps = model.eval().backbone(inputs)[-1]
        logits = model.head.fc(maps.mean(dim=(2, 3)))
    torch.testing.assert_close(features.maps, maps)
    assert torch.equal(features.predictions, logits.argmax(1))


def test_the_image_itself_tells_more_than_features_and_noise_tells_nothing(images):
    noise = torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    features = extract_features(network(), images, CPU).maps
    sources = dict(image=images.pixels / 255, features=features, noise=noise,
                   constant=torch.zeros(200, 3, 8, 8))
    values = {name: information_x(maps, images, SETTINGS, CPU)['information_x']
              for name, maps in sources.items()}
    assert values['image'] > values['features'] > max(values['noise'], values['constant'])
    # 8x8 digits: knowing everything is worth the difference between the mean image's loss and the pixels' own
    # entropy
    targets = images.pixels.float() / 255
    ceiling = F.binary_cross_entropy(targets.mean(0, keepdim=True).expand_as(targets),
                                     targets) - F.binary_cross_entropy(targets, targets)
    assert values['image'] < ceiling.item() * 1.1


def test_baseline_is_the_mean_image(images):
    found = information_x(torch.zeros(200, 3, 8, 8), images, SETTINGS, CPU)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    targets = images.pixels.double() / 255
    mean = targets[order[:160]].mean(0).clamp(1e-4, 1 - 1e-4)
    rest = targets[order[160:]]
    by_hand = -(rest * mean.log() + (1 - rest) * (1 - mean).log()).mean().item()
    assert found['baseline_loss'] == pytest.approx(by_hand, rel=1e-5)
    assert found['information_x'] == pytest.approx(found['baseline_loss'] - found['reconstruction_loss'])


def test_longer_training_of_the_decoder_lowers_its_loss(images):
    maps = extract_features(network(), images, CPU).maps
    losses = [information_x(maps, images, ProbeSettings(decoder_epochs=epochs, decoder_batch=32),
                            CPU)['reconstruction_loss'] for epochs in (1, 5, 40)]
    assert losses[0] > losses[1] > losses[2]


def test_equal_networks_get_equal_numbers(images):
    """Whatever random numbers were drawn in between; the caller's generator is left as it was."""
    first, second = network(), network()
    found = estimate_point(first, images, SETTINGS, CPU)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert estimate_point(second, images, SETTINGS, CPU) == found
    assert torch.equal(torch.get_rng_state(), before)


def test_reconstruct_size_averages_the_image_down(images):
    maps = extract_features(network(), images, CPU).maps
    full = information_x(maps, images, ProbeSettings(decoder_epochs=2), CPU)
    small = information_x(maps, images, ProbeSettings(decoder_epochs=2, reconstruct_size=4), CPU)
    assert small['baseline_loss'] != full['baseline_loss']
    assert information_x(maps, images, ProbeSettings(decoder_epochs=2, reconstruct_size=8), CPU) == full
