"""Where the CRF of a stage works: on the GPU where there is one, else in several processes; what comes out is the same."""
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from wood_nb.data.splits import Item, Split
from wood_nb.maps.cam import Maps, save_maps
from wood_nb.masks import labels, pseudo, psa
from wood_nb.masks.labels import confident_labels, irn_labels, IRNConfig
from wood_nb.masks.learn import recipe, RECIPES
from wood_nb.masks.pseudo import MaskConfig, pseudo_mask, write_masks
from wood_nb.masks.psa import label_planes, psa_labels, PSAConfig
from wood_nb.runs import final

STAGES = {'irn': (labels, lambda *folders: irn_labels(*folders, IRNConfig(), title=None)),
          'psa': (psa, lambda *folders: psa_labels(*folders, PSAConfig(), title=None)),
          'masks': (pseudo, lambda *folders: write_masks(*folders, MaskConfig(0.3, crf='psa'), title='')),
          'masks, probabilities': (pseudo, lambda *folders: write_masks(*folders, MaskConfig(0.3, crf='psa', crf_on='probabilities'), title=''))}


@pytest.fixture
def case(tmp_path) -> tuple[Split, object]:
    "36 pictures of 24 x 20, and the folder of their maps."
    rng = np.random.default_rng(0)
    for n in range(36):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(tmp_path/f'{n}.png')
        save_maps(tmp_path/'maps'/f'{n}.npz', Maps(np.array([n % 2]), rng.random((1, 5, 6), np.float32), (20, 24)))
    items = [Item(f'{n}', tmp_path/f'{n}.png', (n % 2,)) for n in range(36)]
    return Split('train', items, ('cat', 'dog')), tmp_path/'maps'


class OnGPU:
    "Scores that must be fetched before NumPy can read them, as from a GPU."
    def __init__(self, values): self.values = values
    def argmax(self, axis): return OnGPU(self.values.argmax(axis))
    def cpu(self): return self.values
    def numpy(self): raise TypeError("can't convert a cuda tensor to numpy")


class Recorded:
    "In the place of a CRF: notes the device it is told, and changes nothing."
    devices: list = []

    def __init__(self, image, config, device=None): self.devices.append(device)
    def refine(self, probabilities): return OnGPU(torch.as_tensor(probabilities))
    def relabel(self, found, n): return OnGPU(torch.as_tensor(found).long())


@pytest.mark.parametrize('name', STAGES)
def test_the_crf_of_every_stage_is_told_the_device(name, case, tmp_path, monkeypatch):
    module, write = STAGES[name]
    monkeypatch.setattr(module, 'best_device', lambda: torch.device('cuda', 0))
    monkeypatch.setattr(labels, 'best_device', lambda: torch.device('cuda', 0))
    monkeypatch.setattr(module, 'DenseCRF', Recorded)
    monkeypatch.setattr(Recorded, 'devices', [])
    split, maps = case
    write(split.subset(range(3)), maps, tmp_path/'out')
    assert Recorded.devices == [torch.device('cuda', 0)] * 3 and len(list((tmp_path/'out').glob('*.png'))) == 3


def test_the_crf_after_segmentation_is_told_the_device(monkeypatch):
    monkeypatch.setattr(final, 'best_device', lambda: torch.device('cuda', 0))
    monkeypatch.setattr(final, 'DenseCRF', Recorded)
    monkeypatch.setattr(Recorded, 'devices', [])
    made = next(made for made in map(recipe, RECIPES) if made.crf)
    p = np.full((2, 3, 4), 0.5, np.float32)
    assert np.array_equal(final.recipe_crf(made)(np.zeros((3, 4, 3), np.uint8), p), p) and Recorded.devices == [torch.device('cuda', 0)]


def test_a_gpu_is_not_shared_by_processes_and_few_images_are_not_worth_them(case, tmp_path, monkeypatch):
    split, maps = case
    asked = []
    monkeypatch.setattr(labels, 'do_all', lambda work, tasks, jobs, *rest, **how: asked.append((len(tasks), jobs, how['threads'])))
    irn_labels(split, maps, tmp_path/'a', IRNConfig(), None, jobs=8)
    irn_labels(split.subset(range(10)), maps, tmp_path/'b', IRNConfig(), None, jobs=8)
    monkeypatch.setattr(labels, 'best_device', lambda: torch.device('cuda', 0))
    irn_labels(split, maps, tmp_path/'c', IRNConfig(), None, jobs=8)
    assert asked == [(36, 2, 1), (10, 1, 1), (36, 1, 1)]


@pytest.mark.parametrize('name', STAGES)
def test_what_a_process_is_handed_can_be_pickled(name, case, tmp_path, monkeypatch):
    "Every task done through a copy: the files are those of one process."
    split, maps = case
    few, write = split.subset(range(3)), STAGES[name][1]
    write(few, maps, tmp_path/'one')
    monkeypatch.setattr(labels, 'do_all', lambda work, tasks, *rest, **how: [pickle.loads(pickle.dumps(work))(pickle.loads(pickle.dumps(t))) for t in tasks])
    write(few, maps, tmp_path/'copies')
    for item in few.items: assert (tmp_path/'one'/f'{item.id}.png').read_bytes() == (tmp_path/'copies'/f'{item.id}.png').read_bytes()


@pytest.mark.slow
def test_two_processes_write_the_files_of_one(case, tmp_path):
    split, maps = case
    one, two = (irn_labels(split, maps, tmp_path/f'{jobs}', IRNConfig(), None, jobs=jobs) for jobs in (1, 2))
    assert len(list(two.glob('*.png'))) == 36
    for file in one.iterdir(): assert file.read_bytes() == (two/file.name).read_bytes(), file.name


def test_a_device_changes_nothing(case):
    split, maps = case
    image, found = split.image(0), Maps(np.array([1]), np.random.default_rng(1).random((1, 5, 6), np.float32), (20, 24))
    assert np.array_equal(confident_labels(image, found, IRNConfig()), confident_labels(image, found, IRNConfig(), 'cpu'))
    assert np.array_equal(label_planes(image, found, PSAConfig()), label_planes(image, found, PSAConfig(), 'cpu'))
    assert np.array_equal(pseudo_mask(image, found, MaskConfig(crf='psa')), pseudo_mask(image, found, MaskConfig(crf='psa'), 'cpu'))
