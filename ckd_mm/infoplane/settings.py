"""What a config may say of the information plane."""

from dataclasses import dataclass

from ..settings import Settings, setting
from ..validate import check_part


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(Settings):
    """``probe``: which images are measured, and how the decoder that reconstructs them is trained."""
    probe_split: str = setting(
        'held_out', choices=('held_out', 'test'),
        help="'held_out': training images that the teacher does not see; 'test': the test set, as in the "
        'papers, which lets the choice of teacher see the test labels')
    held_out: float | int = setting(
        0.1, above=0, help='how much of the training set is held out: a fraction, or a number of images')
    num_images: int = setting(5000, at_least=3, help='at most so many of them are measured')
    layer: str | None = setting(
        None, help="path of the module whose output the features are, say 'backbone.layers.11'; default: the "
        'last output with places in the image, of the backbone or of a module in it')
    seed: int = setting(0, at_least=0, help='of the held-out part, of the draw of images, and of the decoder')
    decoder_epochs: int = setting(10, at_least=1, help='passes of the decoder over its part of the images')
    decoder_lr: float = setting(0.003, above=0, help='learning rate of Adam, decayed to 0 by a cosine')
    decoder_batch: int = setting(64, at_least=1, help='images a step of the decoder')
    decoder_widen: int = setting(1, at_least=1, help='12 times so many channels inside the decoder')
    fit_fraction: float = setting(
        0.8, above=0, at_most=0.99,
        help='part of the images that the decoder learns from; its loss is measured on the rest')
    reconstruct_size: int | None = setting(
        None, at_least=1, help='height and width in pixels to which images are averaged before they are '
        "reconstructed (the decoder's work and memory grow with them); default: their own")

    def check(self, name: str) -> None:
        check_part(f'{name}.held_out', self.held_out)
