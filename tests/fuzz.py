"""Damaged, mistaken and hostile files for every reader: each is read, or refused in one line that names it; nothing else.

    python tests/fuzz.py            half a minute
    python tests/fuzz.py --long     20,000 inputs, at least 200 for every reader, and a sample through the command line
    python tests/fuzz.py --case manifest.json:17    one input again, with its traceback
"""
import argparse
import collections
import contextlib
import copy
import io
import itertools
import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from wood_nb.base.files import DataError, read_json, write_json, write_npz
from wood_nb.data.images import read_image, read_mask, write_mask
from wood_nb.data.sources import coco_csv, labels_from_xml, load_csv, load_pool
from wood_nb.data.splits import Item, read_ids, Split
from wood_nb.maps.cam import claim_folder, load_maps, Maps, save_maps
from wood_nb.maps.reference import read_reference_cam
from wood_nb.masks.irn import IRNet, open_irn
from wood_nb.masks.labels import folder_mark
from wood_nb.masks.package import check_package, write_package
from wood_nb.masks.psa import AffinityNet, cell_labels, open_psa, read_planes
from wood_nb.masks.pseudo import mask_row
from wood_nb.masks.segment import load_probabilities, save_probabilities
from wood_nb.nets.backbones import build_net, open_net
from wood_nb.nets.deeplab import build_segnet, open_segnet
from wood_nb.nets.weights import read_state, save_weights
from wood_nb.ood.atlas import _cached
from wood_nb.ood.candidates import Candidate, file_of, thumbnail
from wood_nb.ood.features import FeatureStore
from wood_nb.ood.manifest import fingerprint, Manifest, summary
from wood_nb.ood.pruning import read_screened
from wood_nb.data.twins import small_grey
from wood_nb.report.later import _boundary_table, _confusion_table
from wood_nb.report.run_data import read_curves
from wood_nb.report.training import _log_figure
from wood_nb.runs.config import preset
from wood_nb.runs.run import Run
from wood_nb.scenes.scenes import draw_scenes
from wood_nb.scores.bootstrap import bootstrap_difference, read_counts, write_counts
from wood_nb.scores.curves import write_curves
from wood_nb.scores.printed import read_points, table_a3
from wood_nb.scores.rows import average_seeds, caption, read_results, row_names, table_row, write_results
from wood_nb.train.safe import Checkpoint, Log, read_log

SECONDS = 20      # an input that takes longer hangs
CLASSES = ('boat', 'train')
NAMES = ('background', *CLASSES)


@dataclass(frozen=True)
class Reader:
    "A file that lies in the run folder, and what reads it."
    file: str
    read: Callable[[Path], Any]
    kind: str = 'bytes'      # how it is damaged besides: json, jsonl, csv, npz, safe

    @property
    def name(self) -> str: return self.file


# --- a small run folder, written by the writers --------------------------------------------------------------------------------

def pictures(root: Path, n=6):
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    for i in range(n): Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(root/f'p{i}.png')
    return load_pool(root)


def made_manifest(pool, path):
    images = {o.id: Candidate(file_of(o), CLASSES[i % 2], round(.99 - .05*i, 3)) for i, o in enumerate(pool.items)}
    found = Manifest(CLASSES, images, fingerprint(pool))
    found.decide(['p0', 'p1'], 'keep', by='jane', seconds=2.5)
    found.decide('p2', 'drop', ['boat'], by='auto:typical', note='p >= 0.5')
    found.set_clusters({f'p{i}': i % 3 for i in range(6)})
    found.rename_cluster(0, 'rails', 'jane'); found.merge_clusters(0, [1], 'jane'); found.decide_cluster(2, 'keep', by='jane', seconds=1.0)
    found.images['p5'].duplicate_of = 'p0'
    found.decide('p3', 'keep', by='jane'); found.undo()
    found.save(path)


