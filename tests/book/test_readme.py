"""The renderer of README.md, on small notebooks."""
import base64
import sys

import pytest
from nbtools import ROOT

sys.path.insert(0, str(ROOT/'.ci'))
import readme  # noqa: E402

PNG = base64.b64encode(b'not really a picture').decode()


def md(text): return dict(cell_type='markdown', source=text)
def code(text, *outputs): return dict(cell_type='code', source=text, outputs=list(outputs))
def shown(**data): return dict(output_type='display_data', data={k.replace('_', '/'): v for k, v in data.items()})
def printed(text, name='stdout'): return dict(output_type='stream', name=name, text=text)
def render(*cells): return readme.Readme(dict(cells=list(cells))).render().split('\n\n', 1)[1]


@pytest.mark.parametrize('link, expected', [
    ('[a](00_data.ipynb)', '[a](nbs/00_data.ipynb)'), ('[a](../docs/formats.md#masks)', '[a](docs/formats.md#masks)'),
    ('[a](https://a.org/b)', '[a](https://a.org/b)'), ('[a](#top)', '[a](#top)'), ('`[a](b)`', '`[a](b)`'),
    ('![p](../docs/images/p.png)', '![p](docs/images/p.png)'), ('<img src="../docs/p.png">', '<img src="docs/p.png">'),
    ('```\n[a](b)\n```', '```\n[a](b)\n```'),
    ('[Images](1_data/01_images.ipynb#masks)', '[Images](nbs/1_data/01_images.ipynb#masks)'),
    ('[`data.images`](1_data/01_images.ipynb): files', '[`data.images`](nbs/1_data/01_images.ipynb): files'),
    ('[![p](../docs/images/p.png)](1_data/01_images.ipynb)', '[![p](docs/images/p.png)](nbs/1_data/01_images.ipynb)')])
def test_links_are_seen_from_the_top(link, expected): assert render(md(link)) == expected + '\n'


def test_the_table_of_contents_has_no_marker():
    assert render(md('<!-- book:contents -->\n\n## The lessons\n\n- [A](1_a/01_a.ipynb)')) == '## The lessons\n\n- [A](nbs/1_a/01_a.ipynb)\n'


def test_code_and_what_it_shows():
    page = render(code('1 + 1', shown(text_plain='2')), code('#| hide\n3'), code('#| echo: false\n4', printed('four\n')),
                  code('5', printed('progress', 'stderr')), code('#| output: false\n6', printed('six')))
    assert page == '```python\n1 + 1\n```\n\n```\n2\n```\n\n```\nfour\n```\n\n```python\n5\n```\n\n```python\n6\n```\n'


def test_tables_survive_github():
    page = render(code('t', shown(text_html='<style scoped>x {}</style>\n<table border="1" class="d">\n\n  <tr><td>1</td></tr>\n</table>')))
    assert page.endswith('<table>\n<tr><td>1</td></tr>\n</table>\n')


def test_pictures_have_stable_names():
    r = readme.Readme(dict(cells=[code('#| echo: false\n#| label: fig-effect\n#| fig-alt: the effect\nf()', shown(image_png=PNG)),
                                  code('g()', shown(image_png=PNG))]))
    page = r.render()
    assert '![the effect](docs/images/index-effect.png)' in page and list(r.images) == ['index-effect.png', 'index-02.png']


def test_an_error_in_the_index_stops_it():
    with pytest.raises(SystemExit, match='ZeroDivisionError'):
        render(code('1/0', dict(output_type='error', ename='ZeroDivisionError', evalue='division by zero')))


def test_differences_name_the_files(tmp_path):
    import json
    (tmp_path/'nbs').mkdir()
    (tmp_path/'nbs'/'index.ipynb').write_text(json.dumps(dict(cells=[md('# T'), code('f()', shown(image_png=PNG))])))
    assert [o.split()[0] for o in readme.differences(tmp_path)] == ['README.md', 'docs/images/index-01.png']
    readme.write(tmp_path)
    assert readme.differences(tmp_path) == []
    (tmp_path/'docs'/'images'/'index-old.png').write_bytes(b'')
    assert readme.differences(tmp_path) == ['docs/images/index-old.png is left over']


def test_every_link_of_the_readme_leads_somewhere(root):
    import re
    links = re.findall(r'\]\(([^)#\s]+)', (root/'README.md').read_text(encoding='utf-8'))
    assert len(links) > 3
    assert not [o for o in links if '://' not in o and not (root/o).exists()]
