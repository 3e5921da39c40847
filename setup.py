"""Builds and installs wood_nb. Every setting lives in settings.ini: edit there, not here.

The notebooks travel inside the package: a wheel carries nbs/ with its chapters as wood_nb/_notebooks, so that
`wood notebooks DIR` can copy them out. In a checkout (`pip install -e .`) nothing is copied and nbs/ itself is used."""
import shlex
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
EXTRAS = ('lab', 'weights', 'bench', 'dev', 'docs')
PYTHONS = ('3.11', '3.12', '3.13')
STATUS = ('1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable', '6 - Mature', '7 - Inactive')
LICENSES = {'apache2': 'Apache-2.0'}

parser = ConfigParser(delimiters=['='])
parser.read(HERE/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
missing = [o for o in 'lib_name lib_path version description author min_python license status audience'.split() if o not in cfg]
if missing: raise SystemExit(f'settings.ini lacks {", ".join(missing)}')


def words(key: str) -> list[str]:
    "A setting as a list: separated by blanks, quotes respected, over as many lines as it likes."
    return shlex.split(cfg.get(key, '').replace('\n', ' '))


NBS = HERE/cfg.get('nbs_path', 'nbs')


def notebooks() -> list[Path]:
    "The lessons in their folders, without files and folders whose names begin with `_` or `.`, as nbdev sees them."
    return sorted(o for o in NBS.rglob('*.ipynb') if not any(p[0] in '_.' for p in o.relative_to(NBS).parts))


class BuildWithNotebooks(build_py):
    "The usual build, and the notebooks as package data (never into the source tree)."
    def notebook_copies(self) -> dict[Path, Path]:
        if self.editable_mode: return {}
        return {nb: self.folder()/nb.relative_to(NBS) for nb in notebooks()}

    def folder(self) -> Path: return Path(self.build_lib)/cfg['lib_path']/'_notebooks'

    def run(self):
        super().run()
        copies = self.notebook_copies()
        if copies: shutil.rmtree(self.folder(), ignore_errors=True)
        for nb, copy in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(nb, copy)

    def get_outputs(self, include_bytecode=1):
        return [*super().get_outputs(include_bytecode), *map(str, self.notebook_copies().values())]


class CompleteSdist(sdist):
    "A source archive that can be built from: with settings.ini and the notebooks."
    def make_distribution(self):
        files = [HERE/o for o in ('settings.ini', 'README.md', 'CHANGELOG.md', 'CITATION.cff', 'LICENSE')]
        self.filelist.extend(str(o.relative_to(HERE)) for o in [*files, *notebooks()] if o.exists())
        self.filelist.remove_duplicates()
        super().make_distribution()


readme = HERE/'README.md'
setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg.get('keywords', ''),
    author=cfg['author'], author_email=cfg.get('author_email', ''), url=cfg.get('git_url', ''),
    license=LICENSES.get(cfg['license'], cfg['license']),
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else cfg['description'],
    long_description_content_type='text/markdown',
    classifiers=[f'Development Status :: {STATUS[int(cfg["status"]) - 1]}', f'Intended Audience :: {cfg["audience"]}',
                 'Topic :: Scientific/Engineering :: Image Recognition', 'Framework :: Jupyter :: JupyterLab',
                 *(f'Programming Language :: Python :: {o}' for o in PYTHONS[PYTHONS.index(cfg['min_python']):])],
    packages=find_packages(include=[cfg['lib_path'], cfg['lib_path'] + '.*']), zip_safe=False,
    package_data={'': ['*.js', '*.css', '*.json', 'py.typed']},
    python_requires=f'>={cfg["min_python"]}', install_requires=words('requirements'),
    extras_require={o: words(f'{o}_requirements') for o in EXTRAS},
    entry_points={'console_scripts': words('console_scripts')},
    cmdclass={'build_py': BuildWithNotebooks, 'sdist': CompleteSdist},
)