def row(method, split, **other):
    return {'method': method, 'stage': 'seed', 'split': split, 'threshold': .2, 'threshold_from': 'train masks', 'crf': False, 'seed': 0,
            'miou': 40.0, 'per_class': {'background': 80.0, 'boat': 40.0, 'train': None}, 'precision': 50.0, 'recall': 60.0, 'images': 6,
            'other_classes': 'ignore', 'run': 'x', 'measured': True, 'source': None, **other}


def numpy_object(path, value):
    with open(path, 'wb') as file:
        np.lib.format.write_array_header_1_0(file, {'descr': '|O', 'fortran_order': False, 'shape': ()})
        pickle.dump(np.array(value, dtype=object), file, protocol=4)


XML = '<?xml version="1.0" encoding="{}"?>\n<annotation><folder>照片</folder><object><name>boat</name></object></annotation>'
LOG = [{'step': n, 'loss': 1 / n, 'loss/cls': .5, 'lr': .1, 'epoch': n / 9, 'images_per_s': 30.5, 'eta': 9.0} for n in range(1, 9)]


def small_training(path: Path) -> Checkpoint:
    "The checkpoint of a network of one layer with momentum."
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), .1, momentum=.9)
    net(torch.ones(1, 3)).sum().backward(); optimizer.step()
    return Checkpoint(path, net, optimizer, lambda *_: None, {'lr': .1, 'images': 'abc', 'augment': {'crop': 9}})


def write_arrays(out: Path, pool):
    rng = np.random.default_rng(0)
    save_maps(out/'maps/cam/val/p0.npz', Maps(np.array([0, 1]), rng.random((2, 5, 6)), (20, 24), rng.random((2, 20, 24))))
    counts = rng.integers(1, 50, (6, 3, 3)).cumsum(2)
    for method in ('cam', 'wood'): write_counts(out/f'eval/{method}-val.npz', pool.ids, counts, .2)
    FeatureStore(pool.ids, rng.random((6, 4)), rng.random((6, 2)), np.arange(6) % 3, rng.random((3, 4))).save(out/'clusters/features.npz')
    save_probabilities(out/'p.npz', rng.random((3, 8, 9)))
    write_npz(out/'map-tsne.npz', xy=rng.random((6, 2)).astype('f4'), key=np.array('k'), method=np.array('tsne'))
    cam, full = rng.random((2, 5, 6)).astype('f4'), rng.random((2, 20, 24)).astype('f4')
    numpy_object(out/'irn.npy', {'keys': torch.tensor([0, 1]), 'cam': torch.from_numpy(cam), 'high_res': full})
    numpy_object(out/'psa.npy', {0: full[0], 1: full[1]})
    np.savez_compressed(out/'copy.npz', keys=np.array([0, 1]), cam=cam, high_res=full)


def write_networks(out: Path):
    net = build_net('tiny', CLASSES)
    for folder, made in (('classifier', net), ('segmentation', build_segnet('deeplab_tiny', CLASSES)), ('irn', IRNet(net, 96)), ('psa', AffinityNet(net))):
        save_weights(made, out/folder/'weights.safetensors')
    torch.save({'state_dict': {'a.weight': torch.ones(3, 2), 'a.bias': torch.zeros(3)}}, out/'weights.pth')
    small_training(out/'checkpoint.safetensors').save(7)


