"""Where the time of ImageNet's input goes, per image on one core, and what other ways to decode and crop
would gain.

    python benchmarks/imagenet_input.py [FOLDER] [--images N] [--json FILE] [--size PIXELS] [--short-side
    PIXELS --quality Q]

FOLDER holds a folder of JPEG files for each class; default: $CKD_DATA_ROOT/imagenet/train. All ways see the
same images, crops and flips, one after the other in an order that is drawn anew for each image. `--short-side
375 --quality 98` first writes the images anew (in memory), about as large as ImageNet's originals are, if the
folder holds a reduced copy. Times are the processor's, so that other processes count for little; files have
been read before, so `read` says nothing of a disk.
"""

import argparse
import io
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')  # a worker of a data loader has one thread

import cv2  # noqa: E402
import mmcv  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from measure import summary  # noqa: E402
from mmcv.transforms import LoadImageFromFile  # noqa: E402
from mmengine.dataset import default_collate  # noqa: E402
from mmpretrain.datasets.transforms import PackInputs, RandomFlip, RandomResizedCrop  # noqa: E402
from mmpretrain.models import ClsDataPreprocessor  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor  # noqa: E402
from torchvision.io import ImageReadMode, decode_jpeg  # noqa: E402
from torchvision.transforms.v2 import functional as v2  # noqa: E402

from ckd_mm.files import write_json  # noqa: E402

BATCH = 32  # images a GPU in ResNet's usual recipe; also what a ratio is taken over
NORMALISE = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)


@dataclass(frozen=True)
class Picture:
    """A JPEG file's bytes, and what the augmentation drew for it: ``crop`` (top, left, height, width) and
    ``flip``."""
    path: str
    content: bytes
    size: tuple[int, int]
    crop: tuple[int, int, int, int]
    flip: bool


def pictures(files: Sequence[Path], size: int, encode: Callable[[bytes], bytes]) -> Iterator[Picture]:
    """The crops are those of mmpretrain's ``RandomResizedCrop``, which asks the image for its height and
    width alone."""
    transform = RandomResizedCrop(scale=size)
    for index, file in enumerate(files):
        content = encode(file.read_bytes())
        with Image.open(io.BytesIO(content)) as header:
            width, height = header.size
        np.random.seed(index)
        crop = transform.rand_crop_params(np.broadcast_to(np.uint8(0), (height, width, 3)))
        yield Picture(str(file), content, (height, width), tuple(int(number) for number in crop),
                      bool(np.random.randint(2)))


def written_anew(short_side: int, quality: int) -> Callable[[bytes], bytes]:
    """Makes of a JPEG file one of another size."""

    def encode(content: bytes) -> bytes:
        image = Image.open(io.BytesIO(content)).convert('RGB')
        scale = short_side / min(image.size)
        buffer = io.BytesIO()
        image.resize([round(edge * scale) for edge in image.size], Image.BICUBIC).save(buffer,
                                                                                       'JPEG',
                                                                                       quality=quality)
        return buffer.getvalue()

    return encode


# The parts of the training pipeline as it is


def seconds_of_parts(picture: Picture, size: int) -> tuple[dict[str, float], dict]:
    """Of one image in mmpretrain's transforms, called one by one, and what the last of them gave."""
    crop, flip = RandomResizedCrop(scale=size), RandomFlip(prob=float(picture.flip))
    crop.rand_crop_params = lambda _: picture.crop
    load = LoadImageFromFile()

    def decode(results: dict) -> dict:
        image = mmcv.imfrombytes(picture.content, backend=load.imdecode_backend)
        return dict(results, img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])

    steps = dict(read=lambda results: Path(picture.path).read_bytes() and results,
                 decode=decode,
                 RandomResizedCrop=crop,
                 RandomFlip=flip,
                 PackInputs=PackInputs())
    results, seconds = dict(img_path=picture.path, gt_label=0), {}
    for name, step in steps.items():
        start = time.thread_time()
        results = step(results)
        seconds[name] = time.thread_time() - start
    return seconds, results


def seconds_of_batch(items: list[dict], preprocessor: ClsDataPreprocessor) -> dict[str, float]:
    """Of what is done to a batch, per image. The data preprocessor runs where the network does, on a GPU as a
    rule."""
    start = time.thread_time()
    batch = default_collate(items)
    collated = time.thread_time()
    preprocessor(batch, training=True)
    return dict(collate=(collated - start) / len(items),
                data_preprocessor=(time.thread_time() - collated) / len(items))


# Other ways from the file's bytes to the tensor (3, size, size), RGB


