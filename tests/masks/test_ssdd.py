"""SSDD: the rule, the loss and the networks against the reference's numbers; pairs that move with their picture; what is refused."""
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.base.files import DataError, read_json, write_json
from wood_nb.train.safe import TrainingStopped
from wood_nb.data.augment import denormalise
from wood_nb.data.images import IGNORE, write_mask
from wood_nb.data.splits import Item, Split
from wood_nb.masks.dynamic import dynamic_loss, dynamic_modules, DynamicMasks, own_classes
from wood_nb.masks.learn import PairAugment
from wood_nb.masks.ssdd import (difference_loss, DifferenceHead, DifferenceNet, differences, flagged, load_differences, mask_pairs, MaskPairs, open_ssdd, preference, read_pair, refined,
                                refined_mask, Rule, SegmentationHead, show_differences, ssdd_masks, SSDDConfig, SSDDLoss, SSDDNet,
                                SSDDTrain, store_differences, thinned, train_ssdd, two_features)
from wood_nb.nets.backbones import build_net
from wood_nb.nets.weights import save_weights
from wood_nb.nets.wrap import wrap

pytestmark = pytest.mark.usefixtures('one_thread')
CLASSES = ('a', 'b', 'c')


@pytest.fixture
def case(golden, request):
    with np.load(golden/f'{request.param}.npz', allow_pickle=False) as file: return dict(file)


def tensors(case, *names): return [torch.from_numpy(case[name]) for name in names]


def off(found, wanted) -> float:
    "Largest difference relative to the largest value."
    found, wanted = (np.asarray(torch.as_tensor(o).detach(), np.float64).squeeze() for o in (found, wanted))
    assert found.shape == wanted.shape, f'{found.shape} instead of {wanted.shape}'
    return float(np.abs(found - wanted).max()/np.abs(wanted).max())


def near(found, wanted) -> bool: return bool(np.abs(np.asarray(found.detach()).squeeze() - np.asarray(wanted).squeeze()).max() < 1e-5)


def filled(module):
    "A module with the weights of the golden files."
    for name, p in module.named_parameters():
        if p.ndim == 4:
            g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            p.data = torch.randn(p.shape, generator=g)*(2/p[0].numel())**.5
        elif name.endswith('bias'): p.data.zero_()
    return module.eval()


@pytest.mark.parametrize('case', ['ssdd_rule'], indirect=True)
def test_the_rule_is_the_references(case):
    K, A, labels, dK, dA = tensors(case, 'knowledge', 'advice', 'label', 'dK', 'dA')
    d, dynamic = torch.cat([dK, dA], 1), Rule(bias=.4, background=0.)
    flags = flagged(K, A, labels)
    assert torch.equal(flags.float(), torch.from_numpy(case['ignore_flags']))
    for rule, name in ((Rule(), 'static'), (dynamic, 'dynamic')):
        assert near(preference(K, A, d, flags, rule), case[f'w_{name}'])
        found = refined(K, A, labels, d, rule)
        assert torch.equal(found.masks, torch.from_numpy(case[f'refined_{name}'])) and torch.equal(found.flags, flags)
    assert torch.equal(refined(K, A, labels, d, Rule(sign='swapped')).masks, torch.from_numpy(case['refined_static_swapped']))


@pytest.mark.parametrize('case', ['ssdd_rule'], indirect=True)
def test_the_loss_is_the_references_with_its_gradient(case):
    K, A, labels, dK, dA = tensors(case, 'knowledge', 'advice', 'label', 'dK', 'dA')
    dK.requires_grad_()
    dA.requires_grad_()
    flags = flagged(K, A, labels)
    of_K, of_A = (difference_loss(d[:, 0], K, A, flags) for d in (dK, dA))
    loss = (of_K + of_A)/2
    loss.backward()
    assert near(of_K, case['loss_K']) and near(of_A, case['loss_A']) and near(loss, case['loss'])
    assert off(dK.grad, case['grad_dK']) < 1e-4 and off(dA.grad, case['grad_dA']) < 1e-4
    assert near(difference_loss(dK[:, 0], K, A), case['loss_whole_batch'])


