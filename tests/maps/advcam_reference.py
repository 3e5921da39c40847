"""AdvCAM as its authors' code goes about it, for comparison: class by class, image by image, two backward passes a step.

Written from the description of the algorithm; Grad-CAM's weights come from a backward pass through the whole network, whose
own weights take gradients as they do there."""
import torch
from torch import Tensor
from torch.nn import functional as F

from wood_nb.maps.advcam import AdvCAMConfig
from wood_nb.nets.camnet import CamNet


def mean_weights(gradient: Tensor) -> Tensor:
    "Sum over places, over the number of positive entries anywhere."
    return gradient.sum((-2, -1), keepdim=True) / ((gradient > 0).sum() + 1e-12)


def climb_twice(net: CamNet, image: Tensor, c: int, steps: int, config: AdvCAMConfig) -> Tensor:
    "The summed Grad-CAMs of one image `[3, H, W]` and class, `[h, w]`."
    picture, first, total = torch.stack([image, image.flip(-1)]), None, 0
    for _ in range(steps):
        picture = picture.detach().requires_grad_()
        features = net.backbone(picture)
        features.retain_grad()
        maps = net.class_maps(features)
        net.zero_grad()
        F.relu(maps)[:, c].sum().backward(retain_graph=True)
        halves = F.relu((features * mean_weights(features.grad)).sum(1))
        region = halves[0] + halves[1].flip(-1)
        first = region.detach() if first is None else first
        total = total + region.detach()
        scores = F.relu(maps).mean((-2, -1))
        mask = (region / region.max() > config.mask_threshold).float()
        goal = 2 * scores[:, c].sum() - scores.sum() - config.regulariser * ((region - first).abs() * mask).sum()
        net.zero_grad()
        picture.grad.zero_()
        goal.backward()
        low, high = picture.min().item(), picture.max().item()
        picture = (picture + config.step * picture.grad / (picture.grad.abs().max() + 1e-12)).detach().clamp(low, high)
    return total
