"""Eq. 8 of CheckpointKD: which classes a network finds alike."""

import json

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics.pairwise import cosine_similarity

from ckd_mm.errors import ConfigError
from ckd_mm.evaluation import class_correlation, correlation_maps, diversity, predict_logits
from ckd_mm.evaluation.class_correlation import class_means
from ckd_mm.infoplane import ProbeImages

from ..conftest import resnet
from ..helpers import batch, network, trajectory, with_statistics

CPU = torch.device('cpu')


def digits(images: int = 30) -> ProbeImages:
    data = batch(images)
    return ProbeImages(torch.stack(data['inputs']), torch.arange(images) % 10)


def test_by_hand():
    """Two classes: means (1, 1) and (0, 2), whose cosine is 2 / (sqrt(2) * 2)."""
    means = class_means(torch.tensor([[0., 2.], [2., 0.], [0., 2.]]), torch.tensor([0, 0, 1]))
    assert means.tolist() == [[1, 1], [0, 2]]
    found = class_correlation(means)
    torch.testing.assert_close(found, torch.tensor([[1, 0.5**0.5], [0.5**0.5, 1]], dtype=torch.float64))
    assert diversity(found) == pytest.approx(dict(mean=0.5**0.5, std=0))


def test_diversity_by_hand():
    correlation = torch.tensor([[1, 0.2, float('nan')], [0.4, 1, float('nan')], [float('nan')] * 3])
    assert diversity(correlation) == pytest.approx(dict(mean=0.3, std=0.1))


def test_a_thousand_classes_with_few_images():
    """Against numpy and scikit-learn; a class without images is unknown, not zero."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2500, 1000, generator=generator) * 3 + 1
    labels = torch.randint(0, 990, (2500, ), generator=generator)
    there = np.unique(labels)
    expected = cosine_similarity(np.stack([outputs.double().numpy()[labels.numpy() == label].mean(axis=0)
                                           for label in there]))
    found = class_correlation(class_means(outputs, labels)).numpy()
    np.testing.assert_allclose(found[np.ix_(there, there)], expected, atol=1e-12)
    absent = np.setdiff1d(np.arange(1000), there)
    assert len(absent) > 10 and np.isnan(found[absent]).all() and np.isnan(found[:, absent]).all()
    pairs = expected[~np.eye(len(there), dtype=bool)]
    assert diversity(torch.from_numpy(found)) == pytest.approx(dict(mean=pairs.mean(), std=pairs.std()))


def test_maps_of_a_network():
    """Logits as mmpretrain gives them one image at a time, softened by scipy."""
    model, images = network(with_statistics(resnet(2)), seed=1).train(), digits()
    logits = predict_logits(model, images, CPU, batch=7)
    assert not model.training and logits.dtype == torch.float32
    with torch.no_grad():
        alone = torch.cat([model(model.data_preprocessor(dict(inputs=[pixels]))['inputs'])
                           for pixels in images.pixels])
    torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
    maps = correlation_maps(model, images, CPU, tau=5.0, batch=7)
    alone = alone.double().numpy()
    for kind, outputs in dict(logits=alone, probabilities=softmax(alone / 5, axis=1)).items():
        means = np.stack([outputs[images.labels.numpy() == label].mean(axis=0) for label in range(10)])
        np.testing.assert_allclose(maps[kind].numpy(), cosine_similarity(means), atol=1e-5)


def test_bad_input():
    with pytest.raises(ConfigError, match='labels go from 0 to 3, but the network has 2 classes'):
        class_means(torch.zeros(2, 2), torch.tensor([0, 3]))
    with pytest.raises(ConfigError, match='tau=0 should be a finite number, at least 0.01'):
        correlation_maps(network(with_statistics(resnet()), seed=0), digits(), CPU, tau=0)


def test_the_tool(tool, digits_run, tmp_path):
    config = digits_run(images=120)
    config.custom_imports = dict(imports=['ckd_mm'], allow_failed_imports=False)
    config.dump(tmp_path / 'config.py')
    run = trajectory(tmp_path / 'run', epochs=(1, 2, 3, 4))
    status, out, _ = tool('class_correlation.py', tmp_path / 'config.py', run.folder, '--tau', 3)
    assert status == 0
    summary = json.loads((run.folder / 'class_correlation.json').read_text())
    assert (summary['epochs'], summary['tau'], summary['images']) == ([2, 4], 3, 100)
    assert summary['split'] == 'test'
    arrays = np.load(run.folder / 'class_correlation.npz')
    assert sorted(arrays) == ['logits_2', 'logits_4', 'probabilities_2', 'probabilities_4']
    for row in summary['off_diagonal']:
        pairs = arrays[f'{row["kind"]}_{row["epoch"]}'][~np.eye(10, dtype=bool)]
        assert (row['mean'], row['std']) == pytest.approx((pairs.mean(), pairs.std()))
        assert f'{pairs.mean():.4f}' in out
    assert (run.folder / 'class_correlation.png').read_bytes().startswith(b'\x89PNG')

    # held-out images: 12 of the 120 for training; some classes have none
    status, out, _ = tool('class_correlation.py', tmp_path / 'config.py', run.folder, '--split', 'held_out',
                          '--epochs', 1, 3, '--out', tmp_path / 'out')
    summary = json.loads((tmp_path / 'out' / 'class_correlation.json').read_text())
    assert status == 0 and (summary['images'], summary['epochs']) == (12, [1, 3])
    absent = summary['classes_without_images']
    assert absent > 0 and f'{absent} classes have no image' in out
    for epochs, message in (((2, 2), 'both snapshots are of epoch 2'), ((2, 9), 'no snapshot at epoch 9')):
        status, _, err = tool('class_correlation.py', tmp_path / 'config.py', run.folder, '--epochs', *epochs)
        assert status == 1 and message in err