@pytest.mark.parametrize('case', ['ssdd_rule'], indirect=True)
def test_the_net_is_given_the_references_planes(case):
    seen = []
    net = DifferenceNet(21, 256)
    net.conv1c.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    K = torch.from_numpy(case['knowledge'])
    net(torch.zeros(len(K), 256, *K.shape[1:]), K)
    assert torch.equal(seen[0], torch.from_numpy(case['onehot_K']).float())


@pytest.mark.parametrize('case', ['ssdd_net'], indirect=True)
def test_the_networks_are_the_references(case):
    features, low, masks = tensors(case, 'features', 'low', 'mask')
    width = {24: 16, 20: 10}[features.shape[1]]
    segment, net = filled(SegmentationHead(features.shape[1], 21, width)), filled(DifferenceNet(21, 256))
    head = filled(DifferenceHead(width, low.shape[1], 256))
    with torch.no_grad():
        logits, feature = segment(features)
        both = head(feature, low)
        found = net(both, masks)
    for mine, name in ((logits, 'logits'), (feature, 'feature'), (both, 'head')): assert off(mine[:, :4], case[f'{name}_first4']) < 1e-4, name
    assert off(found, case['difference']) < 1e-4


@pytest.mark.parametrize('case', ['ssdd_dynamic'], indirect=True)
def test_the_end_to_end_stage_is_the_references(case):
    masks = DynamicMasks(*tensors(case, 'mask_main', 'mask_main_crf', 'seed', 'mask_sub'))
    labels, d, main, sub = (o.float() for o in tensors(case, 'label', 'd', 'logits_main', 'logits_sub'))
    modules = dynamic_modules(masks, labels, d)
    for n, found in enumerate(modules):
        assert torch.equal(found.flags.float(), torch.from_numpy(case[f'flags{n}']))
        assert torch.equal(found.masks, torch.from_numpy(case[f'refined{n}']))
    terms = dynamic_loss(main, sub, masks, modules, d)
    names = dict(main='loss_seg_main', sub='loss_seg_sub', segment='loss_seg', difference='loss_dd',
                 **{f'dd{n}': f'loss_dd{n}' for n in ('00', '01', '10', '11')})
    for ours, theirs in names.items(): assert near(terms[ours], case[theirs]), theirs
    assert torch.isclose(terms['loss'], terms['segment'] + terms['difference'])


def test_the_rule_holds_for_any_number_of_classes_and_any_size():
    "Pixel by pixel, as it is written."
    g = torch.Generator().manual_seed(3)
    K, A = (torch.randint(0, 4, (2, 5, 9), generator=g).byte() for _ in range(2))
    labels, d, rule = torch.tensor([[1., 0, 1], [0, 1, 1]]), torch.randn(2, 2, 5, 9, generator=g), Rule(bias=-.2, background=.3, lost=.9)
    found = refined(K, A, labels, d, rule)
    for b in range(2):
        flags = [c > 0 and labels[b, c - 1] == 1 and float((A[b] == c).sum())/max(float((K[b] == c).sum()), 1) < .9 for c in range(4)]
        assert found.flags[b].tolist() == flags
        for y, x in np.ndindex(5, 9):
            k, a = int(K[b, y, x]), int(A[b, y, x])
            s = d[b, :, y, x].sigmoid()
            w = s[0] - s[1] - .2 + .3*(int(a == 0) - int(k == 0)) + int(flags[a]) - int(flags[k])
            assert found.masks[b, y, x] == (a if w >= 0 else k)


def test_what_is_lost_of_an_ignored_pixel_is_nothing():
    K = torch.full((1, 2, 2), IGNORE, dtype=torch.uint8)
    found = refined(K, K, torch.ones(1, 3), torch.zeros(1, 2, 2, 2))
    assert torch.equal(found.masks, K)


