// A table that sorts by the column whose heading is clicked; a second click turns the order round. The foot stays.
import { make } from './elements.js';

function render({ model, el }) {
  const host = document.createElement('div');
  host.className = 'wood-table';
  el.append(host);
  const line = (parent, cells) => {
    const row = make('tr', parent);
    cells.forEach((cell, n) => {
      const box = make(n ? 'td' : 'th', row);
      if (!n) box.scope = 'row';
      make(cell.best ? 'b' : 'span', box, cell.text);
      if (cell.reported) box.classList.add('wood-reported');
      if (cell.tint) box.setAttribute('style', cell.tint);
      row.cells[n].number = cell.value;
    });
    return row;
  };
  const draw = () => {
    const { head, rows, foot, notes } = model.get('content');
    host.replaceChildren();
    const table = make('table', host), top = make('tr', make('thead', table)), body = make('tbody', table);
    rows.forEach(cells => line(body, cells));
    line(make('tfoot', table), foot);
    const sort = (column, box) => {
      const sign = box.getAttribute('aria-sort') === 'descending' ? 1 : -1;
      for (const other of top.cells) other.removeAttribute('aria-sort');
      box.setAttribute('aria-sort', sign < 0 ? 'descending' : 'ascending');
      const value = row => row.cells[column].number ?? -Infinity;
      const text = row => row.cells[column].textContent;
      const order = column ? (a, b) => value(a) - value(b) : (a, b) => -text(a).localeCompare(text(b));
      body.append(...[...body.rows].sort((a, b) => sign * order(a, b)));
    };
    head.forEach((name, column) => {
      const box = make('th', top);
      box.scope = 'col';
      make('button', box, name).onclick = () => sort(column, box);
    });
    notes.filter(Boolean).forEach(note => make('p', host, note));
  };
  model.on('change:content', draw);
  draw();
  return () => model.off('change:content', draw);
}

export default { render };
