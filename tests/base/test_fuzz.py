"""A few seconds of damaged files for every reader; `python tests/fuzz.py --long` tries 20,000."""
import warnings

import pytest


@pytest.mark.slow
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path):
    from fuzz import fuzz
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found = fuzz(tmp_path/'run', seconds=6)
    assert not found.bad, '\n'.join([*(f'{name}:{n} {kind}\n{told}' for name, n, kind, told in found.bad[:5]), *found.lines()])
    assert found.grown < 300 and min(c.total() for c in found.counts.values()) >= 3, '\n'.join(found.lines())
    assert found.total()['refused'] > found.total()['read'] > 0
