"""The registry: a name is taken once, what is composed has the names and colours of its parts, every entry is complete."""
import importlib
import re
from dataclasses import replace

import pytest

from wood_nb.base.files import DataError
from wood_nb.maps import methods
from wood_nb.maps.methods import (ADVCAM, ALSO, base_of, CAM, check_methods, CLASSIFIER, colour_of, CONTROLS, CRF, dash_of, followed_by, function_of,
                                  has_step, IRN, method_name, method_of, METHODS, methods_beside, parts, register, TRUTH, WOOD)


@pytest.fixture
def registry(monkeypatch):
    "A copy that a test may add to."
    monkeypatch.setattr(methods, 'METHODS', dict(METHODS))
    return methods.METHODS


def test_a_name_is_taken_once(registry):
    new = replace(METHODS[CAM], name='mine', label='Mine')
    assert register(new) is new and method_name('mine') == 'Mine'
    for taken in ('mine', CAM, TRUTH):
        with pytest.raises(DataError, match=f"'{taken}' is registered already; choose another name"): register(replace(new, name=taken))
    assert registry['mine'] is new and registry[CAM] is METHODS[CAM] and 'mine' not in METHODS


@pytest.mark.parametrize('name', METHODS)
def test_every_method_is_complete(name):
    method = METHODS[name]
    assert method.name == name and method.label and method.draws and method.source
    assert re.fullmatch(r'#[0-9a-f]{6}', method.colour)
    assert isinstance(method.dash, str) and method.dash in ('-', '--', '-.', ':') or len(method.dash[1]) % 2 == 0
    assert not re.search(r'[+\-\s]', name), 'plus joins steps, minus the terms of an ablation'
    assert all(stage and isinstance(stage, str) for stage in method.needs)


@pytest.mark.parametrize('name', METHODS)
def test_what_draws_a_method_is_there(name):
    room, module, *path = METHODS[name].draws.split('.')
    found = importlib.import_module(f'wood_nb.{room}.{module}')
    for part in path: found = getattr(found, part)
    assert callable(found)


def test_labels_and_colours_are_told_apart():
    labels, colours = ([getattr(o, kind) for o in METHODS.values()] for kind in ('label', 'colour'))
    assert len(set(labels)) == len(labels) and len(set(colours)) == len(colours)
    dashes = [(o.dash, o.step) for o in METHODS.values() if o.name != TRUTH]
    assert len(set(dashes)) == len(dashes), 'without colour, dashes tell bases apart, and steps'


@pytest.mark.parametrize('method,name', [
    (CAM, 'CAM'), (WOOD, 'W-OoD'), (CLASSIFIER, 'CAM before'), ('wood+irn', 'W-OoD + IRN'), ('cam+irn+crf', 'CAM + IRN + CRF'),
    ('wood-distance', 'W-OoD, distance only'), ('wood-distance+irn', 'W-OoD, distance only + IRN'), ('advcam-cam', 'AdvCAM, cam only'),
    ('seam-ood+irn', 'SEAM + OoD + IRN'), ('mine', 'mine'), ('mine-all', 'mine-all'), ('mine+crf', 'mine + CRF')])
def test_names_of_composed_methods(method, name): assert method_name(method) == name


def test_colours_and_dashes_of_composed_methods():
    for steps in ('', '+irn', '+irn+crf', '-distance', '-distance+psa'): assert colour_of(WOOD + steps) == METHODS[WOOD].colour
    assert dash_of('wood+irn') == METHODS[IRN].dash == dash_of('cam+irn') and dash_of('wood+irn+crf') == METHODS[CRF].dash
    assert dash_of('wood-distance') == METHODS[WOOD].dash and dash_of('wood+irn-x') == METHODS[IRN].dash
    assert colour_of('mine') == colour_of('mine+irn') not in [o.colour for o in METHODS.values() if not o.step] and dash_of('mine') == '-'


def test_parts_and_steps():
    name = followed_by(followed_by(WOOD, IRN), CRF)
    assert name == 'wood+irn+crf' and parts(name) == [WOOD, IRN, CRF] and base_of(name) == WOOD == base_of('wood-distance+irn')
    assert has_step(name, IRN) and has_step(name, CRF) and not has_step(name, WOOD) and not has_step(CAM, CAM)
    assert has_step(followed_by(CAM, ADVCAM), ADVCAM)


def test_unknown_methods_are_refused():
    assert check_methods((m for m in (CAM, WOOD)), METHODS) == [CAM, WOOD] and check_methods([], []) == []
    with pytest.raises(DataError, match="'cams' is not a method here; there are cam, wood"): check_methods([CAM, 'cams'], [CAM, WOOD])


def test_methods_trained_beside():
    assert methods_beside()[0] == 'seam' and set(methods_beside()) >= {'seam', 'seam-ood'}
    for name in methods_beside():
        method = method_of(name)
        assert method.name == name and method.trains == ALSO and method.ood == name.endswith('-ood') == (name in CONTROLS)
        for path in (method.trainer, method.opens, method.draws): assert callable(function_of(path)), path
        assert colour_of(name) == method.colour and dash_of(name) == method.dash and method_of(f'{name}+irn') is method
    colours = [o.colour for o in (*METHODS.values(), *CONTROLS.values())]
    assert len(set(colours)) == len(colours)
    assert method_of('wood-distance+irn') is METHODS[WOOD] and method_of('head-none') is CONTROLS['head-none']
    with pytest.raises(DataError, match="'mine' is not a method of the registry; there are classifier, cam"): method_of('mine+irn')
