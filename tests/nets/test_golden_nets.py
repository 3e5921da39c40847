"""The published segmentation networks return what their references return (tests/golden)."""
import pytest
import torch

from golden_net import far, fill_state, named_image, stored
from test_segmentation import caffe_names
from wood_nb.data.augment import normalise
from wood_nb.nets.deeplab import build_segnet, CaffeColours, seg_names
from wood_nb.nets.weights import load_state
from wood_nb.nets.wideresnet import wideresnet38

pytestmark = pytest.mark.usefixtures('one_thread')


def test_deeplab_at_three_sizes_on_caffes_resnet():
    "Full size, half, three quarters and the strongest: sizes, alignment and colours are deeplab-pytorch's, at an odd size."
    with torch.device('meta'): net = build_segnet('deeplab2_resnet101_caffe', pyramid=(0.5, 0.75))  # random weights would take seconds
    net = net.to_empty(device='cpu').eval()
    net.backbone.colours = CaffeColours()  # its numbers are no weights
    theirs = fill_state({name: tensor.shape for name, tensor in caffe_names(net).items()})
    assert load_state(net, seg_names(theirs, net), 'golden') == []
    with torch.inference_mode(): out = net(normalise(named_image('deeplab image', 65, 83))[None])
    golden = stored('deeplab2_msc')
    assert out.logits is out.parts[3][1] and [weight for weight, _ in out.parts] == [1.0]*4
    for n, (_, logits) in enumerate(out.parts): assert far(logits[0, ::3], golden[f'part{n}']) < 1e-4, n


def test_wideresnet38_and_what_psa_reads_of_it():
    "The features before b5 and b6 (normalised, rectified), and the last ones."
    with torch.device('meta'): net = wideresnet38()
    net = net.to_empty(device='cpu').eval()
    net.load_state_dict(fill_state({n: t.shape for n, t in net.state_dict().items() if not n.endswith('num_batches_tracked')}), strict=False)
    images, golden = normalise(named_image('wideresnet38 image', 41, 51))[None], stored('wideresnet38')
    with torch.inference_mode():
        deep = net.deep_features(images)
        assert torch.equal(deep[-1], net(images))
    for found, name, every in zip(deep, ('conv4', 'conv5', 'conv6'), (16, 32, 128)): assert far(found[0, ::every], golden[name]) < 1e-4, name
