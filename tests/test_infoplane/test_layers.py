"""Where the features of a network lie, and how tokens and vectors become what a decoder can use."""

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from ckd_mm.errors import ConfigError
from ckd_mm.infoplane import ProbeImages, ProbeSettings, extract_features, information_x, load_probe_images
from ckd_mm.infoplane.layers import Layer, channel_axis, grid_of

from ..conftest import resnet
from ..helpers import vision_transformer, with_statistics

CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def images() -> ProbeImages:
    return load_probe_images(dict(type='ckd_mm.Digits', split='train',
                                  pipeline=[dict(type='mmpretrain.PackInputs')]), 40)


def built(model: dict) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(with_statistics(model)).eval()


@pytest.mark.parametrize('tokens, height, width, grid', [
    (196, 224, 224, (14, 14)), (197, 224, 224, (14, 14)), (198, 224, 224, (14, 14)),
    (201, 224, 224, (14, 14)),  # four registers
    (141, 224, 160, (14, 10)), (141, 160, 224, (10, 14)), (24, 100, 70, (6, 4)), (5, 8, 8, (2, 2)),
    (1, 8, 8, (1, 1))])
def test_the_grid_of_tokens(tokens, height, width, grid):
    assert grid_of(tokens, height, width) == grid


def test_tokens_fold_row_by_row_without_those_before_them():
    """A token at row r, column c of a 2 x 3 grid holds (r, c); a class and a distillation token hold -1."""
    tokens = torch.tensor([[[-1, -1], [-1, -1], [0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]]).float()
    folded = Layer('', 2).features((None, tokens), torch.zeros(1, 3, 20, 30))
    assert folded.tolist() == [[[[0, 0, 0], [1, 1, 1]], [[0, 1, 2], [0, 1, 2]]]]


@pytest.mark.parametrize('shape, image, convolved, axis', [
    ((2, 512, 7, 7), (224, 224), set(), 1), ((2, 7, 7, 512), (224, 224), set(), 3),
    ((2, 512, 7, 5), (224, 160), set(), 1), ((2, 7, 5, 512), (224, 160), set(), 3),
    ((2, 8, 8, 8), (64, 64), set(), 1), ((2, 197, 768), (224, 224), {196}, 2),
    ((2, 197, 196), (224, 224), {196}, 2), ((2, 49, 768), (224, 224), {3136}, 2),
    ((2, 1024, 196), (224, 224), {196}, 1),  # MLP-Mixer, whose 1024 channels are a square too
    ((2, 64, 1), (224, 224), {49}, 1), ((2, 768), (224, 224), set(), 1)])
def test_the_axis_of_channels(shape, image, convolved, axis):
    assert channel_axis(shape, image, convolved) == axis


def test_the_class_token_of_a_transformer_is_preceded_by_its_last_tokens(images):
    """The backbone returns the normalised class token; the features are the other tokens of that layer."""
    network = built(vision_transformer())
    features = extract_features(network, images, CPU)
    inputs = (images.pixels.float() - 77.9) / 95.9
    with torch.no_grad():
        network.backbone.out_type = 'raw'
        class_token, *places = network.backbone(inputs)[-1].unbind(1)
    assert features.layer == 'backbone.ln1'
    torch.testing.assert_close(features.maps.flatten(2), torch.stack(places, dim=2))
    assert torch.equal(features.predictions, network.head((class_token, )).argmax(1))


def test_a_pooled_vector_is_preceded_by_the_map_it_is_the_mean_of(images):
    arch = dict(depths=[1] * 4, channels=[4, 4, 4, 8])
    backbone = dict(type='ConvNeXt', arch=arch, stem_patch_size=1, gap_before_final_norm=True)
    network = built(dict(type='ImageClassifier', backbone=backbone, head=resnet(2)['head']))
    larger = ProbeImages(images.pixels.repeat(1, 1, 2, 2), images.labels)
    features = extract_features(network, larger, CPU)
    assert features.maps.shape == (40, 8, 2, 2) and features.layer == 'backbone.stages.3'
    with torch.no_grad():
        pooled = network.backbone.norm3(features.maps.mean((2, 3), keepdim=True)).flatten(1)
        expected = network.backbone((larger.pixels.float() - 77.9) / 95.9)[-1]
    torch.testing.assert_close(pooled, expected)


def test_a_vector_without_a_map_before_it_is_reconstructed_through_a_linear_layer(images):
    """A perceptron's: the identity of all pixels tells nearly as much as the image, noise nothing."""
    network = built(resnet())
    network.backbone, network.neck, network.head = nn.Flatten(), None, nn.Linear(192, 10)
    features = extract_features(network, images, CPU)
    assert features.layer == 'backbone' and features.maps.shape == (40, 192)
    settings = ProbeSettings(decoder_epochs=60, decoder_batch=8)
    known, noise = (information_x(vectors, images, settings, CPU)['information_x']
                    for vectors in (features.maps, torch.randn(40, 192)))
    assert known > 0.05 > noise


def test_a_named_layer(images):
    network = built(resnet(2))
    features = extract_features(network, images, CPU, layer='backbone.layer1')
    with torch.no_grad():
        shallow = network.backbone.layer1(network.backbone.relu(network.backbone.norm1(
            network.backbone.conv1((images.pixels.float() - 77.9) / 95.9))))
    torch.testing.assert_close(features.maps, shallow)
    assert extract_features(network, images, CPU, layer='neck').maps.shape == (40, 8)


def test_what_follows_a_named_layer_may_work_in_place(images):
    """A ReLU behind a BatchNorm overwrites its output."""
    maps = extract_features(built(resnet(2)), images, CPU, layer='backbone.layer2.1.bn1').maps
    assert maps.min() < 0


@pytest.mark.parametrize('layer, message', [
    ('backbone.layer9', "probe.layer='backbone.layer9' is no module of ImageClassifier; did you mean "
                        "'backbone.layer2' or 'backbone.layer1'"),
    ('', "probe.layer='' is no module"),
    ('data_preprocessor', "probe.layer='data_preprocessor' returns nothing that an image could be")])
def test_a_layer_that_cannot_be(images, layer, message):
    with pytest.raises(ConfigError, match=message):
        extract_features(built(resnet(2)), images, CPU, layer=layer)
