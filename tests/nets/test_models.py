"""Every backbone by one interface; weights in and out, checked and never unpickled; other people's classifiers wrapped."""
import json
import os
import struct

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from wood_nb.base.device import Way
from wood_nb.nets import backbones
from wood_nb.nets import camnet
from wood_nb.base.files import DataError
from wood_nb.data.images import VOC_CLASSES
from wood_nb.nets.backbones import BACKBONES, build_net, open_net
from wood_nb.nets.camnet import CamNet, freeze_norm, freeze_stages
from wood_nb.nets.weights import load_state, load_weights, read_metadata, read_state, save_weights, translate, weights_sha
from wood_nb.nets.wrap import wrap

torch.manual_seed(0)
DIMS = {'resnet18': 512, 'resnet50': 2048, 'resnet101': 2048, 'mobilenet_v2': 1280, 'wideresnet38': 4096, 'tiny': 128, 'efficientnet_lite0': 1280,
        'efficientnet_lite2': 1280}
OFFERED = {'tiny': (8, 16), 'wideresnet38': (8,)}
STRIDES = [(name, stride) for name in DIMS for stride in OFFERED.get(name, (8, 16, 32))]


pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture
def tiny(): return build_net('tiny', ('boat', 'train'))


def equal(a, b): return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


# --- backbones ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name,stride', [o for o in STRIDES if o[0] != 'resnet101' or o[1] == 16])
def test_shapes_at_every_stride(name, stride):
    net = build_net(name, ('a', 'b', 'c'), stride).eval()
    with torch.no_grad():
        out = net(torch.randn(2, 3, 64, 96))
        assert out.logits.shape == (2, 3) and out.z.shape == (2, net.dim) and net.dim == DIMS[name]
        assert out.features.shape == (2, net.dim, 64 // stride, 96 // stride)
        maps = net.class_maps(out.features)
        assert maps.shape == (2, 3, 64 // stride, 96 // stride) and torch.allclose(maps.mean((2, 3)), out.logits, atol=1e-4*max(1, out.logits.abs().max()))
        odd = net(torch.randn(1, 3, 33, 65)).features
        assert odd.shape[2:] == (-(-33 // stride), -(-65 // stride))
    assert net.classifier.bias is None and net.classes == ('a', 'b', 'c') and net.arch == {'backbone': name, 'stride': stride, 'classes': ['a', 'b', 'c']}


def test_all_backbones_are_tested(): assert DIMS.keys() == BACKBONES.keys()


def test_the_reference_network_has_the_reference_strides():
    net = build_net('resnet50')
    strides = {n: m.stride for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.stride != (1, 1)}
    assert strides.keys() == {'backbone.conv1', 'backbone.layer2.0.conv2', 'backbone.layer2.0.downsample.0', 'backbone.layer3.0.conv2', 'backbone.layer3.0.downsample.0'}
    assert net.classifier.weight.shape == (20, 2048, 1, 1) and net.classes == VOC_CLASSES
    assert all(m.dilation == (1, 1) for m in net.modules() if isinstance(m, nn.Conv2d))


def test_the_tiny_network_is_tiny(tiny): assert sum(p.numel() for p in tiny.parameters()) < 1e6


@pytest.mark.parametrize('options,said', [({'backbone': 'resnet5'}, 'choose from resnet18'), ({'backbone': 'tiny', 'stride': 32}, '8 or 16'), ({'stride': 4}, '8, 16 or 32'),
                                          ({'backbone': 'tiny', 'weights': 'imagenet'}, 'trains from scratch'), ({'backbone': 'tiny', 'weights': 'none.pth'}, 'no such weights')])
def test_what_cannot_be_built(options, said):
    with pytest.raises(DataError, match=said): build_net(**options)


def test_no_internet(monkeypatch):
    def fail(*_, **__): raise OSError('no route to host')
    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', fail)
    monkeypatch.setattr(torchvision.models._api, 'load_state_dict_from_url', fail)
    with pytest.raises(DataError, match='no route to host.*give a file'): build_net('resnet18', weights='imagenet')


# --- freezing -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['resnet18', 'mobilenet_v2', 'tiny'])
def test_frozen_stages_do_not_learn(name):
    net, learns = build_net(name, ('a',)), []
    for count in range(5):
        freeze_stages(net, count)
        learns.append(sum(p.numel() for p in net.parameters() if p.requires_grad))
        assert net.classifier.weight.requires_grad
    assert learns == sorted(learns, reverse=True) and len(set(learns)) == 5 and learns[4] == net.classifier.weight.numel()
    freeze_stages(net, 0)
    assert all(p.requires_grad for p in net.parameters())
    with pytest.raises(DataError, match='freeze fewer'): freeze_stages(net, 5)


def test_every_parameter_belongs_to_a_stage():
    for name in DIMS:
        net = build_net(name, ('a',))
        assert {n.split('.')[0] for n, _ in net.backbone.named_parameters()} <= {o for stage in net.stages for o in stage}


def test_a_folded_norm_is_the_same_function(tiny, monkeypatch):
    "Frozen batch norms are worked into the weights; outputs and gradients are those of the modules one after the other."
    for norm in (m for m in tiny.modules() if isinstance(m, nn.BatchNorm2d)):
        for values, low, high in ((norm.running_mean, -1, 1), (norm.running_var, .5, 2), (norm.weight.data, .5, 2), (norm.bias.data, -1, 1)):
            values.uniform_(low, high)
    freeze_norm(tiny)
    tiny.train()
    images, found = torch.randn(4, 3, 48, 48), []
    for _ in range(2):
        tiny.zero_grad()
        tiny(images).logits.square().sum().backward()
        found.append([p.grad for p in tiny.parameters()])
        monkeypatch.setattr(backbones, '_normed', lambda conv, norm, x: norm(conv(x)))
    assert all(torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max())) for one, other in zip(*found))


def test_frozen_norm_keeps_its_statistics(tiny):
    freeze_norm(tiny)
    tiny.train()
    before = {n: b.clone() for n, b in tiny.named_buffers()}
    tiny(torch.randn(4, 3, 32, 32))
    assert equal(before, dict(tiny.named_buffers())) and tiny.classifier.training
    assert all(m.weight.requires_grad and not m.training for m in tiny.modules() if isinstance(m, nn.BatchNorm2d))
    freeze_norm(tiny, False)
    tiny(torch.randn(4, 3, 32, 32))
    assert not equal(before, dict(tiny.named_buffers()))


# --- weights ------------------------------------------------------------------------------------------------------------

def test_weights_there_and_back(tiny, tmp_path):
    save_weights(tiny, tmp_path/'w.safetensors')
    net = open_net(tmp_path/'w.safetensors')
    assert equal(net.state_dict(), tiny.state_dict()) and net.classes == ('boat', 'train') and not net.training
    with safetensors.safe_open(tmp_path/'w.safetensors', 'pt') as file: metadata = file.metadata()
    assert metadata['format'] == 'wood_nb.weights' and metadata['version'] == '1' and metadata['backbone'] == 'tiny' and metadata['stride'] == '8'
    assert json.loads(metadata['classes']) == ['boat', 'train'] and json.loads(metadata['arch'])['stride'] == 8
    again = build_net('tiny', ('boat', 'train'), weights=tmp_path/'w.safetensors')
    assert equal(again.state_dict(), tiny.state_dict()) and len(weights_sha(tmp_path/'w.safetensors')) == 64
    assert [o.name for o in tmp_path.iterdir()] == ['w.safetensors']


@pytest.mark.parametrize('wrapped', [False, True])
def test_pth_files(tiny, tmp_path, wrapped):
    state = {f'module.{n}': t for n, t in tiny.state_dict().items()}
    torch.save({'state_dict': state, 'epoch': 3} if wrapped else state, tmp_path/'w.pth')
    net = build_net('tiny', ('boat', 'train'), weights=tmp_path/'w.pth')
    assert equal(net.state_dict(), tiny.state_dict())


class Evil:
    "Unpickling it creates the file BOO."
    def __reduce__(self): return (os.system, ('touch BOO',))


@pytest.mark.parametrize('how', ['torch', 'legacy', 'plain'])
def test_a_malicious_pickle_is_refused_and_not_executed(tiny, tmp_path, monkeypatch, how):
    import pickle
    monkeypatch.chdir(tmp_path)
    content = {**tiny.state_dict(), 'boo': Evil()}
    if how == 'plain': (tmp_path/'w.pth').write_bytes(pickle.dumps(Evil()))
    else: torch.save(content, 'w.pth', _use_new_zipfile_serialization=how == 'torch')
    with pytest.raises(DataError) as error: load_weights(tiny, 'w.pth')
    assert not (tmp_path/'BOO').exists() and 'w.pth' in str(error.value) and 'state_dict' in str(error.value) and '\n' not in str(error.value)
    pickle.loads(pickle.dumps(Evil()))  # the trap is armed
    assert (tmp_path/'BOO').exists()


def test_files_that_hold_no_weights(tiny, tmp_path):
    torch.save([1, 2], tmp_path/'list.pth')
    torch.save({'a': 1.0}, tmp_path/'number.pth')
    (tmp_path/'empty.pth').write_bytes(b'')
    (tmp_path/'text.pth').write_text('hello')
    (tmp_path/'empty.safetensors').write_bytes(b'')
    (tmp_path/'huge.safetensors').write_bytes(struct.pack('<Q', 1 << 60))
    save_weights(tiny, tmp_path/'cut.safetensors')
    (tmp_path/'cut.safetensors').write_bytes((tmp_path/'cut.safetensors').read_bytes()[:-100])
    for file in [*sorted(tmp_path.iterdir()), tmp_path/'none.pth']:
        with pytest.raises(DataError) as error: read_state(file)
        assert file.name in str(error.value) and ';' in str(error.value) and '\n' not in str(error.value)
    for name in ('cut.safetensors', 'empty.safetensors', 'none.safetensors'):
        with pytest.raises(DataError, match=name): open_net(tmp_path/name)


def reference(net) -> dict:
    "The state of a reference checkpoint: `resnet50.*`, the same tensors under `stage*` and `backbone.N.*`, and the head twice."
    own = {n.removeprefix('backbone.'): t for n, t in net.state_dict().items() if n.startswith('backbone.')}
    state = {f'resnet50.{n}': t for n, t in own.items()} | {'resnet50.fc.weight': torch.zeros(1000, 2048), 'resnet50.fc.bias': torch.zeros(1000)}
    for n, t in own.items():
        stage, rest = (int(n[5]), n.partition('.')[2]) if n.startswith('layer') else (1, n)
        inner = {1: '4.', 2: '0.', 3: '0.', 4: '0.'}[stage] + rest if n.startswith('layer') else {'conv1': '0.', 'bn1': '1.'}[n.split('.')[0]] + n.partition('.')[2]
        state[f'stage{stage}.{inner}'] = state[f'backbone.{stage - 1}.{inner}'] = t
    head = net.classifier.weight
    return state | {'classifier.weight': head, 'newly_added.0.weight': head}


@pytest.mark.parametrize('parallel', ['', 'module.'])
def test_a_reference_checkpoint(tmp_path, parallel):
    net = build_net('resnet50')
    state = {parallel + n: t.detach() for n, t in reference(net).items()}
    assert sum('stage' in n for n in state) == sum('backbone.' in n for n in state) > 200
    torch.save(state, tmp_path/'res50_cam.pth.pth')
    other = build_net('resnet50', weights=tmp_path/'res50_cam.pth.pth')
    assert equal(other.state_dict(), net.state_dict())


@pytest.mark.parametrize('name', ['resnet18', 'mobilenet_v2'])
def test_torchvision_weights(name):
    theirs = getattr(torchvision.models, name)()
    net = build_net(name, ('a', 'b'))
    assert load_state(net, theirs.state_dict(), name) == ['classifier.weight']
    features = {n.removeprefix('features.'): t for n, t in theirs.state_dict().items() if not n.startswith(('fc', 'classifier'))}
    assert equal(net.backbone.state_dict(), features)
    load_state(net, {f'features.{n}' if name == 'mobilenet_v2' else n: t.half() for n, t in features.items()}, 'half')
    assert all(t.dtype != torch.float16 for t in net.state_dict().values())


def test_our_own_head_among_torchvision_names():
    net = build_net('resnet18', ('a', 'b'))
    state = {n.removeprefix('backbone.'): t.clone() for n, t in net.state_dict().items()}
    other = build_net('resnet18', ('a', 'b'))
    assert load_state(other, state, 'x') == [] and equal(other.state_dict(), net.state_dict())
    assert 'classifier.weight' not in translate({'classifier.weight': torch.zeros(1000, 512), 'conv1.weight': torch.zeros(1)})


def test_names_and_shapes_are_checked(tiny):
    state = dict(tiny.state_dict())
    for change, said in [(lambda o: o.pop('backbone.layer1.conv1.weight'), '1 tensors of the network are missing.*layer1.conv1'),
                         (lambda o: o.update({'backbone.extra': torch.zeros(1)}), '1 tensors do not belong.*backbone.extra'),
                         (lambda o: o.update({'classifier.weight': torch.zeros(20, 128, 1, 1)}), r'classifier.weight is \(20, 128, 1, 1\), the network.s \(2, 128, 1, 1\)'),
                         (lambda o: o.clear(), 'tensors of the network are missing')]:
        changed = dict(state)
        change(changed)
        with pytest.raises(DataError, match=f'somewhere: .*{said}.*'): load_state(tiny, changed, 'somewhere')
    assert equal(tiny.state_dict(), state)
    del state['classifier.weight']
    assert load_state(tiny, state, 'x') == ['classifier.weight']
    with pytest.raises(DataError, match='build the one the weights were made for'): load_state(build_net('resnet18'), state, 'x')


def test_a_shared_checkpoint(shared):
    net = build_net('mobilenet_v2')
    assert load_weights(net, shared/'data/weights/mobilenet_v2_imagenet.safetensors') == ['classifier.weight']


# --- wrapping -----------------------------------------------------------------------------------------------------------

def untrained(name): return getattr(torchvision.models, name)(**({'init_weights': False} if name == 'googlenet' else {}))


@pytest.mark.parametrize('name', ['resnet18', 'densenet121', 'efficientnet_b0', 'mnasnet0_5', 'regnet_y_400mf', 'shufflenet_v2_x0_5', 'googlenet', 'mobilenet_v2'])
def test_torchvision_classifiers_are_wrapped(name):
    theirs = untrained(name)
    images, before = torch.randn(2, 3, 64, 64), {n: t.clone() for n, t in theirs.state_dict().items()}
    net = wrap(theirs)
    with torch.no_grad():
        out, wanted = net(images), theirs.eval()(images)
        assert torch.allclose(out.logits, wanted, atol=1e-3) and len(net.classes) == 1000
        assert torch.allclose(net.class_maps(out.features).mean((2, 3)) + net.classifier.bias[:, None, None].flatten(), out.logits, atol=1e-3)
        for p in net.parameters(): p.zero_()
    assert equal(before, theirs.state_dict()), 'the original is left alone'


def test_a_wrapped_network_with_new_classes(tmp_path):
    theirs = untrained('resnet18').train()
    net = wrap(theirs, ('cat', 'dog'))
    assert theirs.training and net.classes == ('cat', 'dog') and net.classifier.weight.shape == (2, 512, 1, 1) and net.classifier.bias is None
    save_weights(net, tmp_path/'w.safetensors')
    with pytest.raises(DataError, match='build it yourself'): open_net(tmp_path/'w.safetensors')
    other = wrap(untrained('resnet18'), ('cat', 'dog'))
    load_weights(other, tmp_path/'w.safetensors')
    assert equal(other.state_dict(), net.state_dict())
    with pytest.raises(DataError, match='freeze fewer'): freeze_stages(net, 2)
    freeze_norm(net)
    net.train()(torch.randn(2, 3, 64, 64)).logits.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize('name,why', [('vgg11', 'stands between'), ('alexnet', 'stands between'), ('mobilenet_v3_small', 'stands between'), ('squeezenet1_1', 'last layer is not linear')])
def test_torchvision_classifiers_of_another_shape_are_refused(name, why):
    with pytest.raises(DataError, match=f'cannot be wrapped .*{why}.*must end in average pooling'): wrap(untrained(name))


@pytest.mark.parametrize('name', ['resnet10t', 'efficientnet_b0', 'regnetx_002'])
@pytest.mark.parametrize('classes', [None, ('cat', 'dog')])
def test_timm_classifiers_are_wrapped(name, classes):
    timm = pytest.importorskip('timm')
    theirs = timm.create_model(name)
    net, images = wrap(theirs, classes), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        if classes is None: assert torch.allclose(net(images).logits, theirs.eval()(images), atol=1e-3)
    assert not any(n.startswith(('backbone.model.fc', 'backbone.model.head.fc', 'backbone.model.classifier')) for n in net.state_dict())
    net(images).logits.sum().backward()
    assert all(p.grad is not None for p in net.parameters()), 'nothing is left over that would stop DistributedDataParallel'


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'mobilenetv3_small_050', 'convnext_atto', 'mixer_s32_224'])
@pytest.mark.parametrize('classes', [None, ('cat', 'dog')])
def test_timm_classifiers_of_another_shape_are_refused(name, classes):
    timm = pytest.importorskip('timm')
    with pytest.raises(DataError, match='cannot be wrapped'): wrap(timm.create_model(name), classes)