def write_notes(out: Path, pool):
    config = preset('default', 'csv:data', candidates='pool', backbone='tiny', weights=None, classes=CLASSES)
    stage = {'fingerprint': 'f', 'seconds': 1.5, 'finished': '2026-01-31T12:00:00+00:00', 'info': {'notes': ['one left out']}}
    write_json(out/'run.json', {'format': 'wood_nb.run', 'version': 1, 'name': 'x', 'created': '2026-01-31T12:00:00+00:00', 'config': asdict(config),
                                'versions': {'wood_nb': '0.2'}, 'stages': {'data': stage}, 'skipped': [{'file': 'a', 'why': 'cut', 'stage': 'mining'}]})
    write_results(out/'metrics.json', [row('cam', 'val'), row('wood', 'val', miou=41.5), row('wood', 'val', seed=1), row('cam', 'train')])
    write_json(out/'point.json', {'format': 'wood_nb.point', 'version': 1, 'points': [{'sweep': 'A1', 'method': 'wood', 'setting': {'images': 20}}]})
    of_class = {'iou': 40.0, 'precision': 50.0, 'recall': None, 'boundary_f': 30.0}
    about = {'method': 'wood', 'crf': False, 'split': 'val', 'images': 6, 'other_classes': 'ignore', 'network': 'deeplab_tiny', 'steps': 9, 'miou': 40.0}
    write_json(out/'evaluation.json', {'format': 'wood_nb.evaluation', 'version': 1, **about, 'classes': dict.fromkeys(NAMES, of_class),
               'mean_boundary_f': 30.0, 'confusions': [{'true': 'boat', 'taken_for': 'train', 'pixels': 9, 'share': .5}], 'co_occurrence': []})
    for kind in ('maps', 'labels', 'predictions', 'segmentation'): note(kind)(out/f'notes/{kind}.json')
    write_json(out/'masks.json', {'format': 'wood_nb.masks', 'version': 1, 'method': 'cam', 'split': 'val', 'threshold': .2, 'power': 1.0, 'alpha': None,
                                  'crf': 'irn-label', 'crf_on': 'labels', 'crf_scale': 1.0, 'maps': {'method': 'cam'}})
    write_json(out/'best.json', {'format': 'wood_nb.best', 'version': 1, 'step': 9, 'miou': 40.0, 'split': 'val'})


def write_texts(out: Path, pool):
    write_curves(out/'curves.csv', [(m, 'seed', 'val', 0, t / 10, 40.0, None, 60.0) for m in ('cam', 'wood') for t in range(1, 6)])
    for name, rows in (('train.jsonl', LOG), ('validation.jsonl', [{'step': n, 'miou': 40.0, 'split': 'val', 'images': 6} for n in range(3)])):
        (out/name).write_text(''.join(json.dumps(o) + '\n' for o in rows))
    (out/'a.xml').write_bytes(XML.format('gb2312').encode('gb2312'))
    (out/'b.xml').write_bytes(XML.format('UTF-8').encode())
    (out/'list.txt').write_text('p0\n# no\np1\nJPEGImages/p2.jpg x\n')
    (out/'pool/val.csv').write_text('image,labels,mask\np0.png,boat,\np1.png,boat;train,\n"p2.png",,\n')
    (out/'screened.csv').write_text('image,contains\np0.png,boat;train?\np1.png,\n')
    categories, images = [{'id': 1, 'name': 'boat'}], [{'id': 5, 'file_name': 'a.jpg'}]
    (out/'coco.json').write_text(json.dumps({'categories': categories, 'images': images, 'annotations': [{'image_id': 5, 'category_id': 1}]}))
    write_mask(out/'mask.png', np.arange(480).reshape(20, 24) % 3)
    write_mask(out/'planes.png', np.random.default_rng(0).integers(0, 256, (80, 24)).astype(np.uint8))
    for name in ('a.jpg', 'a.png', 'a.tif', 'a.gif', 'a.webp', 'a.bmp'): pool.image(0).save(out/name)
    for o in pool.items: write_mask(out/f'masks/{o.id}.png', np.zeros((20, 24), np.uint8))
    for name in ('val.tgz', 'val.tar'): write_package(replace(pool, classes=CLASSES), out/'masks', out/name, CLASSES, 'val', '')


def write_run(out: Path):
    "All files that are read, sound."
    pool = pictures(out/'pool')
    made_manifest(pool, out/'mining/manifest.json')
    draw_scenes(out/'scenes', train=1, val=1, ood=1, pool=1, size=32, workers=1, progress=False)
    for write in (write_arrays, write_notes, write_texts): write(out, pool)
    write_networks(out)
    small_training(out/'checkpoint.safetensors').save(7)


# --- the readers ---------------------------------------------------------------------------------------------------------------

