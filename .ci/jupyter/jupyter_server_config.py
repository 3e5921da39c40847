"""Read by the JupyterLab that `make lab` starts, beside your own configuration: the lessons of the checkout it was started
in are cleaned as they are saved (no execution counts, no stray metadata), without a hook in your home folder; and they are
not marked as changed because they were opened."""
import warnings
from pathlib import Path

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

LESSONS = Path.cwd().resolve()/'nbs'


def is_lesson(path, model, contents_manager):
    if model['type'] != 'notebook' or not model['content'] or model['content']['nbformat'] != 4: return False
    return LESSONS in Path(contents_manager.root_dir, path.lstrip('/')).resolve().parents


def clean_on_save(path, model, contents_manager, **kwargs):
    if not is_lesson(path, model, contents_manager): return
    from nbdev.clean import clean_nb
    clean_nb(model['content'])


class Lessons(AsyncLargeFileManager):
    """Cleaned lessons lack what JupyterLab notes of a kernel as soon as one is connected, and then calls a change: language and version,
    and what the kernel calls itself. So they are handed out with it, and cleaned of it again as they are saved."""

    async def get(self, path, content=True, **options):
        model = await super().get(path, content, **options)
        if content and is_lesson(path, model, self): note_kernel(model['content']['metadata'])
        return model


def note_kernel(metadata):
    "What JupyterLab would note of the kernel, if it is one that is installed here."
    from ipykernel.ipkernel import IPythonKernel
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    name = metadata.get('kernelspec', {}).get('name', 'python3')
    try: spec = KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel: return
    metadata['kernelspec'] = dict(display_name=spec.display_name, language=spec.language, name=name)
    metadata['language_info'] = dict(IPythonKernel.language_info)


# JupyterLab reads its configuration twice, and would remark on the second time
warnings.filterwarnings('ignore', message='Overriding existing pre_save_hook')
c.ContentsManager.pre_save_hook = clean_on_save  # noqa: F821 (Jupyter provides c)
c.ServerApp.contents_manager_class = Lessons  # noqa: F821
