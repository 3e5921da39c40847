"""Training segmentation networks: masks checked, crops in step, losses, rates, resuming, recipes."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from segnets import squares
from wood_nb.train.loop import build_optimizer, set_poly_rate
from wood_nb.train.safe import TrainingStopped
from wood_nb.base.files import DataError
from wood_nb.data.augment import normalise
from wood_nb.data.images import VOC_CLASSES, write_mask
from wood_nb.data.sources import load_voc
from wood_nb.data.splits import Item, Split
from wood_nb.maps.cam import Maps, save_maps
from wood_nb.nets.deeplab import build_segnet, open_segnet, SegOutput
from wood_nb.masks.learn import (_at_one_size, build_recipe, count_pixels, _jittered, layer_groups, MaskedImages, PairAugment,
                                 pixel_loss, plot_training, _quick_mask, quick_scores, recipe, RECIPES, seed_masks, SegLoss,
                                 SegTrainConfig, train_segnet, usable_masks, Validator, with_masks)
from wood_nb.scenes.scenes import draw_scene
from wood_nb.scores.seeds import confusion_matrix, Scores
from wood_nb.train.batches import Batch

CONFIG = SegTrainConfig(steps=6, batch_size=4, lr=0.02, lr_head=0.1, update_every=1, augment=PairAugment((1.0, 1.25), 32), checkpoint_every=2)


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def data(tmp):
    "Six pictures of 40x32 pixels with a square of class a or b; masks beside them."
    return squares(tmp, 6, 1)


def net(seed=0):
    torch.manual_seed(seed)
    return build_segnet('deeplab_tiny', ('a', 'b'))


def same(a, b): return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def as_published(image: np.ndarray, mask: np.ndarray, scale: float, crop: int) -> tuple[np.ndarray, np.ndarray]:
    "deeplab-pytorch's scaling and padding, pixel by pixel: bilinear between the four nearest centres, ignored below and to the right."
    height, width = (int(side * scale) for side in mask.shape)
    at = [np.clip((np.arange(n) + 0.5) * side / n - 0.5, 0, side - 1) for n, side in zip((height, width), mask.shape)]
    low = [np.floor(a).astype(int) for a in at]
    high = [np.minimum(a + 1, side - 1) for a, side in zip(low, mask.shape)]
    y, x = (a - b for a, b in zip(at, low))
    rows = image[:, low[0]] * (1 - y)[:, None] + image[:, high[0]] * y[:, None]
    out = np.zeros((3, max(height, crop), max(width, crop)))
    out[:, :height, :width] = rows[..., low[1]] * (1 - x) + rows[..., high[1]] * x
    flat = np.full(out.shape[1:], 255)
    flat[:height, :width] = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    return out, flat


@pytest.mark.parametrize('size, scale', [((37, 23), 0.5), ((37, 23), 1.25), ((30, 45), 0.75), ((50, 20), 1.0)])
def test_pairs_are_scaled_and_padded_as_deeplab_pytorch_does(size, scale):
    "Small pictures lie in the upper left corner; larger ones are cut at random; half are mirrored afterwards."
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.integers(0, 3, size, dtype=np.uint8)
    wanted, flat = as_published(normalise(Image.fromarray(image)).numpy(), mask, scale, 32)
    for seed in range(6):
        found, labels = PairAugment((scale,), 32, corner=True)(Image.fromarray(image), mask, np.random.default_rng(seed))
        found, labels = found.numpy(), labels.numpy()
        fits = [(y, x, turn) for y in range(wanted.shape[1] - 31) for x in range(wanted.shape[2] - 31) for turn in (1, -1)
                if abs(found[..., ::turn] - wanted[:, y:y + 32, x:x + 32]).max() < 1e-4 and (labels[:, ::turn] == flat[y:y + 32, x:x + 32]).all()]
        assert fits, (size, scale, seed)


def test_the_published_recipes_scale_as_deeplab_pytorch_does():
    assert {name: recipe(name).train.augment.corner for name in ('deeplab-pytorch', 'advcam-recipe', 'wr38', 'small', 'scenes')} == {
        'deeplab-pytorch': True, 'advcam-recipe': True, 'wr38': False, 'small': False, 'scenes': False}


# --- masks --------------------------------------------------------------------------------------------------------------

def test_masks_of_a_folder_replace_the_own_ones(data, tmp):
    for n in range(6): write_mask(tmp/f'other/{n}.png', np.full((32, 40), 2, np.uint8))
    other = with_masks(replace(data, lut=np.full(256, 7, np.uint8)), tmp/'other')
    assert (other.mask(0) == 2).all() and (data.mask(0) != 2).any() and other.classes == data.classes


def test_missing_masks_are_counted_and_named(data, tmp):
    for n in (1, 4): (tmp/f'masks/{n}.png').unlink()
    with pytest.raises(DataError, match=r'masks.1\.png: no such mask, and 1 more of 6'): with_masks(data, tmp/'masks')


def test_masks_of_another_size_are_refused_before_training(data, tmp):
    write_mask(tmp/'masks/3.png', np.zeros((16, 40), np.uint8))
    with pytest.raises(DataError, match='3.png: the mask is 40x16, its image 40x32'): train_segnet(net(), data, CONFIG, title=None)


def test_values_no_class_has_are_refused(data, tmp):
    write_mask(tmp/'masks/3.png', np.full((32, 40), 3, np.uint8))
    with pytest.raises(DataError, match='mask value 3, but there are 2 classes'): train_segnet(net(), data, CONFIG, title=None)


def test_an_rgb_mask_is_refused(data, tmp):
    Image.new('RGB', (40, 32)).save(tmp/'masks/2.png')
    with pytest.raises(DataError, match='2.png: the mask is RGB, not indexed'): count_pixels(data, None)


def test_masks_ignored_everywhere(data, tmp):
    nothing = np.full((32, 40), 255, np.uint8)
    write_mask(tmp/'masks/2.png', nothing)
    counts = count_pixels(data, None)
    with pytest.raises(DataError, match=r'2\.png: the mask is ignored .255. everywhere.*--skip-ignored'): usable_masks(data, counts)
    assert usable_masks(data, counts, skip_ignored=True).ids == ['0', '1', '3', '4', '5']
    for n in range(6): write_mask(tmp/f'masks/{n}.png', nothing)
    with pytest.raises(DataError, match='all 6 masks are ignored'): usable_masks(data, count_pixels(data, None), skip_ignored=True)


def test_a_class_that_never_occurs(data):
    odd = replace(data, classes=('a', 'b', 'c'))
    with pytest.raises(DataError, match='no mask shows c, so the network cannot learn it'): usable_masks(odd, count_pixels(odd, None))
    with pytest.warns(UserWarning, match='no mask shows c; the network cannot learn that'):
        assert len(usable_masks(odd, count_pixels(odd, None), absent='allow')) == 6


def test_counts_are_pixels(data):
    counts = count_pixels(data, None)
    assert counts.tolist()[0] == [31*40 - 320, 320, 0, 40] and (counts.sum(1) == 32*40).all()


def test_seeds_become_masks(data, tmp):
    heat = np.zeros((1, 8, 10), np.float32)
    heat[:, 2:6, 2:8] = 1
    for n in range(6): save_maps(tmp/f'maps/{n}.npz', Maps(np.array([n % 2]), heat, (32, 40)))
    folder = seed_masks(data, tmp/'maps', 0.5, tmp/'seeds')
    made = with_masks(data, folder)
    assert set(np.unique(made.mask(1))) == {0, 2} and 200 < (made.mask(1) == 2).sum() < 500
    with pytest.raises(DataError, match='masks made otherwise .threshold'): seed_masks(data, tmp/'maps', 0.6, tmp/'seeds')


# --- augmentation -------------------------------------------------------------------------------------------------------

def test_image_and_mask_stay_in_step():
    rng = np.random.default_rng(0)
    mask = np.kron(rng.integers(0, 3, (6, 8)), np.ones((8, 8))).astype(np.uint8)
    image = Image.fromarray(np.stack([mask*100, 255 - mask*100, mask*50], -1).astype(np.uint8))
    for _ in range(20):
        pixels, labels = PairAugment((1.0,), 40)(image, mask, rng)
        red = (pixels[0]*0.229 + 0.485)*255/100
        inside = labels != 255
        assert torch.allclose(red[inside], labels[inside].float(), atol=0.02) and inside.any()


def test_padding_is_ignored_and_ignored_stays():
    mask = np.full((10, 10), 255, np.uint8)
    mask[:5] = 3
    pixels, labels = PairAugment((1.0,), 20, mirror=0)(Image.new('RGB', (10, 10), (9, 9, 9)), mask, np.random.default_rng(0))
    assert (labels == 3).sum() == 50 and (labels == 255).sum() == 350 and (pixels[0] == 0).sum() == 300


def test_colour_jitter_leaves_the_mask_alone():
    image, mask = Image.new('RGB', (30, 30), (200, 100, 50)), np.ones((30, 30), np.uint8)
    pixels, labels = PairAugment((1.0,), 30, colour=0.5)(image, mask, np.random.default_rng(3))
    plain, _ = PairAugment((1.0,), 30)(image, mask, np.random.default_rng(3))
    assert (labels == 1).all() and (pixels - plain).abs().max() > 0.05
    hues = {Image.fromarray(np.asarray(_jittered(image, 0.5, np.random.default_rng(n)))).convert('HSV').getpixel((0, 0))[0] for n in range(8)}
    assert len(hues) > 2 and _jittered(image, 0, np.random.default_rng(0)).getpixel((0, 0)) == (200, 100, 50)


def test_augmentation_is_a_function_of_seed_epoch_and_index(data):
    one, two = (MaskedImages(data, CONFIG.augment, s) for s in (0, 1))
    assert torch.equal(one[0, 1][0], MaskedImages(data, CONFIG.augment, 0)[0, 1][0]) and not torch.equal(one[0, 1][0], two[0, 1][0])


# --- losses and rates ---------------------------------------------------------------------------------------------------

def test_plain_is_the_usual_cross_entropy():
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 5, 5), torch.randint(0, 3, (2, 5, 5))
    masks[0, 0] = 255
    assert torch.allclose(pixel_loss(logits, masks, False), F.cross_entropy(logits, masks, ignore_index=255))


def test_balanced_averages_background_and_the_rest_apart():
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 5, 5), torch.randint(0, 3, (2, 5, 5))
    each = F.cross_entropy(logits, masks, reduction='none')
    assert torch.allclose(pixel_loss(logits, masks, True), each[masks == 0].mean() + each[masks > 0].mean())


@pytest.mark.parametrize('value', [255, 0, 1])
@pytest.mark.parametrize('balanced', [True, False])
def test_one_sided_masks_give_no_nan(value, balanced):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    pixel_loss(logits, torch.full((1, 4, 4), value), balanced).backward()
    assert torch.isfinite(logits.grad).all() and (value == 255) == (logits.grad == 0).all()


def test_parts_are_added_with_their_weights(data):
    from wood_nb.train.batches import Batch
    pyramid = build_segnet('deeplab_tiny', ('a', 'b'), pyramid=(0.5,)).eval()
    images, masks = torch.randn(1, 3, 32, 32), torch.randint(0, 3, (1, 32, 32))
    with torch.no_grad(): terms, out = SegLoss(CONFIG, data)(pyramid, Batch(images, masks)), pyramid(images)
    small = [F.interpolate(masks[None].float(), o.shape[-2:], mode='nearest-exact')[0].long() for _, o in out.parts]
    assert torch.allclose(terms['loss'], sum(pixel_loss(o, m, True) for (_, o), m in zip(out.parts, small)))
    assert torch.allclose(terms['pixels'], pixel_loss(out.logits, small[0], True))


def test_layer_wise_rates_and_what_stays_fixed():
    made = net()
    groups = layer_groups(made, SegTrainConfig(lr=1.0, lr_head=10.0))
    assert [g['lr'] for g in groups] == [1.0, 10.0, 20.0] and groups[2]['weight_decay'] == 0
    assert all(p.ndim == 4 for p in groups[0]['params']) and not made.backbone.layer1.bn1.weight.requires_grad
    assert len(layer_groups(net(), SegTrainConfig(train_norm=True))[0]['params']) > len(groups[0]['params'])


def test_the_rate_falls_in_stairs():
    config = SegTrainConfig(lr=1.0, lr_head=10.0)
    optimizer = build_optimizer(net(), config)
    rates = [set_poly_rate(optimizer, config.rate_step(step), 100, 0.9) for step in range(30)]
    assert rates[:10] == [1.0]*10 and rates[10:20] == [0.9**0.9]*10 and optimizer.param_groups[2]['lr'] == pytest.approx(20*0.8**0.9)


# --- training -----------------------------------------------------------------------------------------------------------

def test_training_learns_and_logs(data, tmp):
    made = net()
    config = replace(CONFIG, steps=30, freeze_norm=False, train_norm=True, lr=0.01, lr_head=0.02, clip=1.0)
    training = train_segnet(made, data, config, tmp/'out', data, validate_every=10, title=None)
    assert [row['step'] for row in training.validation] == [10, 20, 30] and training.validation[-1]['split'] == 'train'
    assert training.validation[-1]['miou'] > 45 and training.log[-1]['loss'] < 0.8*training.log[0]['loss']
    assert sorted(o.name for o in (tmp/'out').iterdir()) == ['progress.png', 'train.jsonl', 'validation.jsonl', 'weights.safetensors']
    assert same(open_segnet(tmp/'out'/'weights.safetensors', ('a', 'b')), made) and quick_scores(made, data).miou == pytest.approx(training.validation[-1]['miou']/100, abs=1e-4)
    assert plot_training({'it': training}).png()[:4] == b'\x89PNG'


class StopAfter(Validator):
    "Asks to stop at a step, in the middle of validating."
    def __call__(self, step, net):
        super().__call__(step, net)
        if step == 3: (self.out/'STOP').touch()


def test_interrupted_and_resumed_is_bit_identical(data, tmp, monkeypatch):
    whole, first, second = net(), net(), net(seed=5)
    expected = train_segnet(whole, data, CONFIG, tmp/'whole', data, 2, title=None)
    monkeypatch.setattr('wood_nb.masks.learn.Validator', StopAfter)
    with pytest.raises(TrainingStopped): train_segnet(first, data, CONFIG, tmp/'halves', data, 2, title=None)
    monkeypatch.setattr('wood_nb.masks.learn.Validator', Validator)
    resumed = train_segnet(second, data, CONFIG, tmp/'halves', data, 2, title=None)
    assert same(whole, second) and resumed.validation == expected.validation and [r['step'] for r in resumed.log] == list(range(1, 7))


def test_a_checkpoint_of_other_masks_is_refused(data, tmp, monkeypatch):
    monkeypatch.setattr('wood_nb.masks.learn.Validator', StopAfter)
    with pytest.raises(TrainingStopped): train_segnet(net(), data, CONFIG, tmp/'out', data, 2, title=None)
    write_mask(tmp/'masks/0.png', np.pad(np.ones((20, 30), np.uint8), ((6, 6), (5, 5))))
    with pytest.raises(DataError, match='differs in loss'): train_segnet(net(), data, CONFIG, tmp/'out', title=None)
    with pytest.raises(DataError, match='differs in .*balanced'): train_segnet(net(), data, replace(CONFIG, balanced=False), tmp/'out', title=None)


def test_micro_batches_are_the_same_training_with_the_plain_loss(data):
    nets = [net(), net()]
    for made, parts in zip(nets, (1, 2)):
        train_segnet(made, data, replace(CONFIG, steps=2, accumulate=parts, balanced=False, augment=PairAugment((1.0,), 32)), title=None)
    away = [torch.cat([p.flatten() for p in made.parameters()]) for made in nets]
    assert (away[0] - away[1]).norm() < 0.02*(away[0] - torch.cat([p.flatten() for p in net().parameters()])).norm()


# --- recipes ------------------------------------------------------------------------------------------------------------

def test_the_published_recipes():
    ours, port = recipe('advcam-recipe'), recipe('deeplab-pytorch')
    assert (ours.train.steps, ours.train.batch_size, ours.train.lr, ours.train.lr_head) == (30_000, 10, 2.5e-4, 2.5e-3)
    assert ours.train.balanced and ours.train.augment.scales == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0) and ours.train.update_every == 10
    assert port.train.steps == 20_000 and port.train.accumulate == 2 and not port.train.balanced and port.pyramid == (0.5, 0.75)
    assert port.train.weight_decay == 5e-4 and port.train.augment == PairAugment((0.5, 0.75, 1.0, 1.25, 1.5), 321, corner=True)


def test_the_recipe_of_wideresnet38():
    "As SEAM's author trains it (method.md, 3.5); without the converted file it does not begin."
    made = recipe('wr38')
    train = made.train
    assert (made.network, train.steps, train.batch_size, train.augment.crop) == ('deeplab1_wideresnet38', 20_000, 10, 448)
    assert (train.lr, train.lr_head/train.lr, train.bias_factor, train.momentum, train.weight_decay) == (1e-3, 10, 1, 0.9, 5e-4)
    assert (min(train.augment.scales), max(train.augment.scales)) == (0.5, 1.5) and train.augment.colour > 0 and made.crf == 'seam-test'
    assert made.scales == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75) and made.mirror and made.weights == 'imagenet'
    with pytest.raises(DataError, match='no WideResNet-38; give the converted file'): build_recipe(made, ('a', 'b'))


def test_a_new_head_trains_its_batch_norms(data):
    "Frozen are the backbone's only: the head's stand at mean 0 and variance 1 in the beginning."
    from torch import nn

    from wood_nb.nets.camnet import freeze_norm
    from wood_nb.nets.deeplab import FieldOfView, SegNet
    made = net()
    wide = SegNet(made.backbone, FieldOfView(128, 3, width=8), ('a', 'b'), made.stages, {})
    before = wide.backbone.layer1.bn1.running_mean.clone()
    train_segnet(wide, data, replace(CONFIG, steps=2), title=None)
    assert wide.classifier.bn_fov.running_mean.abs().max() > 0 and torch.equal(wide.backbone.layer1.bn1.running_mean, before)
    freeze_norm(wide.train())
    norms = {name: m.training for name, m in wide.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert all(training == name.startswith('classifier.') for name, training in norms.items())
    assert not any(m.training for m in wide.eval().modules())


def test_options_of_a_recipe():
    plain, made = RECIPES['scenes'], recipe('scenes', steps=9, seed=4, mirror=True, weights=None)
    assert made.train.steps == 9 and made.train.seed == 4 and made.mirror
    assert RECIPES['scenes'] is plain and plain.train.steps > 9 and plain.train.seed == 0 and not plain.mirror
    with pytest.raises(DataError, match='choose from deeplab-pytorch'): recipe('unet')
    with pytest.raises(DataError, match="no option 'stepz'"): recipe('scenes', stepz=3)


def test_a_recipe_builds_the_same_network_for_the_same_seed():
    assert same(*(build_recipe(recipe('scenes', seed=3), ('a', 'b')) for _ in range(2)))
    assert not same(*(build_recipe(recipe('scenes', seed=s), ('a', 'b')) for s in (1, 2)))


# --- which pixel a cell stands for --------------------------------------------------------------------------------------

class Oracle(torch.nn.Module):
    "A network that learns its labels without a fault: logits of its own for one picture, at stride 8, whatever it is shown."
    def __init__(self, size, values):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(1, values, *((side - 1)//8 + 1 for side in size)))

    def forward(self, images): return SegOutput(self.logits, ((1.0, self.logits),))


def oracle_miou(split, config, steps=8):
    "mIoU of the oracle, trained on each picture of the split by the loss of a recipe, and asked as its network is."
    loss, total = SegLoss(config, split), 0
    for i in range(len(split)):
        mask = split.mask(i)
        net = Oracle(mask.shape, split.n_classes + 1)
        optimizer = torch.optim.Adam(net.parameters(), 1.0)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(net, Batch(torch.zeros(1, 3, *mask.shape), torch.from_numpy(mask)[None].long()))['loss'].backward()
            optimizer.step()
        total = total + confusion_matrix(_quick_mask(net, split.image(i)), mask, split.n_classes + 1)
    return 100*Scores.from_confusion(total, split.classes).miou


@pytest.fixture(scope='module')
def large_scenes(tmp_path_factory):
    "Six drawn scenes of 321 pixels with their masks."
    folder = tmp_path_factory.mktemp('large')
    for n, i in enumerate((0, 1, 3, 4, 6, 7)):
        scene = draw_scene(0, 'val', i, 321)
        scene.picture.save(folder/f'{n}.png')
        write_mask(folder/f'masks/{n}.png', scene.mask)
    items = [Item(f'{n}', folder/f'{n}.png', (), folder/f'masks/{n}.png') for n in range(6)]
    masks = np.unique(np.concatenate([np.unique(Split('val', items, VOC_CLASSES, raw_classes=20).mask(n)) for n in range(6)]))
    lut = np.full(256, 255, np.uint8)
    lut[masks] = np.arange(len(masks))  # only the classes that are there, so that none is missed
    return Split('val', items, tuple(VOC_CLASSES[v - 1] for v in masks[1:]), lut=lut, raw_classes=20)


@pytest.mark.parametrize('name', RECIPES)
def test_an_oracle_of_every_recipe_keeps_the_masks(large_scenes, name):
    assert oracle_miou(large_scenes, RECIPES[name].train) > 90


@pytest.mark.parametrize('name', RECIPES)
def test_an_oracle_of_every_recipe_keeps_the_masks_of_photographs(shared, name):
    split = load_voc(shared/'data'/'voc-animals', 'train')
    assert oracle_miou(split.subset(range(0, len(split), len(split)//8)), RECIPES[name].train) > 90


def test_labels_lie_in_the_middle_of_their_cells():
    for cells in (41, 31, 21, 20, 30):
        columns = torch.arange(321).expand(1, 321, 321)
        _, found = _at_one_size(torch.zeros(1, 2, cells, cells), columns, False)
        middles = (torch.arange(cells) + 0.5)*321/cells - 0.5
        assert (found[0, 0] - middles).abs().max() <= 0.5 and abs(float((found[0, 0] - middles).mean())) < 0.1
        pillow = np.asarray(Image.fromarray(columns[0].numpy().astype(np.int32)).resize((cells, cells), Image.Resampling.NEAREST))
        assert np.array_equal(found[0].numpy(), pillow), "as Pillow's nearest neighbour"
        assert torch.equal(_at_one_size(torch.zeros(1, 2, cells, cells), columns.mT, False)[1], found.mT)


def test_thinned_masks_keep_what_is_not_known():
    mask = torch.full((1, 33, 17), 255)
    assert (_at_one_size(torch.zeros(1, 2, 5, 3), mask, False)[1] == 255).all()
