"""The book: the order of the lessons, the links between them, the table of contents. Folders in nbs/ are chapters.

`book.py --write` (`make book`) puts a line with previous, contents and next at the top and the bottom of each lesson, and
the table of contents into nbs/index.ipynb. `book.py --check` writes nothing: it says what differs and which links of the
notebooks, README.md and docs/ lead nowhere, and exits with 1 if there are any. What is written begins with a comment
(`<!-- book:top -->` and the like), is recognised by it, and is replaced as a whole: edit the lessons' titles instead."""
import argparse
import json
import posixpath
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

sys.path.insert(0, str(Path(__file__).resolve().parents[1]/'tests'))
from nbtools import ROOT, directives, notebooks, read, source  # noqa: E402

CHAPTERS = dict(begin='Begin here', scenes='Drawn scenes', networks='Networks and training', maps='Localisation maps',
                ood='Out-of-distribution pictures', masks='From maps to masks', runs='Whole runs')    # others: the folder's name
TOP, BOTTOM, CONTENTS = (f'<!-- book:{o} -->' for o in ('top', 'bottom', 'contents'))
BLOCK = re.compile(r'^ *(```|~~~).*?^ *\1\s*?$', re.M | re.S)
SPAN = re.compile(r'(?<!`)(`+)(?!`)[^\n]+?(?<!`)\1(?!`)')
LINK = re.compile(r'\]\(\s*<?([^)\s>]+)|\b(?:src|href)="([^"]+)"|^\s*\[[^\]]+\]:\s*<?([^\s>]+)', re.M)


@dataclass(frozen=True)
class Lesson:
    "A notebook in a chapter: its path as seen from nbs/, its title and subtitle, the module it exports (or '')."
    path: str
    title: str
    subtitle: str
    module: str


def in_order(path: str) -> list:
    "A key that sorts 2_x before 10_x."
    return [int(o) if o.isdigit() else o for o in re.split(r'(\d+)', path)]


def lesson(path: Path, root: Path) -> Lesson:
    "Read from the first cell (`# title`, `> subtitle`), `default_exp` and `export`."
    nb = read(path)
    title, *rest = source(nb['cells'][0]).strip().splitlines()
    subtitle = ' '.join(o.lstrip('> ').strip() for o in rest if o.startswith('>'))
    flags = [o for c in nb['cells'] for o in directives(c)]
    name = next((o.split()[1] for o in flags if o.startswith('default_exp ')), '')
    exports = any(o.split()[0] in ('export', 'exports', 'exporti') for o in flags)
    return Lesson(path.relative_to(root/'nbs').as_posix(), title.lstrip('# ').strip(), subtitle, name if exports else '')


def lessons(root: Path = ROOT) -> list[Lesson]:
    "All lessons, in the order in which they are read."
    found = [lesson(o, root) for o in notebooks(root) if o.parent != root/'nbs']
    return sorted(found, key=lambda o: in_order(o.path))


def chapters(root: Path = ROOT) -> dict[str, list[Lesson]]:
    "The lessons by chapter title."
    found: dict[str, list[Lesson]] = {}
    for o in lessons(root):
        name = re.sub(r'^\d+_', '', posixpath.dirname(o.path))
        found.setdefault(CHAPTERS.get(name, name.replace('_', ' ').capitalize()), []).append(o)
    return found


# -- what is written -------------------------------------------------------------------------------------------------

def link(text: str, target: str, here: str = 'index.ipynb') -> str:
    "A Markdown link from one notebook to another, both as seen from nbs/."
    words = text.replace('[', r'\[').replace(']', r'\]')
    return f'[{words}]({quote(posixpath.relpath(target, posixpath.dirname(here) or "."))})'


def cell(marker: str, text: str) -> dict:
    "A Markdown cell of ours: the marker, then the text; its id follows from the marker."
    return dict(cell_type='markdown', id='book-' + marker.split(':')[1].split()[0], metadata={},
                source=f'{marker}\n\n{text}'.splitlines(keepends=True))


def is_ours(cell: dict, *markers: str) -> bool:
    return cell['cell_type'] == 'markdown' and source(cell).lstrip().startswith(markers)


def navigation(here: Lesson, before: Lesson | None, after: Lesson | None) -> str:
    "Previous lesson, contents, next lesson."
    parts = [before and link(f'← {before.title}', before.path, here.path), link('Contents', 'index.ipynb', here.path),
             after and link(f'{after.title} →', after.path, here.path)]
    return ' · '.join(filter(None, parts))


