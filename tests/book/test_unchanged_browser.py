"""A lesson that is only looked at stays as it is: JupyterLab does not call it changed."""
import pytest

pytestmark = pytest.mark.browser
LOOKED_AT = ('index.ipynb', '6_ood/03_manifest.ipynb')
OPEN = """async path => {
  const shell = window.jupyterapp.shell, widget = await window.jupyterapp.commands.execute('docmanager:open', { path });
  await widget.context.ready; await widget.sessionContext.ready; await widget.revealed;
  for (const cell of widget.content.widgets) await cell.ready; }"""
CHANGED = """() => [...window.jupyterapp.shell.widgets('main')].filter(o => o.context?.model.dirty).map(o => o.context.path)"""
MARKED = """() => [...document.querySelectorAll('.lm-TabBar-tab.jp-mod-dirty')].map(o => o.innerText)"""


def test_lessons_that_are_only_opened_are_not_marked_as_changed(lab):
    "All of the widgets' and two others, each in a tab of its own; nobody touches them for five seconds."
    lessons = [f'nbs/{name}' for name in LOOKED_AT]
    lessons += sorted(f'nbs/9_widgets/{o.name}' for o in (lab.folder/'nbs'/'9_widgets').glob('0*.ipynb'))
    with lab.open(lessons[0]) as page:
        for path in lessons:
            page.p.evaluate(OPEN, path)
            page.p.wait_for_timeout(500)
        page.p.wait_for_timeout(5000)
        assert page.p.evaluate("() => [...window.jupyterapp.shell.widgets('main')].map(o => o.context?.path)") == lessons
        assert not page.p.evaluate(CHANGED), 'opened, and called changed'
        assert not page.p.evaluate(MARKED)