@pytest.mark.parametrize('after', [0, 1])
def test_nothing_or_everything_changed_is_a_finite_loss(after):
    d = torch.randn(2, 6, 5, requires_grad=True)
    K = torch.zeros(2, 6, 5, dtype=torch.uint8)
    flags = torch.zeros(2, 4, dtype=torch.bool)
    want = torch.nn.functional.binary_cross_entropy_with_logits(d, torch.full_like(d, after))/2  # the other side counts as 0
    for found in (difference_loss(d, K, K + after, flags), difference_loss(d, K, K + after)):
        assert torch.isclose(found, want)
        found.backward()
        assert torch.isfinite(d.grad).all()


def test_flagged_images_teach_nothing():
    d, K = torch.randn(2, 6, 5), torch.zeros(2, 6, 5, dtype=torch.uint8)
    A, flags = K.clone(), torch.zeros(2, 4, dtype=torch.bool)
    A[:, :3] = 2
    flags[1, 2] = True
    assert torch.isclose(difference_loss(d, K, A, flags), difference_loss(d[:1], K[:1], A[:1]))
    flags[0, 1] = True
    assert difference_loss(d, K, A, flags) == 0
    unknown = torch.full_like(K, IGNORE)
    assert difference_loss(d, unknown, A) == 0


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (2, 3), (12, 30), (13, 13)])
def test_the_dilation_shrinks_with_the_grid(size):
    head = SegmentationHead(4, 3, 5)
    logits, feature = head(torch.randn(2, 4, *size), (2*size[0], 2*size[1]))
    assert logits.shape == (2, 3, 2*size[0], 2*size[1]) and feature.shape[1] == 5
    if size == (12, 30):  # one less than the shorter side
        fits = SegmentationHead(4, 3, 5, dilation=11)
        fits.load_state_dict(head.state_dict())
        x = torch.randn(1, 4, 12, 30)
        assert torch.equal(head(x)[0], fits(x)[0])


@pytest.mark.parametrize('backbone,low', [('tiny', 24), ('mobilenet_v2', 24), ('resnet18', 64)])
def test_any_backbone(backbone, low):
    classifier = build_net(backbone, CLASSES)
    net = SSDDNet(classifier, SSDDConfig(width=8, difference_width=8, dilation=2)).eval()
    with torch.no_grad(): out = net(torch.zeros(1, 3, 65, 98), torch.zeros(1, 2, 17, 25, dtype=torch.uint8))
    assert net.head.conv1ab.conv1.weight.shape[1] == 8 + low
    assert out.logits.shape == (1, 4, 17, 25) and out.differences.shape == (1, 2, 17, 25)


def test_the_low_feature_of_wideresnet_is_normalised_and_rectified():
    net = build_net('wideresnet38', CLASSES).eval()
    with torch.no_grad(): low, high = two_features(net.backbone, net.stages, torch.randn(1, 3, 32, 32))
    assert low.shape == (1, 128, 16, 16) and low.min() >= 0 and high.shape == (1, 4096, 4, 4) and high.min() >= 0


def scenes(folder: Path, n: int = 6, size: int = 48) -> Split:
    "Squares of three colours on grey, with masks that spill (`K`) and masks that do not (`A`), but have noise of their own."
    rng, items = np.random.default_rng(0), []
    for k in range(n):
        c, (y, x) = k % 3, rng.integers(8, 20, 2)
        picture, mask = np.full((size, size + 8, 3), 110, np.uint8), np.zeros((size, size + 8), np.uint8)
        picture[y:y + 20, x:x + 20] = np.eye(3, dtype=np.uint8)[c]*200
        mask[y:y + 20, x:x + 20] = c + 1
        picture = (picture + rng.integers(0, 20, picture.shape)).astype(np.uint8)
        Path(folder/'images').mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder/'images'/f'i{k}.png')
        spilt, noisy = mask.copy(), mask.copy()
        spilt[y:y + 20, x - 6:x] = c + 1
        noisy[size - 4:, :4] = c + 1
        for name, each in (('true', mask), ('K', spilt), ('A', noisy)): write_mask(folder/name/f'i{k}.png', each)
        items.append(Item(f'i{k}', folder/'images'/f'i{k}.png', (c,), folder/'true'/f'i{k}.png'))
    for name in ('K', 'A'):
        write_json(folder/name/'masks.json', {'format': 'wood_nb.masks', 'version': 1, 'method': 'wood', 'threshold': .3, 'split': 'train',
                                              'crf': 'ssdd' if name == 'A' else None, 'classes': list(CLASSES)})
    return Split('train', items, CLASSES)