def with_navigation(nb: dict, line: str) -> dict:
    "The lesson with `line` as its second cell and as its last but the hidden one that exports."
    cells = [c for c in nb['cells'] if not is_ours(c, TOP, BOTTOM)]
    end = len(cells) - ('nbdev_export(' in source(cells[-1]))
    return nb | dict(cells=[cells[0], cell(TOP, line), *cells[1:end], cell(BOTTOM, line), *cells[end:]])


def contents(root: Path = ROOT) -> str:
    "The table of contents: a heading for each chapter, a line for each lesson."
    def entry(o): return f'- {link(o.title, o.path)}: {o.subtitle}' + (f' (`{o.module}`)' if o.module else '')
    parts = [f'### {title}\n\n' + '\n'.join(map(entry, found)) for title, found in chapters(root).items()]
    return '\n\n'.join(['## The lessons', *parts])


def with_contents(nb: dict, text: str) -> dict:
    "The index with its contents, where the marked cell is; at the end if there is none yet."
    ours, cells = cell(CONTENTS, text), nb['cells']
    if not any(is_ours(c, CONTENTS) for c in cells): cells = [*cells, ours]
    return nb | dict(cells=[ours if is_ours(c, CONTENTS) else c for c in cells])


def text_of(nb: dict) -> str:
    "A notebook as `nbdev_clean` writes it."
    return json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + '\n'


def expected(root: Path = ROOT) -> dict[Path, str]:
    "What each lesson and the index should be; nothing as long as there are no chapters."
    found, index, texts = lessons(root), root/'nbs'/'index.ipynb', {}
    for before, here, after in zip([None, *found], found, [*found[1:], None], strict=False):
        path = root/'nbs'/here.path
        texts[path] = text_of(with_navigation(read(path), navigation(here, before, after)))
    if found and index.exists(): texts[index] = text_of(with_contents(read(index), contents(root)))
    return texts


def differences(root: Path = ROOT) -> list[Path]:
    "The notebooks that are not as they should be."
    return [path for path, text in expected(root).items() if path.read_text(encoding='utf-8') != text]


def write(root: Path = ROOT) -> int:
    "Bring the notebooks up to date; how many had to be written."
    stale, texts = differences(root), expected(root)
    for path in stale: path.write_text(texts[path], encoding='utf-8', newline='\n')
    return len(stale)


# -- links -----------------------------------------------------------------------------------------------------------

def prose(path: Path) -> str:
    "The Markdown of a notebook or of a text file, without blocks of code."
    if path.suffix != '.ipynb': text = path.read_text(encoding='utf-8')
    else: text = '\n\n'.join(source(c) for c in read(path)['cells'] if c['cell_type'] == 'markdown')
    return BLOCK.sub('', text)


def slug(heading: str) -> str:
    "A heading as the anchor of a link, in small letters as GitHub makes it."
    return re.sub(r'[^\w-]', '', unquote(heading).strip().lower().replace(' ', '-'))


def anchors(path: Path) -> set[str]:
    text = prose(path)
    headings = (re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', o) for o in re.findall(r'^#{1,6}\s+(.+?)\s*#*$', text, re.M))
    return set(map(slug, [*headings, *re.findall(r'\b(?:id|name)="([^"]+)"', text)]))


def links(path: Path) -> Iterator[str]:
    "The relative links of a notebook or a text file."
    for m in LINK.finditer(SPAN.sub('', prose(path))):
        target = next(filter(None, m.groups()))
        if not re.match(r'[a-z][a-z0-9+.-]*:', target, re.I): yield target


def broken(root: Path = ROOT) -> list[str]:
    "Every link that leads nowhere, with the file in which it stands."
    files, found = [*notebooks(root), *sorted(root.glob('*.md')), *sorted((root/'docs').glob('*.md'))], []
    for path in files:
        for target in links(path):
            name, _, anchor = target.partition('#')
            goal = (path.parent/unquote(name)).resolve() if name else path
            if not goal.is_relative_to(root.resolve()) and name: fault = 'leads out of the repository'
            elif not goal.exists(): fault = 'no such file'
            elif anchor and goal.suffix in ('.md', '.ipynb') and slug(anchor) not in anchors(goal): fault = 'no such heading'
            else: continue
            found.append(f'{path.relative_to(root).as_posix()}: link to {target}: {fault}')
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--write', action='store_true')
    what.add_argument('--check', action='store_true')
    if parser.parse_args().write:
        n = write()
        print('\n'.join([*broken(), f'{len(lessons())} lessons in {len(chapters())} chapters; {n} notebooks written.']))
        return 0
    found = [f'{o.relative_to(ROOT).as_posix()}: navigation or contents differ; run: make book' for o in differences()] + broken()
    if found: print('\n'.join(found))
    return int(bool(found))


if __name__ == '__main__': sys.exit(main())
