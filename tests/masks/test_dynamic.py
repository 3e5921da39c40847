"""SSDD from end to end: what a step makes of its masks, a training that is resumed, networks of any kind, and what is refused. (Modules
and losses against the reference's numbers: test_ssdd.py.)"""
from dataclasses import replace

import pytest
import torch
from torch import nn

from segnets import squares, stopping_at_four
from wood_nb.base.files import DataError
from wood_nb.data.images import IGNORE
from wood_nb.maps.methods import DYNAMIC as NAME, method_name
from wood_nb.masks.cian import ShownImages
from wood_nb.masks.crf import crf_config
from wood_nb.masks.dynamic import (after_crf, DynamicConfig, DynamicLoss, DynamicNet, DynamicTrainConfig, own_classes, reopen, show_step,
                                   with_dynamic)
from wood_nb.masks.learn import build_recipe, PairAugment, quick_scores, recipe, train_segnet
from wood_nb.masks.segment import final_segmentation
from wood_nb.masks.ssdd import Rule
from wood_nb.nets.deeplab import build_segnet, open_segnet, SegNet
from wood_nb.nets.weights import save_weights
from wood_nb.runs.config import SegmentConfig
from wood_nb.runs.final import learnt_name
from wood_nb.train.batches import Batch
from wood_nb.train.safe import TrainingStopped

pytestmark = pytest.mark.usefixtures('one_thread')
SMALL = DynamicConfig(width=8, difference_width=8, dilation=2, crf_scale=8.0)
CONFIG = DynamicTrainConfig(steps=6, batch_size=4, lr=0.01, lr_head=0.02, freeze_norm=False, train_norm=True, dynamic=SMALL,
                            augment=PairAugment((1.0,), 32))


@pytest.fixture
def data(tmp):
    "Eight pictures of 40x32 pixels with a square of class a or b, and masks that leave four rows open."
    return squares(tmp, 8, 4)


def net(seed=0, name='deeplab_tiny', config=SMALL, **options):
    torch.manual_seed(seed)
    return DynamicNet(build_segnet(name, ('a', 'b'), **options), config)


def batch_of(data) -> Batch:
    pixels, masks, shown = map(torch.stack, zip(*(ShownImages(data, CONFIG.augment, 0)[0, n] for n in range(4))))
    return Batch(pixels, masks, None, shown)


def same(a, b): return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def test_where_the_masks_of_a_step_come_from(data):
    batch, made = batch_of(data), net()
    out = made.train()(batch.images, batch.labels, batch.shown)
    (m, crf, S, sub), (first, second) = out.masks, out.modules
    assert S.shape == (4, 8, 8) and out.differences.shape == (4, 4, 8, 8)
    assert ((first.masks == m) | (first.masks == crf)).all() and ((second.masks == S) | (second.masks == first.masks)).all()
    unknown = S == IGNORE
    assert unknown.any() and all((mask[unknown] == IGNORE).all() for mask in (m, crf, sub, second.masks))
    for mask, shown in zip(torch.cat([m, crf], 1), batch.shown):
        assert set(mask.unique().tolist()) <= {0, int(shown.argmax()) + 1, IGNORE}, 'among the classes of the image'


def test_the_rule_decides_between_seed_and_answer(data):
    batch = batch_of(data)
    for bias, place in ((2.0, 0), (-2.0, 2)):
        made = net(config=replace(SMALL, rule=Rule(bias=bias, background=0.0, lost=0.0)))
        out = made.train()(batch.images, batch.labels, batch.shown)
        assert torch.equal(out.modules[1].masks, (out.modules[0].masks, None, out.masks.seed)[place])


def test_differences_teach_the_backbone_nothing(data):
    batch, made = batch_of(data), net().train()
    terms = DynamicLoss(CONFIG, data)(made, batch)
    terms['difference'].backward(retain_graph=True)
    assert all(p.grad is None for part in (made.backbone, made.classifier, made.sub) for p in part.parameters())
    terms['segment'].backward()
    assert all(p.grad is not None for p in made.sub.parameters() if p.requires_grad)
    assert torch.isclose(terms['loss'], terms['main'] + terms['sub'] + sum(terms[f'dd{n}'] for n in ('00', '01', '10', '11'))/4)


def test_the_crf_of_a_step_keeps_to_the_classes_and_to_the_picture(data):
    batch = batch_of(data)
    logits = torch.zeros(4, 3, 8, 8)
    logits[:, 1:] = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    found = after_crf(batch.images, logits, batch.shown, crf_config('ssdd').at_scale(14))
    assert found.shape == (4, 8, 8) and not (found[0] == 2).any() and not (found[1] == 1).any()
    assert not after_crf(batch.images, logits, torch.zeros(4, 2), crf_config('ssdd')).any(), 'no class at all: background'
    still = after_crf(batch.images, logits, batch.shown, replace(crf_config('ssdd'), iterations=0))
    assert torch.equal(still, own_classes(logits, batch.shown))


