"""Fig. 2 of DIH: the figure and its tool."""

import json

import numpy as np
import pytest
import torch
from scipy.special import softmax

from ckd_mm.report import draw_head_probabilities
from ckd_mm.report.figures import CHOSEN
from ckd_mm.report.head_figures import shown_classes
from ckd_mm.teachers import HeadTraining

from ..conftest import resnet
from ..helpers import trajectory, with_statistics

NAMES = ['head 0', 'head 1', 'teacher', 'ensemble']


def some(images: int, classes: int) -> np.ndarray:
    return softmax(np.random.default_rng(0).normal(size=(images, 4, classes)), axis=2)


def panels(figure) -> list:
    return [axes for axes in figure.axes if axes.patches]


def test_bars_of_few_classes_stand_in_their_order(tmp_path):
    images, values = [np.full((8, 8, 3), shade, np.uint8) for shade in (10, 200)], some(2, 4)
    figure = draw_head_probabilities(images, [2, 0], values, NAMES, 10, tmp_path / 'figure.png',
                                     ['cat', 'dog', 'car', 'ship'])
    assert (tmp_path / 'figure.png').read_bytes().startswith(b'\x89PNG')
    drawn = panels(figure)
    assert len(drawn) == 8
    for axes, rows in zip(drawn, values.reshape(8, 4)):
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], rows)
        assert axes.get_xlim() == drawn[0 if axes in
                                        drawn[:4] else 4].get_xlim(), 'panels of an image share their scale'
    assert [label.get_text() for label in drawn[0].get_yticklabels()] == ['cat', 'dog', 'car', 'ship']
    orange = tuple(int(CHOSEN[index:index + 2], 16) / 255 for index in (1, 3, 5))
    for axes, true in zip(drawn, [2] * 4 + [0] * 4):
        assert [bar.get_facecolor()[:3] == pytest.approx(orange)
                for bar in axes.patches] == [index == true for index in range(4)]
    best = ['cat', 'dog', 'car', 'ship'][values[1, 2].argmax()]
    assert drawn[6].get_title() == f'teacher: {best}'
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), images[0])


def test_of_many_classes_the_telling_ones():
    """The true class, each panel's own choice, then the ensemble's ranking, from its top."""
    values = np.full((3, 100), 1e-4)
    values[0, 7], values[1, 40], values[2, 60:70] = 0.9, 0.9, np.linspace(0.9, 0.1, 10)
    assert shown_classes(values, label=3) == [60, 61, 62, 63, 64, 65, 66, 3, 7, 40]
    assert shown_classes(values[:, :8], label=3) == list(range(8))
    figure = draw_head_probabilities([np.zeros((4, 4, 3), np.uint8)], [3], values[None], NAMES[1:], 10)
    assert [axes.get_xlabel() for axes in panels(figure)] == [
        f'the other 90: {1 - rows[shown_classes(values, 3)].sum():.2f}' for rows in values
    ]


def test_the_tool(tool, digits_run, tmp_path):
    """Its numbers against the weights on disk; raw images are drawn as a person sees them."""
    teacher = with_statistics(resnet(2))
    snapshot = trajectory(tmp_path / 'run', epochs=[2], model=teacher).last
    torch.manual_seed(0)
    HeadTraining(snapshot, (0, 1), (3, 8, 8)).write(tmp_path / 'run' / 'heads.pth')
    config = digits_run()
    config.custom_imports = dict(imports=['ckd_mm'], allow_failed_imports=False)
    config.dump(tmp_path / 'config.py')
    status, out, err = tool('head_probabilities.py', tmp_path / 'config.py', tmp_path / 'run', '--images', 5,
                            17, '--tau', 4)
    assert status == 0, err
    found = json.loads((tmp_path / 'run' / 'head_probabilities.json').read_text())
    assert (tmp_path / 'run' /
            'head_probabilities.png').read_bytes().startswith(b'\x89PNG') and 'head_probabilities.png' in out
    assert (found['panels'], found['tau']) == (['head 0', 'head 1', 'teacher', 'ensemble'], 4)
    assert [row['index'] for row in found['images']] == [5, 17]

    from sklearn.datasets import load_digits
    digits = load_digits()
    pixels = np.rint(digits.images[[1297 + 5, 1297 + 17]] * 255 / 16)
    inputs = torch.from_numpy(np.repeat(pixels[:, None], 3, axis=1)).float().sub(77.9).div(95.9)
    network, weights = snapshot.build(), torch.load(tmp_path / 'run' / 'heads.pth',
                                                    weights_only=True)['state_dict']
    with torch.no_grad():
        first = network.backbone.layer1(
            network.backbone.relu(network.backbone.norm1(network.backbone.conv1(inputs))))
        logits = [
            first.flatten(1) @ weights['heads.0.fc.weight'].t() + weights['heads.0.fc.bias'],
            network.backbone.layer2(first).flatten(1) @ weights['heads.1.fc.weight'].t() +
            weights['heads.1.fc.bias'], network(inputs, mode='tensor')
        ]
    expected = softmax(torch.stack(logits, dim=1).double().numpy() / 4, axis=2)
    for row, rows, label in zip(found['images'], expected, digits.target[[1297 + 5, 1297 + 17]]):
        assert row['label'] == label
        np.testing.assert_allclose(row['probabilities'], [*rows, rows.mean(axis=0)], rtol=1e-4, atol=1e-6)

    for arguments, message in ((['--images', 100], '--images 100: the data set has images 0 to 99'), ([
            '--tau', 0
    ], 'tau=0.0 should be'), (['--out', tmp_path / 'a.txt'], 'should end in .png or .svg')):
        status, _, err = tool('head_probabilities.py', tmp_path / 'config.py', tmp_path / 'run', *arguments)
        assert status == 1 and message in err
    status, _, err = tool('head_probabilities.py', tmp_path / 'config.py', tmp_path)
    assert status == 1 and f'heads {tmp_path / "heads.pth"} do not exist' in err


def test_images_as_a_person_sees_them():
    from mmpretrain.registry import MODELS

    from ckd_mm.teachers.input_statistics import rgb_images
    blue_first = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    blue_first[:, 0] = 255
    for to_rgb, colour in ((True, [0, 0, 255]), (False, [255, 0, 0])):
        preprocessor = MODELS.build(
            dict(type='ClsDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3, to_rgb=to_rgb))
        assert rgb_images(blue_first, preprocessor)[0][0, 0].tolist() == colour