@pytest.fixture
def split(tmp_path) -> Split: return scenes(tmp_path)


@pytest.fixture
def pairs(split, tmp_path) -> Split: return mask_pairs(split, tmp_path/'K', tmp_path/'A', tmp_path/'pairs')


def small(**options) -> SSDDConfig:
    how = SSDDTrain(**{'steps': 6, 'batch_size': 3, 'lr': .005, 'lr_head': .05, 'clip': 5., 'augment': PairAugment((.9, 1.1), 48), **options})
    return SSDDConfig(how, width=16, difference_width=16, dilation=2)


def network(seed: int = 0) -> SSDDNet:
    torch.manual_seed(seed)
    return SSDDNet(build_net('tiny', CLASSES), small())


def test_a_pair_is_both_masks(split, pairs, tmp_path):
    from wood_nb.data.images import read_mask
    for n, item in enumerate(split.items):
        assert all(np.array_equal(m, read_mask(tmp_path/name/f'{item.id}.png', 3)) for m, name in zip(read_pair(pairs, n).numpy(), 'KA'))
    assert read_json(tmp_path/'pairs'/'pairs.json', 'wood_nb.pairs')['advice']['crf'] == 'ssdd'


def test_masks_move_with_their_picture(split, tmp_path):
    "A picture that is its own mask stays so, however it is scaled, mirrored and cropped; the released code's stored maps did not."
    rng = np.random.default_rng(1)
    mask = np.kron(rng.integers(0, 2, (12, 14)), np.ones((4, 4))).astype(np.uint8)
    Image.fromarray(np.repeat(mask[..., None]*255, 3, 2)).save(tmp_path/'images'/'i0.png')
    for name in 'KA': write_mask(tmp_path/name/'i0.png', mask if name == 'K' else 1 - mask)
    one = mask_pairs(split.subset([0]), tmp_path/'K', tmp_path/'A', tmp_path/'own')
    drawn = MaskPairs(one, PairAugment((.75, 1., 1.5), 48), 0)
    moved = set()
    for epoch in range(12):
        pixels, (K, A) = drawn[epoch, 0]
        seen = torch.from_numpy(denormalise(pixels)[2::4, 2::4, 0].astype(np.float32)/255)
        inside = K != IGNORE
        assert torch.equal(inside, A != IGNORE) and torch.equal(1 - K[inside], A[inside])
        assert ((seen > .5) == (K == 1))[inside].float().mean() > .97
        moved.add(K.numpy().tobytes())
    assert len(moved) > 6


def test_thinned_masks_are_the_middles_of_cells():
    masks = torch.arange(2*10*9).reshape(2, 10, 9)
    assert torch.equal(thinned(masks, (5, 3)), masks[:, 1::2, 1::3]) and torch.equal(thinned(masks, (10, 9)), masks)


def test_training_learns_where_masks_change(split, pairs, tmp_path):
    "K always spills to the left, A is noisy in a corner: after a short training D is nearer to the truth than both."
    net, config = network(), small(steps=30, batch_size=6)
    rows = train_ssdd(net, pairs, config, tmp_path/'out', title=None)
    assert rows[-1]['loss'] < rows[0]['loss'] and set(rows[0]) >= {'loss/segment', 'loss/knowledge', 'loss/advice'}
    done = ssdd_masks(net, split, tmp_path/'K', tmp_path/'A', tmp_path/'work', tmp_path/'D', config, 'wood+ssdd', 'sha')
    from wood_nb.data.images import read_mask
    wrong = {name: np.mean([(read_mask(tmp_path/name/f'{item.id}.png', 3) != split.mask(n)).mean() for n, item in enumerate(split.items)])
             for name in 'KAD'}
    assert wrong['D'] <= min(wrong['K'], wrong['A']), wrong
    note = read_json(done/'masks.json', 'wood_nb.masks')
    assert (note['method'], note['threshold'], note['crf'], note['knowledge']['threshold']) == ('wood+ssdd', .3, None, .3)
    assert note['rule'] == dict(bias=.1, background=.1, lost=.5, sign='paper')
    picture = show_differences(split, [0, 1], [tmp_path/name for name in 'KAD'], tmp_path/'work'/'differences'/'train')
    assert len(picture.axes) == 14
    with pytest.raises(DataError, match='made otherwise'):
        ssdd_masks(net, split, tmp_path/'K', tmp_path/'A', tmp_path/'work', tmp_path/'D', replace(config, rule=Rule(sign='swapped')), 'wood+ssdd', 'sha')