def test_a_network_that_cannot_be_traced_is_refused():
    class Moody(nn.Module):
        def forward(self, x): return x if x.sum() > 0 else -x
    with pytest.raises(DataError, match='Moody cannot be wrapped .*traced'): wrap(Moody())
    with pytest.raises(DataError, match='cannot be wrapped'): wrap(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2)))
    spread = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))
    with pytest.raises(DataError, match='logits'): wrap(spread)
    assert isinstance(wrap(nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 4))), CamNet)


def test_a_network_works_on_the_gpu_and_comes_home(monkeypatch):
    "Moved there and back, also when the work fails; one that lies elsewhere stays where it is; and it can be trained afterwards."
    net, moves = build_net('tiny', ('cat',)), []
    monkeypatch.setattr(camnet, 'best_device', lambda: torch.device('cuda', 0))
    monkeypatch.setattr(camnet, 'way_of', lambda device: Way('no', False))
    monkeypatch.setattr(net, 'to', lambda device: moves.append(str(device)))
    with pytest.raises(ZeroDivisionError), camnet.on_gpu(net): 1/0
    assert moves == ['cuda:0', 'cpu']
    monkeypatch.undo()
    with torch.inference_mode(), camnet.on_gpu(net): pass
    net(torch.zeros(1, 3, 32, 32)).logits.sum().backward()