def use_manifest(path):
    found = Manifest.load(path)
    summary(found), found.usable(), found.positives(), found.progress(), found.grouped_by_hand(), found.seconds_summary()
    while found.undo(): pass
    while found.redo(): pass
    found.save(path.with_name('again.json'), force=True)


def use_metrics(path):
    rows = average_seeds(read_results(path))
    caption([table_row(name, o) for name, o in zip(row_names(rows), rows)])
    with contextlib.suppress(DataError): table_a3('val', [path.parent], 'seed')      # the rows that are asked for may be gone
    return rows


def use_evaluation(path):
    found = {'wood': read_json(path, 'wood_nb.evaluation')}
    return _boundary_table(found) if next(iter(found.values()))['classes'] else None, _confusion_table(found)


def use_log(path):
    rows = read_log(path)
    for step in (0, 5): Log(path.parent, step, 9)
    return _log_figure('classifier', rows) if rows else None


def use_counts(path):
    ids, counts, _ = read_counts(path)
    return bootstrap_difference(counts, counts, 20) if len(ids) else None


def use_store(path):
    found = FeatureStore.load(path)
    return found.select(found.ids[:2])


def use_run(path):
    run = Run(path.parent)
    return run.config, [o.get('fingerprint') for o in run.note['stages'].values()], run.note['skipped']


def use_masks(path):
    split = Split('val', [Item('p0', path.parent/'a.png', (0,))], CLASSES)
    return mask_row(split, path.parent, 'fixed', counts=np.ones((1, 3, 3), int))


POOL: dict[Path, Any] = {}


def use_package(path):
    if path.parent not in POOL: POOL[path.parent] = load_pool(path.parent/'pool')
    return check_package(path, POOL[path.parent], 'val')


def note(kind):
    more = {'network': 'deeplab_tiny'} if kind == 'segmentation' else {'scales': [1.0], 'mirror': True, 'weights': 'abc'}
    how = {'method': 'cam', 'split': 'val', 'classes': list(CLASSES), **more}
    return lambda path: claim_folder(path.parent, how, kind, 'none')


READERS = [
    Reader('run.json', use_run, 'json'), Reader('metrics.json', use_metrics, 'json'), Reader('evaluation.json', use_evaluation, 'json'),
    Reader('point.json', lambda p: read_points([p.parent], 'A1', 'seed', 'val'), 'json'), Reader('mining/manifest.json', use_manifest, 'json'),
    Reader('notes/maps.json', lambda p: (folder_mark(p.parent), note('maps')(p)), 'json'),
    *(Reader(f'notes/{kind}.json', note(kind), 'json') for kind in ('labels', 'predictions', 'segmentation')),
    Reader('masks.json', use_masks, 'json'), Reader('best.json', lambda p: read_json(p, 'wood_nb.best')['miou'] > 1, 'json'),
    Reader('scenes/scenes.json', lambda p: draw_scenes(p.parent, train=1, val=1, ood=1, pool=1, size=32, progress=False), 'json'),
    Reader('coco.json', lambda p: coco_csv(p, p.with_name('coco.csv')), 'json'),
    Reader('curves.csv', read_curves, 'csv'), Reader('train.jsonl', use_log, 'jsonl'),
    Reader('validation.jsonl', lambda p: read_log(p, needs=('miou',)), 'jsonl'),
    Reader('screened.csv', read_screened, 'csv'), Reader('pool/val.csv', lambda p: load_csv(p, CLASSES), 'csv'), Reader('list.txt', read_ids),
    Reader('a.xml', lambda p: labels_from_xml(p, CLASSES)), Reader('b.xml', lambda p: labels_from_xml(p, CLASSES)),
    Reader('maps/cam/val/p0.npz', lambda p: load_maps(p).at_full_size(), 'npz'), Reader('eval/cam-val.npz', use_counts, 'npz'),
    Reader('clusters/features.npz', use_store, 'npz'), Reader('p.npz', load_probabilities, 'npz'),
    Reader('map-tsne.npz', lambda p: _cached(p, 'k', 6), 'npz'), Reader('copy.npz', read_reference_cam, 'npz'),
    Reader('irn.npy', read_reference_cam), Reader('psa.npy', read_reference_cam),
    Reader('checkpoint.safetensors', lambda p: small_training(p).load(), 'safe'), Reader('classifier/weights.safetensors', open_net, 'safe'),
    Reader('segmentation/weights.safetensors', open_segnet, 'safe'), Reader('irn/weights.safetensors', open_irn, 'safe'),
    Reader('psa/weights.safetensors', open_psa, 'safe'), Reader('weights.pth', read_state),
    Reader('planes.png', lambda p: cell_labels(read_planes(p, Image.new('RGB', (24, 20))))),
    Reader('mask.png', lambda p: read_mask(p, 2, (24, 20))), Reader('val.tgz', use_package), Reader('val.tar', use_package),
    *(Reader(f'a.{suffix}', lambda p: (read_image(p), thumbnail(p), small_grey(p))) for suffix in ('jpg', 'png', 'tif', 'gif', 'webp', 'bmp'))]


