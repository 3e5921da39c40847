"""Builds the lessons as a website in _docs/: `make docs`. It is read from the disk (open _docs/index.html) or from a server,
and fetches nothing from elsewhere.

Lessons become Markdown as the README does (readme.py): hidden cells and directives are left out, results and pictures
shown as they are stored; formulas become MathML. MkDocs with Material for MkDocs makes the pages and the search;
mkdocstrings reads the library's source, without importing it, for a page per package."""
import ast
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1]/'tests')]
import book  # noqa: E402
from nbtools import ROOT, read, settings  # noqa: E402
from readme import Readme, outside_code, relinked  # noqa: E402

SITE = Path(__file__).resolve().parent/'site'       # what the pages need beside their text
NOTES = dict(architecture='Architecture', formats='Files on disk', results='What was measured')     # others: their first heading
API = dict(heading_level=2, members_order='source', filters=['!^_'], allow_inspection=False, docstring_style=None, show_source=False,
           show_root_heading=True, show_root_full_path=False, show_labels=False, show_symbol_type_toc=True,
           merge_init_into_class=True, separate_signature=True, show_signature_annotations=True, line_length=88)
MATH = re.compile(r'\$\$(.+?)\$\$|(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\w$])', re.S)
OUTSIDE = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href|srcset)="?(?:https?:)?//[^>]*>')


def site_path(path: str, root: Path) -> str:
    "Where a file of the repository is on the site, or its address in the repository's home if it is not there."
    if path.startswith('nbs/') and path.endswith('.ipynb'): return path[4:-6] + '.md'
    if path == 'README.md': return 'index.md'
    if path.startswith('docs/'): return path
    return f'{settings(root)["git_url"]}/blob/{settings(root)["branch"]}/{path}'


def relinked_from(here: str, text: str, root: Path) -> str:
    "The links of a file of the repository, as they have to be on the site."
    def change(path, anchor):
        goal = site_path(posixpath.normpath(posixpath.join(posixpath.dirname(here), path)), root)
        if '://' in goal: return goal + anchor
        return posixpath.relpath(goal, posixpath.dirname(site_path(here, root)) or '.') + re.sub('-+', '-', anchor).lower()
    return relinked(change, text)


def with_formulas(text: str) -> str:
    "Formulas between dollar signs as MathML, which browsers show without a script."
    def one(m):
        from latex2mathml.converter import convert
        made = convert(m[1] or m[2], display='block' if m[1] else 'inline')
        return re.sub(r'[*_`\\]', lambda o: f'&#{ord(o[0])};', made)
    return outside_code(lambda part: MATH.sub(one, part), text)


class Page(Readme):
    "A lesson as a page of the site."
    prefix = ''

    def __init__(self, path: str, root: Path = ROOT):
        super().__init__(read(root/'nbs'/path))
        self.path, self.root, self.folder = path, root, Path(path).stem
        self.nb['cells'] = [c for c in self.nb['cells'] if not book.is_ours(c, book.TOP, book.BOTTOM)]

    def relink(self, text: str) -> str: return relinked_from(f'nbs/{self.path}', text, self.root)
    def text(self, text: str) -> str: return f'```{{ .text .output }}\n{text}\n```'
    def html(self, text: str) -> str:
        text = re.sub(r'<(style|script)\b.*?</\1>', '', text, flags=re.S | re.I)
        return '<div class="result">\n' + '\n'.join(filter(str.strip, text.splitlines())) + '\n</div>'

    def output(self, out: dict, options: dict) -> str | None:
        shown = super().output(out, options)
        return f'{shown}{{ .output }}' if shown and shown.startswith('![') else shown

    def markdown(self, cell: dict):
        super().markdown(cell)
        self.blocks[-1] = with_formulas(self.blocks[-1])
        if len(self.blocks) == 1 and self.path != 'index.ipynb': self.blocks.append(self.note())

    def note(self) -> str:
        "Under the title: which notebook this is, and which module it exports."
        module, here = book.lesson(self.root/'nbs'/self.path, self.root).module, posixpath.dirname(self.path)
        name = f'{settings(self.root)["lib_path"]}.{module}'
        link = f' · exports [`{name}`]({posixpath.relpath(api_path(name.rpartition(".")[0]), here)}#{name})' if module else ''
        return f'Notebook `nbs/{self.path}`{link}\n{{ .lesson-note }}'

    def write(self, folder: Path):
        target = folder/site_path(f'nbs/{self.path}', self.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self.render().split('\n', 1)[1], encoding='utf-8')       # without the note about `make readme`
        for name, data in self.images.items():
            (target.with_suffix('')/name).parent.mkdir(exist_ok=True)
            (target.with_suffix('')/name).write_bytes(data)


