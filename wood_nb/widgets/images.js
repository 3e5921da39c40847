// A table of images: a click on a heading asks for another order, one on a row for its image. Long tables are drawn piece by piece.
import { make } from './elements.js';

const PIECE = 100;

function render({ model, el }) {
  const host = document.createElement('div');
  host.className = 'wood-images';
  host.tabIndex = 0;
  el.append(host);
  let shown = PIECE;
  const digits = column => (column.every(value => value === null || Math.abs(value) < 10) ? 3 : 1);
  const row = (body, place, n, decimals) => {
    const line = make('tr', body), name = make('th', line);
    name.scope = 'row';
    make('button', name, model.get('ids')[place]);
    make('td', line, model.get('classes')[place]);
    model.get('values').forEach((column, k) => {
      make('td', line, column[place] === null ? '–' : column[place].toFixed(decimals[k]).replace('-', '−'));
    });
    if (place === model.get('here')) line.setAttribute('aria-current', 'true');
    line.onclick = () => model.send({ type: 'pick', row: n });
  };
  const draw = () => {
    const [by, down] = model.get('by'), order = model.get('order'), scrolled = host.scrollTop;
    const inside = host.contains(document.activeElement) ? document.activeElement.textContent : undefined;
    host.replaceChildren();
    const table = make('table', host), top = make('tr', make('thead', table)), body = make('tbody', table);
    for (const head of model.get('heads')) {
      const box = make('th', top);
      box.scope = 'col';
      if (head === by) box.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      make('button', box, head).onclick = () => { host.scrollTop = 0; model.send({ type: 'sort', by: head }); };
    }
    const decimals = model.get('values').map(digits);
    order.slice(0, shown).forEach((place, n) => row(body, place, n, decimals));
    if (order.length > shown) {
      const more = make('button', host, `${order.length - shown} more`);
      more.className = 'wood-more';
      more.onclick = () => { shown += 5 * PIECE; draw(); };
    }
    host.scrollTop = scrolled;
    if (inside !== undefined) [...host.querySelectorAll('button')].find(one => one.textContent === inside)?.focus({ preventScroll: true });
  };
  const watched = ['change:order', 'change:values', 'change:by', 'change:here'];
  let waiting = 0;
  const soon = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(draw); };
  watched.forEach(name => model.on(name, soon));
  draw();
  return () => { cancelAnimationFrame(waiting); watched.forEach(name => model.off(name, soon)); };
}

export default { render };
