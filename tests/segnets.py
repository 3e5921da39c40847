"""What tests of segmentation networks share: pictures with a square, and a loss that asks to stop."""
from pathlib import Path

import numpy as np
from PIL import Image

from wood_nb.data.images import IGNORE, write_mask
from wood_nb.data.splits import Item, Split


def squares(folder: Path, count: int, open_rows: int) -> Split:
    "Pictures of 40x32 pixels with a square of class a or b in the working folder, which is `folder`; the first rows of their masks are open."
    items, rng = [], np.random.default_rng(0)
    for n in range(count):
        pixels, mask = rng.integers(0, 80, (32, 40, 3), np.uint8), np.zeros((32, 40), np.uint8)
        mask[8:24, 10:30], mask[:open_rows] = n % 2 + 1, IGNORE
        pixels[mask == n % 2 + 1] += np.array([[150, 0, 0], [0, 150, 0]], np.uint8)[n % 2]
        Image.fromarray(pixels).save(f'{n}.png')
        write_mask(f'masks/{n}.png', mask)
        items.append(Item(f'{n}', folder/f'{n}.png', (n % 2,), folder/f'masks/{n}.png'))
    return Split('train', items, ('a', 'b'), raw_classes=2)


def stopping_at_four(loss: type) -> type:
    "A loss of this kind that asks to stop in the fourth step, of a training in `halves`."
    class StopsAtFour(loss):
        calls = 0

        def __call__(self, net, batch):
            type(self).calls += 1
            if self.calls == 4: Path('halves/STOP').touch()
            return super().__call__(net, batch)

    return StopsAtFour