# -- the library -----------------------------------------------------------------------------------------------------

def api_path(package: str) -> str: return f'api/{package}.md'


def packages(root: Path = ROOT) -> dict[str, list[str]]:
    "The packages of the library with the names of their public modules; those without any are left out."
    top, found = root/settings(root)['lib_path'], {}
    for init in sorted(top.rglob('__init__.py')):
        modules = sorted(o.stem for o in init.parent.glob('[!_]*.py'))
        if modules: found['.'.join(init.parent.relative_to(root).parts)] = modules
    return found


def tree(name: str, root: Path) -> ast.Module:
    "The source of a package or a module."
    path = root/name.replace('.', '/')
    path = path/'__init__.py' if path.is_dir() else path.with_suffix('.py')
    return ast.parse(path.read_text(encoding='utf-8'))


def about(name: str, root: Path) -> str: return ast.get_docstring(tree(name, root)) or ''


def constants(name: str, root: Path) -> str:
    "The public names that a module assigns: they have no docstring of their own."
    body = tree(name, root).body
    targets = [t for o in body if isinstance(o, ast.Assign) for t in o.targets] + [o.target for o in body if isinstance(o, ast.AnnAssign)]
    names = [o.id for t in targets for o in ast.walk(t) if isinstance(o, ast.Name) and not o.id.startswith('_')]
    return f'Constants of `{name.rpartition(".")[2]}`: ' + ', '.join(f'`{o}`' for o in dict.fromkeys(names)) if names else ''


def api_page(package: str, modules: list[str], root: Path) -> str:
    "A module after the other: what it is about, its functions and classes, its constants."
    parts = [part for o in modules for part in (f'::: {package}.{o}', constants(f'{package}.{o}', root))]
    return '\n\n'.join(filter(None, [f'# {package}', about(package, root), *parts])) + '\n'


def api_index(root: Path) -> str:
    "The packages and what their modules are about."
    def entry(package, module):
        first = about(f'{package}.{module}', root).split('\n')[0]
        return f'- [`{module}`]({package}.md#{package}.{module})' + (f': {first}' if first else '')
    parts = ['# The library']
    for package, modules in packages(root).items():
        parts += [f'## [{package}]({package}.md)', about(package, root), '\n'.join(entry(package, o) for o in modules)]
    return '\n\n'.join(filter(None, parts)) + '\n'


# -- the site --------------------------------------------------------------------------------------------------------

def write_pages(folder: Path, root: Path = ROOT):
    "Everything that MkDocs needs, in `folder`."
    Page('index.ipynb', root).write(folder)
    for o in book.lessons(root): Page(o.path, root).write(folder)
    shutil.copytree(root/'docs', folder/'docs')
    for o in (folder/'docs').glob('*.md'):
        o.write_text(with_formulas(relinked_from(f'docs/{o.name}', o.read_text(encoding='utf-8'), root)), encoding='utf-8')
    shutil.copytree(SITE, folder/'assets')
    (folder/'api').mkdir()
    (folder/'api'/'index.md').write_text(api_index(root), encoding='utf-8')
    for name, modules in packages(root).items(): (folder/api_path(name)).write_text(api_page(name, modules, root), encoding='utf-8')