def test_the_optimiser_lasts_and_a_training_resumes(pairs, tmp_path):
    "Stopped after four of eight steps and resumed, momentum included, a training ends where one in a single go ends."
    config = small(steps=8, checkpoint_every=1)
    whole, parted = network(), network()
    train_ssdd(whole, pairs, config, tmp_path/'whole', title=None)

    def stop_at_four(module, inputs, out):
        if (tmp_path/'parted'/'train.jsonl').exists() and len((tmp_path/'parted'/'train.jsonl').read_text().splitlines()) == 4:
            (tmp_path/'parted'/'STOP').touch()
    hook = parted.head.register_forward_hook(stop_at_four)
    with pytest.raises(TrainingStopped): train_ssdd(parted, pairs, config, tmp_path/'parted', title=None)
    hook.remove()
    again = network(seed=1)
    train_ssdd(again, pairs, config, tmp_path/'parted', title=None)
    for (name, a), b in zip(whole.state_dict().items(), again.state_dict().values()): assert torch.equal(a, b), name
    assert SSDDTrain().momentum == .9 and SSDDConfig.official().train.momentum == 0


def test_differences_teach_the_backbone_nothing(pairs):
    net = network()
    images, masks = torch.randn(2, 3, 48, 48), torch.randint(0, 4, (2, 2, 12, 12)).byte()
    terms = SSDDLoss(small(), pairs).total(*(o.float() for o in net(images, masks)), masks)
    (terms['knowledge'] + terms['advice']).backward()
    assert all(p.grad is None for name, p in net.named_parameters() if name.startswith(('backbone', 'segment')))
    assert all(p.grad is not None for name, p in net.named_parameters() if name.startswith(('head', 'difference')) and p.requires_grad)


def test_norms_stay_what_they_were(pairs):
    net = network()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items() if 'bn' in name}
    train_ssdd(net, pairs, small(steps=2), title=None)
    after = net.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert torch.allclose(net.head.conv1ab.bn1(torch.ones(1, 16, 1, 1)), torch.tensor(1.001**-.5))


def test_a_saved_network_is_opened_again(tmp_path):
    net = network().eval()
    save_weights(net, tmp_path/'w.safetensors')
    again = open_ssdd(tmp_path/'w.safetensors')
    assert again.arch == net.arch and not again.training
    for a, b in zip(net.state_dict().values(), again.state_dict().values()): assert torch.equal(a, b)


def test_stored_differences_are_those_of_the_whole_image(split, pairs, tmp_path):
    net = network()
    out = store_differences(net, pairs, tmp_path/'maps')
    image, pair = split.image(1), read_pair(pairs, 1)
    found, stored = differences(net, image, pair), load_differences(out/'i1.npz', image)
    assert found.shape == (2, 12, 14) and torch.allclose(found, stored, atol=2e-3)
    assert refined_mask(pair, torch.full((2, 12, 14), 0.), (1,), 3, Rule(background=0.)).tolist() == pair[1].tolist()  # undecided: the advice
    times = {file: file.stat().st_mtime_ns for file in out.glob('*.npz')}
    (out/'i0.npz').unlink()
    store_differences(net, pairs, out)
    assert (out/'i0.npz').is_file() and all(file.stat().st_mtime_ns == t for file, t in times.items() if file.name != 'i0.npz')


