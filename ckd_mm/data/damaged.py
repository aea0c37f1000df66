"""Image files that cannot be read are named, wherever they are read."""

from collections.abc import Callable, Iterator
from typing import Any

from mmengine.dataset import Compose
from torch.utils.data import DataLoader, Dataset

from ..errors import CkdError, ImageError, in_a_line
from ..progress import Progress

BATCH = 64  # images between two steps of the progress


class NamingPipeline(Compose):
    """The transforms of a pipeline; raises ImageError, with the file, where one fails before there are
    pixels."""

    def __init__(self, transforms: list[Callable]) -> None:
        self.transforms = transforms

    def __call__(self, data: dict | None) -> dict | None:
        for transform in self.transforms:
            try:
                result = transform(data)
            except Exception as error:  # an assertion, one of cv2, pillow or the file system, ...
                if isinstance(error, CkdError) or 'img' in data or 'img_path' not in data:
                    raise
                raise ImageError(
                    f'image {data["img_path"]} cannot be read, it is missing or damaged '
                    f'({in_a_line(error)}). Mend it, '
                    'or put another image of its class in its place, under its name (without it other images '
                    'would be held out), then pass --resume') from error
            if result is None:
                return None
            data = result
        return data


def name_damaged(dataset: Any) -> Any:
    """The data set, which from now on names an image file that it cannot read; in place, also in others
    around it."""
    for one in data_sets_in(dataset):
        if type(vars(one).get('pipeline')) is Compose:
            one.pipeline = NamingPipeline(one.pipeline.transforms)
    return dataset


def data_sets_in(dataset: Any) -> Iterator[Any]:
    """It, and those that it wraps."""
    yield dataset
    for inner in [*getattr(dataset, 'datasets', ()), getattr(dataset, 'dataset', None)]:
        if inner is not None:
            yield from data_sets_in(inner)


class _Problems(Dataset):
    """Why each image of a data set cannot be read; None where it can."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = name_damaged(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> str | None:
        try:
            self.dataset[index]
        except ImageError as error:
            return str(error)
        return None


def damaged_images(dataset: Any, name: str, workers: int, log: Callable[[str], None]) -> int:
    """Read every image, and log those that cannot be read.

    Args:
        name: of the data set, for the log.
        workers: processes that read.

    Returns:
        How many they are.
    """
    loader = DataLoader(_Problems(dataset), batch_size=BATCH, num_workers=workers, collate_fn=list)
    found, progress = 0, Progress(log, f'{name}: reading {BATCH} images,', len(loader))
    for batch in loader:
        for problem in filter(None, batch):
            log(f'{name}: {problem}')
            found += 1
        progress.step()
    return found
