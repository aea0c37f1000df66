"""Fig. 2 of DIH: the figure and its tool."""

import json

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from mmpretrain.registry import MODELS
from scipy.special import softmax
from sklearn.datasets import load_digits

from ckd_mm.report import draw_head_probabilities
from ckd_mm.report.figures import CHOSEN
from ckd_mm.report.head_figures import shown_classes
from ckd_mm.teachers import HeadTraining
from ckd_mm.teachers.input_statistics import rgb_images

from ..conftest import resnet
from ..helpers import trajectory, with_statistics

NAMES = ['head 0', 'head 1', 'teacher', 'ensemble']


def panels(figure) -> list:
    return [axes for axes in figure.axes if axes.patches]


def test_bars_of_few_classes_stand_in_their_order(tmp_path):
    classes = ['cat', 'dog', 'car', 'ship']
    images = [np.full((8, 8, 3), shade, np.uint8) for shade in (10, 200)]
    values = softmax(np.random.default_rng(0).normal(size=(2, 4, 4)), axis=2)
    figure = draw_head_probabilities(images, [2, 0], values, NAMES, 10, tmp_path / 'figure.png', classes)
    assert (tmp_path / 'figure.png').read_bytes().startswith(b'\x89PNG')
    drawn = panels(figure)
    assert len(drawn) == 8
    for index, (axes, row) in enumerate(zip(drawn, values.reshape(8, 4))):
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], row)
        assert axes.get_xlim() == drawn[index // 4 * 4].get_xlim(), 'panels of an image share their scale'
        assert [bar.get_facecolor()[:3] == pytest.approx(to_rgb(CHOSEN)) for bar in axes.patches] == [
            number == (2, 0)[index // 4] for number in range(4)]
    assert [label.get_text() for label in drawn[0].get_yticklabels()] == classes
    assert drawn[6].get_title() == f'teacher: {classes[values[1, 2].argmax()]}'
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), images[0])


def test_of_many_classes_the_telling_ones():
    """The true class, each panel's own choice, then the ensemble's ranking, from its top."""
    values = np.full((3, 100), 1e-4)
    values[0, 7], values[1, 40], values[2, 60:70] = 0.9, 0.9, np.linspace(0.9, 0.1, 10)
    shown = [60, 61, 62, 63, 64, 65, 66, 3, 7, 40]
    assert shown_classes(values, label=3) == shown
    assert shown_classes(values[:, :8], label=3) == list(range(8))
    figure = draw_head_probabilities([np.zeros((4, 4, 3), np.uint8)], [3], values[None], NAMES[1:], 10)
    assert [axes.get_xlabel() for axes in panels(figure)] == [
        f'the other 90: {1 - row[shown].sum():.2f}' for row in values]


def test_the_tool(tool, digits_run, tmp_path):
    """Its numbers against the weights on disk; raw images are drawn as a person sees them."""
    folder, config = tmp_path / 'run', digits_run()
    snapshot = trajectory(folder, epochs=[2], model=with_statistics(resnet(2))).last
    torch.manual_seed(0)
    HeadTraining(snapshot, (0, 1), (3, 8, 8)).write(folder / 'heads.pth')
    config.custom_imports = dict(imports=['ckd_mm'], allow_failed_imports=False)
    config.dump(tmp_path / 'config.py')
    command = ('head_probabilities.py', tmp_path / 'config.py')
    status, out, err = tool(*command, folder, '--images', 5, 17, '--tau', 4)
    assert status == 0, err
    found = json.loads((folder / 'head_probabilities.json').read_text())
    assert 'head_probabilities.png' in out
    assert (folder / 'head_probabilities.png').read_bytes().startswith(b'\x89PNG')
    assert (found['panels'], found['tau']) == (NAMES, 4)
    assert [row['index'] for row in found['images']] == [5, 17]

    digits, places = load_digits(), [1297 + 5, 1297 + 17]
    pixels = np.rint(digits.images[places] * 255 / 16)
    inputs = torch.from_numpy(np.repeat(pixels[:, None], 3, axis=1)).float().sub(77.9).div(95.9)
    network = snapshot.build()
    weights = torch.load(folder / 'heads.pth', weights_only=True)['state_dict']
    backbone = network.backbone
    with torch.no_grad():
        first = backbone.layer1(backbone.relu(backbone.norm1(backbone.conv1(inputs))))
        heads = [maps.flatten(1) @ weights[f'heads.{index}.fc.weight'].t() + weights[f'heads.{index}.fc.bias']
                 for index, maps in enumerate((first, backbone.layer2(first)))]
        logits = [*heads, network(inputs, mode='tensor')]
    expected = softmax(torch.stack(logits, dim=1).double().numpy() / 4, axis=2)
    for row, rows, label in zip(found['images'], expected, digits.target[places]):
        assert row['label'] == label
        np.testing.assert_allclose(row['probabilities'], [*rows, rows.mean(axis=0)], rtol=1e-4, atol=1e-6)

    for arguments, message in (
            ((folder, '--images', 100), '--images 100: the data set has images 0 to 99'),
            ((folder, '--tau', 0), 'tau=0.0 should be'),
            ((folder, '--out', tmp_path / 'a.txt'), 'should end in .png or .svg'),
            ((tmp_path, ), f'heads {tmp_path / "heads.pth"} do not exist')):
        status, _, err = tool(*command, *arguments)
        assert status == 1 and message in err


@pytest.mark.parametrize('rgb, colour', [(True, [0, 0, 255]), (False, [255, 0, 0])])
def test_images_as_a_person_sees_them(rgb, colour):
    first_channel = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    first_channel[:, 0] = 255
    preprocessor = MODELS.build(dict(type='ClsDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3, to_rgb=rgb))
    assert rgb_images(first_channel, preprocessor)[0][0, 0].tolist() == colour