@pytest.mark.gpu
def test_maps_are_drawn_on_the_gpu(tmp_path):
    "And the network is where it was: its weights lie on the CPU."
    from wood_nb.train.predict import predict_all
    from wood_nb.maps.cam import localise
    from wood_nb.runs.tiny import tiny_run
    run = tiny_run()
    few, net = run.split('val').subset(range(4)), run.net('wood')
    seen = predict_all(net, few, title=None)
    localise(net, few, tmp_path/'maps')
    assert next(net.parameters()).device.type == 'cpu' and seen.p.shape == (4, 8) and len(list((tmp_path/'maps').glob('*.npz'))) == 4


@pytest.mark.parametrize('change, said', [
    ({'weights': 'imagenet'}, 'arch.weights is not known'), ({'weights': '/etc/passwd'}, 'arch.weights is not known'), ({'stride': '8'}, "arch.stride is '8'"),
    ({'stride': 7}, 'stride 7: tiny offers'), ({'backbone': 'unknown'}, "backbone 'unknown' is not known"), ({'backbone': 3}, 'arch.backbone is 3'),
    ({'classes': 'boat'}, "arch.classes is 'boat'"), ({'classes': None}, 'arch.classes is None'), ({'network': 'irn'}, 'holds the segmentation network'),
    ('[' * 50_000, 'not valid JSON'), ('[1]', 'arch is a list of 1'), ('null', 'does not say how to rebuild')])