# --- damage --------------------------------------------------------------------------------------------------------------------

STRANGE = [None, True, False, 0, -1, 1, 254, 2**31, 2**63, 10**40, 1e308, float('inf'), float('nan'), .5, '', 'x', '\ud800', '\0', '$', '..', '/etc/passwd',
           'x' * 5000, [], {}, [[]], [None], {'': None}, {'a': 1}, ['a', 'b'], [1, 2, 3]]
NESTED = [b'[' * 50_000, b'[' * 50_000 + b']' * 50_000, b'{"a":' * 50_000, b'{"a":' * 900 + b'1' + b'}' * 900]
WHOLE = [b'', b'\0', b'null', b'[]', b'{}', b'"x"', b'1' * 5000, b'\xff\xfe\0\0', b'PK\x03\x04', b'PK\x05\x06' + b'\0' * 18, b'\x93NUMPY\x01\0', b'\n' * 9,
         b'\x1f\x8b\x08' + b'\0' * 20, b'<?xml version="1.0" encoding="shift_jis"?><a/>', b'<?xml version="1.0" encoding="zip"?><a/>', b'<a>' * 50_000, *NESTED]


def nodes(content, way=()):
    "The ways to all values in JSON."
    yield way
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in pairs: yield from nodes(value, (*way, key))


def damage_json(content, rng: random.Random):
    "JSON's values with one or a few of them changed, removed, added or exchanged."
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        way = rng.choice(list(nodes(content)))
        if not way: return rng.choice(STRANGE) if rng.random() < .1 else content
        inside = content
        for key in way[:-1]: inside = inside[key]
        act = rng.randrange(5)
        if act == 0: del inside[way[-1]]
        elif act == 1 and isinstance(inside, dict): inside[rng.choice(['new', '', '..', *inside])] = rng.choice(STRANGE)
        elif act == 2 and isinstance(inside, list): inside.append(copy.deepcopy(rng.choice([*STRANGE, inside[way[-1]]])))
        elif act == 3: inside[way[-1]] = copy.deepcopy(inside[rng.choice(list(inside))] if isinstance(inside, dict) else inside)
        else: inside[way[-1]] = copy.deepcopy(rng.choice(STRANGE))
    return content


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    "Bits turned, a part cut, doubled, zeroed, moved or made up; sometimes all of it something else."
    if rng.random() < .1: return rng.choice(WHOLE)
    out, n = bytearray(data), len(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        a, length = rng.randrange(n + 1), min(n, int(2 ** rng.uniform(0, 10)))
        act = rng.randrange(7)
        if act == 0: out[a:a + 1] = bytes([rng.randrange(256)])
        elif act == 1 and out: out[min(a, len(out) - 1)] ^= 1 << rng.randrange(8)
        elif act == 2: del out[a:a + length]
        elif act == 3: out[a:a] = bytes(rng.randrange(256) for _ in range(min(length, 64)))
        elif act == 4: out[a:a + length] = bytes(len(out[a:a + length]))
        elif act == 5: out[a:a] = out[a:a + length]
        else: del out[a:]
    return bytes(out)


def dumped(content) -> bytes: return json.dumps(content).encode()


def damage_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines()
    n = rng.randrange(len(lines))
    lines[n] = dumped(damage_json(json.loads(lines[n]), rng))
    if rng.random() < .2: lines.insert(n, rng.choice([b'\xff\xfe', b'[1]', b'1', b'null', b'{"step": 3', *NESTED]))
    return b'\n'.join(lines) + b'\n' * rng.randrange(2)


def damage_cells(data: bytes, rng: random.Random) -> bytes:
    lines = [line.split(b',') for line in data.splitlines()]
    for _ in range(rng.choice((1, 1, 3))):
        cells = rng.choice(lines)
        n = rng.randrange(len(cells)) if cells else 0
        act = rng.randrange(4)
        if act == 0 and cells: del cells[n]
        elif act == 1: cells.insert(n, b'x')
        else: cells[n:n + 1] = [rng.choice([b'', b'nan', b'inf', b'-1', b'1e400', b'\0', b'"', b'\xff', b'..', b'../../x', b'/etc/passwd', b'x' * 200_000, b'boat;;', b'NaN', b'1_0'])]
    return rng.choice([b'\n', b'\r\n', b'\r']).join(b','.join(cells) for cells in lines)


def header_of(shape, dtype='<f4') -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {'descr': dtype, 'fortran_order': False, 'shape': shape})
    return file.getvalue()