def nav(root: Path = ROOT) -> list[dict]:
    "Three tabs: the lessons by chapter, notes, the library."
    def pages(found): return [{o.title: site_path(f'nbs/{o.path}', root)} for o in found]
    chapters = [{title: pages(found)} for title, found in book.chapters(root).items()]
    def title(o): return NOTES.get(o.stem) or o.read_text(encoding='utf-8').split('\n')[0].lstrip('# ')
    notes = [{title(o): f'docs/{o.name}'} for o in sorted((root/'docs').glob('*.md'))]
    library = ['api/index.md', *({o: api_path(o)} for o in packages(root))]
    return [{'Lessons': ['index.md', *chapters]}, {'Notes': notes}, {'Library': library}]


def palette(scheme: str, wanted: str, icon: str, other: str) -> dict:
    return dict(scheme=scheme, primary='blue grey', accent='blue', media=f'(prefers-color-scheme: {wanted})',
                toggle=dict(icon=f'material/{icon}', name=f'Switch to the {other} colours'))


def config(folder: Path, target: Path, root: Path = ROOT) -> dict:
    "mkdocs.yml; as JSON it is YAML too."
    cfg = settings(root)
    features = 'navigation.tabs navigation.footer navigation.indexes navigation.top toc.follow search.highlight content.code.copy'
    palettes = [palette('default', 'light', 'weather-night', 'dark'), palette('slate', 'dark', 'weather-sunny', 'light')]
    return dict(
        site_name=cfg['lib_name'], site_description=cfg['description'], docs_dir=str(folder), site_dir=str(target),
        use_directory_urls=False, nav=nav(root),
        theme=dict(name='material', font=False, palette=palettes, features=features.split()),
        extra_css=['assets/book.css'], extra=dict(polyfills=['assets/iframe-worker.js'], generator=False),
        plugins=['search', 'offline',
                 dict(mkdocstrings=dict(enable_inventory=False, handlers=dict(python=dict(paths=[str(root)], options=API))))],
        markdown_extensions=['attr_list', 'md_in_html', 'sane_lists', 'tables', dict(toc=dict(permalink=True)),
                             'pymdownx.superfences', {'pymdownx.highlight': dict(guess_lang=False)}],
        validation=dict(links=dict(not_found='warn', anchors='warn')))


def fetched(target: Path) -> list[str]:
    "What pages would fetch from elsewhere, by page."
    pages = {o: o.read_text(encoding='utf-8') for o in sorted(target.rglob('*.html'))}
    return [f'{o.relative_to(target)}: {m[0][:200]}' for o, text in pages.items() for m in OUTSIDE.finditer(text)]


def build(target: Path = ROOT/'_docs', root: Path = ROOT) -> int:
    with tempfile.TemporaryDirectory(prefix='wood-docs-') as temporary:
        folder = Path(temporary)/'pages'
        folder.mkdir()
        write_pages(folder, root)
        (Path(temporary)/'mkdocs.yml').write_text(json.dumps(config(folder, target, root)), encoding='utf-8')
        command = [sys.executable, '-m', 'mkdocs', 'build', '--clean', '--strict', '-f', f'{temporary}/mkdocs.yml']
        env = os.environ | dict(NO_MKDOCS_2_WARNING='1')
        r = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode:
        print('\n'.join(o for o in r.stdout.splitlines() if not o.startswith(('INFO', 'DEBUG'))))
        return r.returncode
    for o in fetched(target): print(f'fetches something from elsewhere: {o}')
    print(f'{len(book.lessons(root))} lessons and {len(packages(root))} packages: open {os.path.relpath(target)}/index.html')
    return int(bool(fetched(target)))


if __name__ == '__main__': sys.exit(build())