def test_what_a_weights_file_may_say_of_itself(tmp_path, monkeypatch, change, said):
    "Names, sizes and classes: no download, no path to another file, no wrong types."
    from wood_nb.nets import backbones
    monkeypatch.setattr(backbones, 'imagenet_state', lambda *_: pytest.fail('a download'))
    net = build_net('tiny', ('boat', 'train'))
    save_weights(net, tmp_path/'w.safetensors')
    arch = change if isinstance(change, str) else json.dumps({**net.arch, **change})
    data = safetensors.torch.save(net.state_dict(), {'format': 'wood_nb.weights', 'version': '1', 'arch': arch})
    (tmp_path/'w.safetensors').write_bytes(data)
    with pytest.raises(DataError, match='w.safetensors: ') as error: open_net(tmp_path/'w.safetensors')
    assert said in str(error.value)


@pytest.mark.parametrize('state', [{1: torch.zeros(2)}, {'a': torch.zeros(2, device='meta')}, {'a': torch.eye(2).to_sparse()}])
def test_tensors_without_numbers(tmp_path, state):
    torch.save(state, tmp_path/'w.pth')
    with pytest.raises(DataError, match='w.pth: '): read_state(tmp_path/'w.pth')


@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_numbers_are_wrapped_in_float32(kind):
    theirs = torchvision.models.resnet18(num_classes=2).to(kind)
    net = wrap(theirs, ('a', 'b'))
    assert {p.dtype for p in net.parameters()} == {torch.float32} and next(theirs.parameters()).dtype == kind
    assert torch.isfinite(net(torch.zeros(1, 3, 32, 32)).logits).all()


def test_networks_for_grey_pictures_are_refused_with_a_remedy():
    theirs = torchvision.models.resnet18(num_classes=2)
    theirs.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    with pytest.raises(DataError, match=r'takes 1 channel\(s\), but pictures here have 3.*repeat'): wrap(theirs, ('a', 'b'))


@pytest.mark.gpu
def test_networks_on_a_gpu_are_wrapped(): assert next(wrap(torchvision.models.resnet18(num_classes=2).cuda()).parameters()).device.type == 'cpu'


def test_equal_weights_are_equal_files(tiny, tmp_path):
    "The library writes its metadata in an order that changes from file to file; ours are sorted."
    files = [tmp_path/f'{n}.safetensors' for n in range(8)]
    for file in files: save_weights(tiny, file)
    assert len({weights_sha(file) for file in files}) == 1
    state, metadata = read_state(files[0]), read_metadata(files[0])
    assert state.keys() == tiny.state_dict().keys() and all(torch.equal(state[name], tensor) for name, tensor in tiny.state_dict().items())
    assert list(metadata) and metadata['format'] == 'wood_nb.weights' and json.loads(metadata['classes']) == list(tiny.classes)
    head = files[0].read_bytes()
    assert int.from_bytes(head[:8], 'little') % 8 == 0