def bomb(name: str, shape, dtype='<f4') -> bytes:
    "A small archive whose one array fills 280 MB; its checksum is right."
    file, size = io.BytesIO(), int(np.prod(shape)) * np.dtype(dtype).itemsize
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive, archive.open(f'{name}.npy', 'w', force_zip64=True) as member:
        member.write(header_of(shape, dtype))
        for _ in range(size >> 20): member.write(bytes(2**20))
    return file.getvalue()


BOMBS: dict[str, bytes] = {}


def damage_arrays(data: bytes, rng: random.Random) -> bytes:
    "An array of another type, shape or range, missing, lying about its size, or very large."
    arrays = dict(np.load(io.BytesIO(data)).items())
    name = rng.choice(list(arrays))
    array = arrays[name]
    act = rng.randrange(9)
    if act == 0: del arrays[name]
    elif act == 1: arrays[name] = np.full(array.shape, rng.choice([-1, 255, 2**40, np.nan, np.inf, 1e30, .5]))
    elif act == 2 and array.dtype.kind != 'U': arrays[name] = array.astype(rng.choice(['f8', 'f2', 'i1', 'u2', 'c8', 'U3', '?']))
    elif act == 3: arrays[name] = array[None] if rng.random() < .5 or not array.ndim else array[0]
    elif act == 4: arrays[name] = np.zeros((0, *array.shape[1:]), array.dtype) if array.ndim else np.zeros(0)
    elif act == 5 and array.ndim: arrays[name] = np.concatenate([array, array])
    elif act == 6: arrays[name] = rng.choice([np.array('x'), np.zeros(3, [('a', 'f4')]), np.zeros((3, 3, 3, 3)), np.array(2**62)])
    elif act == 7 and rng.random() < .1:
        if name not in BOMBS and len(BOMBS) < 3: BOMBS[name] = bomb(name, (280, 2**18))
        if name in BOMBS: return BOMBS[name]
    elif array.dtype.kind in 'iuf' and array.size:
        flat = arrays[name] = array.copy()
        flat.flat[rng.randrange(flat.size)] = rng.choice([0, 1, 3, 100])
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])) as archive:
        for each, value in arrays.items():
            body = io.BytesIO()
            np.lib.format.write_array(body, np.asarray(value))
            content = body.getvalue()
            if act == 8 and each == name: content = header_of(rng.choice([(2**40,), (2**62, 2**62), (10**5, 10**5), (-1,), (400, 2**20)])) + content[128:]
            archive.writestr(f'{each}.npy', content)
    return file.getvalue()


