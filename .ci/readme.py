"""Renders README.md from nbs/index.ipynb, without quarto: `readme.py` writes, `readme.py --check` only compares.

Code cells become fenced code with their results beneath: text as a block, tables as HTML, pictures as files in
docs/images/ (named index-<label>.png after `#| label: <label>`, else by number), so that everything shows on GitHub.
Directives understood: hide, include: false (nothing is shown); echo: false, hide_input (only the result); output: false,
hide_output (only the code); label; fig-alt or fig-cap (the picture's text). Links are rewritten from nbs/ to the top."""
import argparse
import base64
import posixpath
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]/'tests'))
from nbtools import ROOT, directives, read, source  # noqa: E402

IMAGES = {'image/png': 'png', 'image/jpeg': 'jpg', 'image/gif': 'gif', 'image/svg+xml': 'svg'}
PREFIX = 'index-'
NOTE = '<!-- Made from nbs/index.ipynb by `make readme`: edit there, not here. -->'
ANSI = re.compile(r'\x1b\[[0-9;]*[A-Za-z]')
LINK = re.compile(r'(\]\(\s*<?|(?:src|href)=")([^)\s">]+)')      # from `](` on: the text of a link may hold code or a picture
MARKER = re.compile(r'<!-- book:\w+ -->\s*')                      # of .ci/book.py


def joined(x) -> str: return ''.join(x)


def outside_code(change, text: str) -> str:
    "`text` with `change` applied to what is not code."
    parts = re.split(r'(^```.*?^```\s*?$|`[^`\n]+`)', text, flags=re.M | re.S)
    return ''.join(p if p.startswith('`') else change(p) for p in parts)


def relinked(change, text: str) -> str:
    "`text` with `change(path, anchor)` applied to its relative links; code is left alone."
    def one(m):
        if re.match(r'[a-z][a-z0-9+.-]*:|[#/]', m[2], re.I): return m[0]
        path, hash_, anchor = m[2].partition('#')
        return m[1] + change(path, hash_ + anchor)
    return outside_code(lambda part: LINK.sub(one, part), text)


class Readme:
    "A notebook as Markdown: text in `render()`, pictures in `images`."
    prefix, folder = PREFIX, 'docs/images'      # of the pictures: how their names begin, and where they are seen from the page

    def __init__(self, nb: dict): self.nb, self.images, self.blocks = nb, {}, []

    def relink(self, text: str) -> str:
        "Relative links as seen from nbs/ -> as seen from the top of the repository."
        return relinked(lambda path, anchor: posixpath.normpath('nbs/' + path) + anchor, text)

    def image(self, mime: str, data, label: str | None) -> str:
        "Keeps the picture under a stable name; returns its path as seen from the page."
        stem = self.prefix + (re.sub(r'^fig-', '', label) if label else f'{len(self.images) + 1:02}')
        name, n = f'{stem}.{IMAGES[mime]}', 2
        while name in self.images: name, n = f'{stem}-{n}.{IMAGES[mime]}', n + 1
        raw = joined(data)
        self.images[name] = raw.encode() if mime == 'image/svg+xml' else base64.b64decode(raw)
        return f'{self.folder}/{name}'

    def html(self, text: str) -> str:
        "A table or the like, as GitHub shows it: without scripts, styles and the blank lines that would end it."
        text = re.sub(r'<(style|script)\b.*?</\1>', '', text, flags=re.S | re.I)
        text = re.sub(r'\s(style|class|id|border)="[^"]*"', '', text)
        lines = (o.strip() for o in text.splitlines())
        return '\n'.join(o for o in lines if o)

    def text(self, text: str) -> str: return f'```\n{text}\n```'

    def output(self, out: dict, options: dict) -> str | None:
        if out['output_type'] == 'stream':
            text = ANSI.sub('', joined(out['text'])).rstrip()
            return self.text(text) if out['name'] == 'stdout' and text else None
        if out['output_type'] == 'error': raise SystemExit(f'nbs/index.ipynb holds an error: {out["ename"]}: {out["evalue"]}')
        data = out['data']
        for mime in IMAGES:
            if mime in data:
                alt = options.get('fig-alt') or options.get('fig-cap') or ''
                return f'![{alt}]({self.image(mime, data[mime], options.get("label"))})'
        if 'application/vnd.jupyter.widget-view+json' in data: return None
        if 'text/markdown' in data: return self.relink(joined(data['text/markdown'])).strip()
        if 'text/html' in data: return self.relink(self.html(joined(data['text/html'])))
        return self.text(ANSI.sub('', joined(data.get('text/plain', ''))).rstrip())

    def code(self, cell: dict):
        flags = directives(cell)
        names = {o for o in flags if ':' not in o}
        options = {k.strip(): v.strip().strip('"\'') for k, v in (o.split(':', 1) for o in flags if ':' in o)}
        off = lambda key: options.get(key, '').lower() == 'false'  # noqa: E731
        if 'hide' in names or off('include'): return
        text = '\n'.join(o for o in source(cell).splitlines() if not re.match(r'\s*#\s*\|', o)).strip('\n')
        if text and not (off('echo') or 'hide_input' in names): self.blocks.append(f'```python\n{text}\n```')
        if off('output') or 'hide_output' in names: return
        self.blocks += filter(None, (self.output(o, options) for o in cell['outputs']))

    def markdown(self, cell: dict):
        text = MARKER.sub('', self.relink(source(cell))).strip()
        for name, data in cell.get('attachments', {}).items():
            mime = next(o for o in data if o in IMAGES)
            text = re.sub(rf'attachment:{re.escape(name)}', lambda m: self.image(mime, data[mime], Path(name).stem), text)
        self.blocks.append(text)

    def render(self) -> str:
        for cell in self.nb['cells']:
            if cell['cell_type'] == 'code': self.code(cell)
            elif cell['cell_type'] == 'markdown': self.markdown(cell)
        return re.sub(r'\n{3,}', '\n\n', '\n\n'.join([NOTE, *self.blocks])).strip() + '\n'


def expected(root: Path = ROOT) -> dict[Path, bytes]:
    "Every file that follows from nbs/index.ipynb, by its path, with its content."
    page = Readme(read(root/'nbs'/'index.ipynb'))
    text = page.render()
    return {root/'README.md': text.encode(), **{root/'docs'/'images'/k: v for k, v in page.images.items()}}


def differences(root: Path = ROOT) -> list[str]:
    files = expected(root)
    old = set((root/'docs'/'images').glob(PREFIX + '*')) - set(files)
    stale = [p for p, data in files.items() if not p.exists() or p.read_bytes().replace(b'\r\n', b'\n') != data.replace(b'\r\n', b'\n')]
    return [f'{p.relative_to(root)} is not what nbs/index.ipynb says' for p in stale] + [f'{p.relative_to(root)} is left over' for p in sorted(old)]


def write(root: Path = ROOT):
    files = expected(root)
    for p in (root/'docs'/'images').glob(PREFIX + '*'):
        if p not in files: p.unlink()
    for p, data in files.items():
        p.parent.mkdir(parents=True, exist_ok=True)
        if not p.exists() or p.read_bytes() != data: p.write_bytes(data)
    print(f'README.md and {len(files) - 1} pictures in docs/images follow nbs/index.ipynb.')


if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    ap.add_argument('--check', action='store_true', help='write nothing; exit with 1 and say what differs')
    if ap.parse_args().check:
        found = differences()
        if found: sys.exit('\n'.join([*found, 'run: make readme']))
    elif not (ROOT/'nbs'/'index.ipynb').exists(): sys.exit('nbs/index.ipynb is not there')
    else: write()