@pytest.mark.parametrize('name, size', [('deeplab_tiny', 32), ('deeplab_mobilenet', 64), ('deeplab3_resnet50', 33)])
def test_any_network_is_trained_and_answers_with_its_main_head(name, size):
    made, images = net(name=name), torch.randn(1, 3, size, size)
    made.train()(images, torch.zeros(1, size, size, dtype=torch.int64), torch.ones(1, 2)).logits.sum().backward()
    with torch.no_grad(): out = made.eval()(images)
    assert out.logits.shape == (1, 3, -(-size//4), -(-size//4)) and torch.equal(out.parts[0][1], out.logits)


def test_a_network_is_saved_and_opened(tmp):
    made, images = net().eval(), torch.randn(1, 3, 32, 32)
    save_weights(made, 'end.safetensors')
    again = reopen('end.safetensors', ('a', 'b'))
    assert isinstance(again, DynamicNet) and same(made, again) and torch.equal(made(images).logits, again(images).logits)
    with pytest.raises(DataError, match='parts of its own .dual.; open it with wood_nb.masks.dynamic.reopen'): open_segnet('end.safetensors')
    with pytest.raises(DataError, match='was trained for 2 classes'): reopen('end.safetensors', ('a',))


def test_training_learns(data, tmp):
    made = net()
    log = train_segnet(made, data, replace(CONFIG, steps=30), tmp/'out', title=None).log
    assert quick_scores(made, data).miou > 0.4 and log[-1]['loss/sub'] < 0.8*log[0]['loss/sub']
    norms = [m for part in (made.classifier, made.first) for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(not norm.running_mean.any() and (norm.weight == 1).all() for norm in norms), 'the new norms learn nothing'


def test_interrupted_and_resumed_is_bit_identical(data, tmp, monkeypatch):
    whole, first, second = net(), net(), net(seed=5)
    expected = train_segnet(whole, data, CONFIG, tmp/'whole', title=None)
    with monkeypatch.context() as patch:
        patch.setattr('wood_nb.masks.dynamic.DynamicLoss', stopping_at_four(DynamicLoss))
        with pytest.raises(TrainingStopped): train_segnet(first, data, CONFIG, tmp/'halves', title=None)
    with pytest.raises(DataError, match='differs in dynamic'):
        train_segnet(net(), data, replace(CONFIG, dynamic=replace(SMALL, rule=Rule())), tmp/'halves', title=None)
    resumed = train_segnet(second, data, CONFIG, tmp/'halves', title=None)
    assert same(whole, second) and [row['loss'] for row in resumed.log] == [row['loss'] for row in expected.log] and len(resumed.log) == 6


def test_a_recipe_from_end_to_end(data, tmp):
    made = with_dynamic(recipe('scenes', steps=2, batch_size=4, augment=PairAugment((1.0,), 32)), SMALL)
    assert isinstance(build_recipe(made, ('a', 'b')), DynamicNet) and with_dynamic(recipe('advcam-recipe')).pyramid == ()
    assert learnt_name('wood+irn', made) == f'wood+irn+{NAME}' and method_name(f'wood+{NAME}') == 'W-OoD + SSDD end to end'
    rows = final_segmentation(tmp/'out', f'wood+{NAME}', data, [data.subset([0], 'val')], made, title=None)
    assert rows[0]['method'] == f'wood+{NAME}' and (tmp/'out/masks/val/0.png').is_file()


def test_sizes_and_the_released_code():
    assert DynamicConfig.sized(448) == DynamicConfig() and DynamicConfig.sized(112) == DynamicConfig(64, 64, 3, crf_scale=4.0)
    official = DynamicTrainConfig.official()
    assert official.momentum == 0 and official.dynamic.rule == Rule(bias=0.4, background=0.0) and official.dynamic.refinement.iterations == 3


def test_a_step_is_shown(data): assert len(show_step(net(), data, [0, 1]).axes) == 16


def test_what_is_refused(data):
    nameless = SegNet(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 1), ('a', 'b'), [], {'network': 'own'})
    with pytest.raises(DataError, match='names its stages'): DynamicNet(nameless)
    with pytest.raises(DataError, match='must carry labels'): DynamicLoss(CONFIG, data)(net(), Batch(torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8)))
    for options in (dict(width=0), dict(dilation=0.5), dict(crf_scale=0)):
        with pytest.raises(DataError, match=next(iter(options))): DynamicConfig(**options)
    with pytest.raises(DataError, match="CRF 'other' is not known"): DynamicConfig(crf='other')
    for other in ('cross', 'growing'):
        with pytest.raises(DataError, match='give one of them'): SegmentConfig(ssdd=True, **{other: True})