def damage_tensors(data: bytes, rng: random.Random) -> bytes:
    "The header of a safetensors file, or what it says of its network, changed."
    size = int.from_bytes(data[:8], 'little')
    header, body = json.loads(data[8:8 + size]), data[8 + size:]
    about, act = header['__metadata__'], rng.randrange(4)
    if act == 0: header = damage_json(header, rng)
    elif act == 1:
        name = rng.choice(list(about))
        about[name] = rng.choice(['', 'x', '{}', 'null', '[1]', '-5', '9' * 400, '[' * 50_000, '{"backbone": "tiny"}'])
    elif act == 2 and 'arch' in about:
        about['arch'] = json.dumps(damage_json({**json.loads(about['arch']), **rng.choice([{}, {'weights': 'imagenet'}, {'weights': '/etc/passwd'}])}, rng))
    else:
        tensor = header.pop(rng.choice([name for name in header if name != '__metadata__']))
        if rng.random() < .5: header[rng.choice(['x', 'backbone.x', 'classifier.weight'])] = tensor
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, 'little') + text + body


def damaged(reader: Reader, data: bytes, n: int) -> bytes:
    "Input number `n` of a reader."
    rng = random.Random(f'{reader.name} {n}')
    if reader.kind != 'bytes' and rng.random() < .7:
        try: return {'json': lambda: dumped(damage_json(json.loads(data), rng)), 'jsonl': lambda: damage_lines(data, rng),
                     'csv': lambda: damage_cells(data, rng), 'npz': lambda: damage_arrays(data, rng), 'safe': lambda: damage_tensors(data, rng)}[reader.kind]()
        except (KeyError, IndexError, ValueError, TypeError, OverflowError): pass
    return damage_bytes(data, rng)


# --- what comes of it ----------------------------------------------------------------------------------------------------------

class Hang(BaseException):
    "An input took too long."


def ring(*_): raise Hang


def outcome(work: Callable[[], Any], path: Path) -> tuple[str, str]:
    "read, refused, nameless (refused, but the file is not named), raw or hang; and what was said."
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        work()
        return 'read', ''
    except DataError as error:
        told = str(error)
        return ('refused' if (path.name in told or str(path.parent) in told) and len(told) < 6000 else 'nameless'), told
    except Hang: return 'hang', traceback.format_exc(limit=-3)
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)): raise
        return 'raw', traceback.format_exc(limit=-4)
    finally: signal.setitimer(signal.ITIMER_REAL, 0)


def memory() -> int: return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024      # MB


@dataclass
class Found:
    "The outcomes by reader, how much the memory grew (MB), and the inputs that were neither read nor refused."
    counts: dict[str, collections.Counter]
    grown: int
    bad: list[tuple[str, int, str, str]]

    def total(self) -> collections.Counter: return sum(self.counts.values(), collections.Counter())

    def lines(self):
        for name, counts in self.counts.items(): yield f'{name:36s} ' + '  '.join(f'{k} {v}' for k, v in sorted(counts.items()))
        yield f'{"all":36s} ' + '  '.join(f'{k} {v}' for k, v in sorted(self.total().items())) + f'  memory +{self.grown} MB'


def each_input(folder: Path, sound: dict[str, bytes]):
    "Inputs by turns, one of each reader, without end: (reader, number)."
    for n in itertools.count():
        for reader in READERS: yield reader, n


def try_one(folder: Path, sound: dict[str, bytes], reader: Reader, n: int) -> tuple[str, str]:
    "What comes of one input; the sound file is put back."
    path = folder/reader.file
    content = damaged(reader, sound[reader.file], n)
    path.write_bytes(content)
    try: return outcome(lambda: reader.read(path), path)
    finally: path.write_bytes(sound[reader.file])


