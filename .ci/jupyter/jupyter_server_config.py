"""Read by the JupyterLab that `make lab` starts, beside your own configuration: the lessons of the checkout it was started
in are cleaned as they are saved (no execution counts, no stray metadata), without a hook in your home folder."""
import warnings
from pathlib import Path

LESSONS = Path.cwd().resolve()/'nbs'


def clean_on_save(path, model, contents_manager, **kwargs):
    if model['type'] != 'notebook' or model['content']['nbformat'] != 4: return
    if LESSONS not in Path(contents_manager.root_dir, path.lstrip('/')).resolve().parents: return
    from nbdev.clean import clean_nb
    clean_nb(model['content'])


# JupyterLab reads its configuration twice, and would remark on the second time
warnings.filterwarnings('ignore', message='Overriding existing pre_save_hook')
c.ContentsManager.pre_save_hook = clean_on_save  # noqa: F821 (Jupyter provides c)