def test_the_answer_keeps_to_the_images_classes():
    logits = torch.zeros(1, 4, 3, 3)
    logits[:, 2] = 9
    assert not own_classes(logits, torch.tensor([[1., 0, 1]])).any() and (own_classes(logits, torch.tensor([[0., 1, 0]])) == 2).all()


def test_bad_input_is_named(split, pairs, tmp_path):
    (tmp_path/'A'/'i2.png').rename(tmp_path/'away.png')
    with pytest.raises(DataError, match=r'A: no mask of i2, of which .*K has one \(1 such images\); knowledge and advice must be masks of the same images'):
        mask_pairs(split, tmp_path/'K', tmp_path/'A', tmp_path/'p1')
    with pytest.raises(DataError, match='no such mask, and 5 more of 6 are missing; make the masks'):
        mask_pairs(split, tmp_path/'none', tmp_path/'nothing', tmp_path/'p2')
    write_mask(tmp_path/'A'/'i2.png', np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r'i2.png: the mask is 8x8, its image 56x48; make them equal'):
        mask_pairs(split, tmp_path/'K', tmp_path/'A', tmp_path/'p3')
    same = mask_pairs(split, tmp_path/'K', tmp_path/'K', tmp_path/'p4')
    with pytest.raises(DataError, match='the same in all 6 images, so there is no change to learn; choose another advice'):
        train_ssdd(network(), same, small(), title=None)
    with pytest.raises(DataError, match='made otherwise .advice differ'): mask_pairs(split, tmp_path/'K', tmp_path/'K', tmp_path/'pairs')
    with pytest.raises(DataError, match=r'masks \[2, 8, 8\] for an image of \[48, 56\]'):
        differences(network(), split.image(0), torch.zeros(2, 8, 8, dtype=torch.uint8))
    with pytest.raises(DataError, match=r'knowledge \[1, 4, 4\], advice \[1, 4, 5\], differences \[1, 2, 4, 4\]'):
        refined(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5), torch.ones(1, 3), torch.zeros(1, 2, 4, 4))
    with pytest.raises(DataError, match='has no pairs of masks; make them with mask_pairs'): read_pair(replace_masks(split), 0)


def replace_masks(split: Split) -> Split: return replace(split, items=[replace(item, mask=None) for item in split.items])


def test_bad_differences_are_named(split, tmp_path):
    np.savez(tmp_path/'d.npz', differences=np.zeros((2, 3, 3), np.float16))
    with pytest.raises(DataError, match=r'd.npz: differences \[2, 3, 3\] do not fit an image of \[48, 56\]'): load_differences(tmp_path/'d.npz', split.image(0))


def test_bad_options_and_networks_are_named(pairs, tmp_path):
    for options, words in ((dict(sign='other'), "sign='other': must be 'paper' or 'swapped'"), (dict(lost=2), 'lost=2: must be a share')):
        with pytest.raises(DataError, match=words): Rule(**options)
    with pytest.raises(DataError, match='dilation=0: must be a whole number'): SSDDConfig(dilation=0)
    with pytest.raises(DataError, match='crop 50: differences are learnt at stride 4'): MaskPairs(pairs, PairAugment((1.,), 50), 0)
    own = wrap(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3)), CLASSES)
    with pytest.raises(DataError, match='names its stages; build it with build_net'): SSDDNet(own, small())
    save_weights(build_net('tiny', CLASSES), tmp_path/'c.safetensors')
    with pytest.raises(DataError, match='holds no SSDD network'): open_ssdd(tmp_path/'c.safetensors')


def test_tokens_are_no_low_feature():
    class Tokens(torch.nn.Module):
        def forward(self, x): return x.flatten(2).transpose(1, 2)

    class Body(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.tokens = torch.nn.Conv2d(3, 8, 8, 8), Tokens()
        def forward(self, x):
            y = self.stem(x)
            self.tokens(y)
            return y
    net = build_net('tiny', CLASSES)
    net.backbone, net.stages = Body(), [['tokens'], [], [], []]
    with pytest.raises(DataError, match=r'that of tiny is \[1, 96, 8\] for an image of \[64, 96\]; take a convolutional backbone'): SSDDNet(net, small())