def fuzz(folder: Path, seconds: float | None = None, inputs: int | None = None) -> Found:
    "Try inputs for so long, or so many, all readers by turns."
    folder.mkdir(parents=True, exist_ok=True)
    write_run(folder)
    sound = {o.file: (folder/o.file).read_bytes() for o in READERS}
    for reader in READERS: reader.read(folder/reader.file)      # sound files are read, and what is loaded is loaded
    found, before, end = Found({o.name: collections.Counter() for o in READERS}, 0, []), memory(), time.monotonic() + (seconds or 1e9)
    for done, (reader, n) in enumerate(each_input(folder, sound)):
        if time.monotonic() > end or (inputs and done >= inputs): break
        kind, told = try_one(folder, sound, reader, n)
        found.counts[reader.name][kind] += 1
        if kind not in ('read', 'refused'): found.bad.append((reader.name, n, kind, told))
    found.grown = memory() - before
    return found


COMMANDS = [('metrics.json', 'compare {} --methods cam wood --split val --draws 20'), ('eval/cam-val.npz', 'compare {} --methods cam wood --split val --draws 20'),
            ('run.json', 'compare {} --methods cam wood --split val --draws 20'), ('mining/manifest.json', 'ood-list {} {}/list.out'),
            ('run.json', 'ood-list {} {}/list.out'), ('metrics.json', 'table A3 --runs {} --stage seed --split val'),
            ('point.json', 'table A1 --runs {} --stage seed --split val'), ('run.json', 'table A1 --runs {} --stage seed --split val')]


def through_the_command_line(folder: Path, each: int, processes: int = 8) -> collections.Counter:
    "Exit codes of `wood` with damaged files in the run; some in processes of their own. A traceback counts as raw."
    from wood_nb.cli.parser import main
    readers, counts = {o.file: o for o in READERS}, collections.Counter()
    for k, (file, words) in enumerate(COMMANDS):
        sound = (folder/file).read_bytes()
        for n in range(each):
            (folder/file).write_bytes(damaged(readers[file], sound, 10**6 + n))
            asked = words.format(folder, folder).split()
            if n == 0 and k < processes:
                done = subprocess.run([sys.executable, '-m', 'wood_nb.cli', *asked], capture_output=True, text=True, timeout=120)
                code, told = done.returncode, done.stderr
            else:
                out, said = io.StringIO(), io.StringIO()
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said): code = main(asked)
                told = said.getvalue()
            raw = 'Traceback' in told or code not in (0, 2)
            counts['raw' if raw else f'exit {code}'] += 1
            if raw: print(words, n, told[-1500:])
        (folder/file).write_bytes(sound)
    return counts


def again(folder: Path, case: str):
    "One input again; what it raises is raised."
    name, n = case.rsplit(':', 1)
    reader = next(o for o in READERS if o.name == name)
    write_run(folder)
    content = damaged(reader, (folder/reader.file).read_bytes(), int(n))
    (folder/reader.file).write_bytes(content)
    print(content[:3000])
    print(reader.read(folder/reader.file))


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument('--long', action='store_true')
    asked.add_argument('--inputs', type=int)
    asked.add_argument('--case')
    args = asked.parse_args()
    warnings.simplefilter('ignore')
    folder = Path(tempfile.mkdtemp(prefix='wood-fuzz-'))
    try:
        if args.case: return again(folder/'run', args.case) or 0
        start = time.monotonic()
        found = fuzz(folder/'run', None if args.long or args.inputs else 25, args.inputs or (20_000 if args.long else None))
        for name, n, kind, told in found.bad[:40]: print(f'--- {name}:{n} {kind}\n{told}')
        print('\n'.join(found.lines()), f'{time.monotonic() - start:.0f} s', sep='\n')
        commands = through_the_command_line(folder/'run', 50) if args.long else collections.Counter()
        if commands: print('command line:', '  '.join(f'{k} {v}' for k, v in sorted(commands.items())))
        return int(bool(found.bad) or commands['raw'] > 0 or found.grown > 300)
    finally: shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
    os.environ.setdefault('MPLBACKEND', 'agg')
    sys.exit(main())