def mmcv_way(backend: str = 'cv2') -> Callable[[Picture, int], Tensor]:
    """mmpretrain's own, with a decoder of mmcv's."""

    def way(picture: Picture, size: int) -> Tensor:
        return packed(mmcv.imfrombytes(picture.content, backend=backend), picture.crop, picture.flip, size)

    return way


def reduced_way(only_if_shrunk: bool) -> Callable[[Picture, int], Tensor]:
    """Decoded at half the height and width (libjpeg scales inside the inverse DCT), a quarter of the pixels.

    Args:
        only_if_shrunk: where the crop has at least twice the pixels along either side that are wanted; else
            always, which loses detail.
    """

    def way(picture: Picture, size: int) -> Tensor:
        if only_if_shrunk and min(picture.crop[2:]) < 2 * size:
            return packed(mmcv.imfrombytes(picture.content), picture.crop, picture.flip, size)
        image = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_REDUCED_COLOR_2)
        top, left, height, width = picture.crop
        crop = (top // 2, left // 2, max(1, height // 2), max(1, width // 2))
        return packed(image, crop, picture.flip, size)

    return way


def packed(image: np.ndarray, crop: Sequence[int], flip: bool, size: int) -> Tensor:
    """A decoded BGR image through mmcv's functions, as the transforms call them."""
    top, left, height, width = crop
    image = mmcv.imcrop(image, bboxes=np.array([left, top, left + width - 1, top + height - 1]))
    image = mmcv.imresize(image, (size, size))
    return PackInputs.format_input(mmcv.imflip(image) if flip else image)


def torchvision_way(antialias: bool) -> Callable[[Picture, int], Tensor]:
    """``torchvision.io.decode_jpeg`` and ``torchvision.transforms.v2`` on uint8 tensors."""

    def way(picture: Picture, size: int) -> Tensor:
        image = decode_jpeg(torch.frombuffer(bytearray(picture.content), dtype=torch.uint8),
                            mode=ImageReadMode.RGB)
        image = v2.resized_crop(image, *picture.crop, size=[size, size], antialias=antialias)
        return (v2.horizontal_flip(image) if picture.flip else image).contiguous()

    return way


def draft_way(picture: Picture, size: int) -> Tensor:
    """Pillow throughout, ``draft`` letting libjpeg scale where the crop is shrunk enough."""
    with Image.open(io.BytesIO(picture.content)) as image:
        top, left, height, width = picture.crop
        scale = max(1, min(height, width) // size)
        image.draft('RGB', (image.width // scale, image.height // scale))
        ratio = image.width / picture.size[1]
        box = [edge * ratio for edge in (left, top, left + width, top + height)]
        small = image.convert('RGB').resize((size, size), Image.BILINEAR, box=box)
    array = np.asarray(small)
    return torch.from_numpy(array[:, ::-1].copy() if picture.flip else array.copy()).permute(2, 0,
                                                                                             1).contiguous()


def ways() -> dict[str, Callable[[Picture, int], Tensor]]:
    """By name; the first is what the others are compared with."""
    found = {
        'mmpretrain (cv2)': mmcv_way(),
        'mmcv, Pillow decodes': mmcv_way('pillow'),
        'torchvision v2, antialias': torchvision_way(True),
        'torchvision v2': torchvision_way(False),
        'Pillow, draft': draft_way,
        'cv2, half size if shrunk': reduced_way(True),
        'cv2, half size always': reduced_way(False)
    }
    if has_turbojpeg():
        found['mmcv, turbojpeg decodes'] = mmcv_way('turbojpeg')
    return found


def has_turbojpeg() -> bool:
    """Whether PyTurboJPEG and its library are installed; makes them ready if so."""
    try:
        mmcv.use_backend('turbojpeg')
    except (ImportError, RuntimeError, OSError):
        return False
    finally:
        mmcv.use_backend('cv2')
    return True


BGR = ('mmpretrain', 'mmcv', 'cv2')  # leave the change to RGB to the data preprocessor, where it is free


def compare(images: list[Picture], size: int) -> dict[str, dict[str, float]]:
    """Each way's time as a ratio to the first one's, over ``BATCH`` images at a time, and how its pixels
    differ (0 to 255)."""
    contenders = ways()
    names, draw = list(contenders), np.random.default_rng(0)
    seconds = np.empty((len(images), len(names)))
    difference = np.zeros((2, len(images), len(names)))
    for name in names:
        contenders[name](images[0], size)
    for row, picture in enumerate(images):
        outputs = {}
        for column in draw.permutation(len(names)):  # who went before leaves the caches as they are
            start = time.thread_time()
            outputs[column] = contenders[names[column]](picture, size)
            seconds[row, column] = time.thread_time() - start
        pixels = [(outputs[column].flip(0) if names[column].startswith(BGR) else outputs[column]).float()
                  for column in range(len(names))]
        for column, own in enumerate(pixels):
            apart = (own - pixels[0]).abs()
            difference[:, row, column] = apart.max(), apart.mean()
    whole = len(images) // BATCH * BATCH
    per_batch = seconds[:whole].reshape(-1, BATCH, len(names)).sum(axis=1)
    return {
        name:
        dict(summary(per_batch[:, column] / per_batch[:, 0]),
             milliseconds=float(np.median(seconds[:, column]) * 1e3),
             largest_difference=float(difference[0, :, column].max()),
             mean_difference=float(difference[1, :, column].mean()))
        for column, name in enumerate(names)
    }


def parts(images: list[Picture], size: int) -> dict[str, float]:
    """Milliseconds an image of each part, median over images or batches."""
    preprocessor = ClsDataPreprocessor(**NORMALISE)
    seconds_of_parts(images[0], size)
    found, batches = [], []
    for first in range(0, len(images) // BATCH * BATCH, BATCH):
        own, items = zip(*(seconds_of_parts(picture, size) for picture in images[first:first + BATCH]))
        found += own
        batches.append(seconds_of_batch(list(items), preprocessor))
    return {
        name: float(np.median([row[name] for row in rows]) * 1e3)
        for rows in (found, batches)
        for name in rows[0]
    }


def main() -> int:
    args = parse_args()
    cv2.setNumThreads(0)  # as mmengine's env_cfg does in training
    torch.set_num_threads(1)
    files = sorted(args.folder.glob('*/*.[jJ][pP]*[gG]'))
    random.Random(0).shuffle(files)
    files = files[:args.images]
    if len(files) < BATCH:
        print(f'{args.folder}/<class>/ holds {len(files)} JPEG files; at least {BATCH} are needed',
              file=sys.stderr)
        return 2
    encode = written_anew(args.short_side, args.quality) if args.short_side else bytes
    images = list(pictures(files, args.size, encode))
    sizes, shrunk = np.array(
        [picture.size for picture in images]), [min(picture.crop[2:]) >= 2 * args.size for picture in images]
    kilobytes = float(np.mean([len(picture.content) for picture in images])) / 1e3
    about = dict(images=len(images),
                 size=args.size,
                 mean_height=float(sizes[:, 0].mean()),
                 mean_width=float(sizes[:, 1].mean()),
                 mean_kilobytes=kilobytes,
                 crops_twice_the_size=float(np.mean(shrunk)))
    print(', '.join(f'{name.replace("_", " ")} {value:.4g}' for name, value in about.items()))
    result = dict(about=about, parts=parts(images, args.size), ways=compare(images, args.size))
    total = sum(value for name, value in result['parts'].items() if name != 'data_preprocessor')
    print(f'\n{"part of the pipeline":<28} {"ms":>7} {"share":>7}')
    for name, value in result['parts'].items():
        share = f'{value / total:>7.1%}' if name != 'data_preprocessor' else '(on this core; in training on the GPU)'
        print(f'{name:<28} {value:>7.3f} {share}')
    print(f'{"in all, without the last":<28} {total:>7.3f}, or {1e3 / total:.0f} images/s on one core')
    print(f'\n{"bytes to tensor":<28} {"ms":>7} {"ratio":>7} {"low":>7} {"high":>7} {"max diff":>9} '
          f'{"mean":>7}')
    for name, row in result['ways'].items():
        numbers = [row[key] for key in ('milliseconds', 'median', 'low', 'high')]
        print(f'{name:<28} ' + ' '.join(f'{number:>7.3f}' for number in numbers)
              + f' {row["largest_difference"]:>9.0f} {row["mean_difference"]:>7.2f}')
    if args.json is not None:
        write_json(args.json, result)
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Where the time of ImageNet input goes.')
    default = Path(os.environ.get('CKD_DATA_ROOT', 'data')) / 'imagenet' / 'train'
    parser.add_argument('folder', nargs='?', type=Path, default=default, help='one folder of JPEG files a '
                                                                              f'class; default: {default}')
    parser.add_argument('--images', type=int, default=320)
    parser.add_argument('--size', type=int, default=224, help='pixels of the training crop')
    parser.add_argument('--short-side', type=int, metavar='PIXELS', help='write the images anew at this '
                                                                         'size first')
    parser.add_argument('--quality', type=int, default=98, help='of the JPEG files that --short-side writes')
    parser.add_argument('--json', type=Path, metavar='FILE')
    return parser.parse_args()


if __name__ == '__main__':
    sys.exit(main())
