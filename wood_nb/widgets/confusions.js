// A grid of classes by classes; a click on a cell asks for its images.
import { make } from './elements.js';

function render({ model, el }) {
  const host = document.createElement('div');
  host.className = 'wood-confusions';
  el.append(host);
  const cell = (line, names, share, row, column) => {
    const button = make('button', make('td', line), share === null ? '' : share < 0.5 ? '·' : share.toFixed(0));
    const right = row === column ? '0, 158, 115' : '213, 94, 0';
    const open = model.get('opened');
    button.disabled = !share;
    button.title = share === null ? `no ${names[row]} in the masks` : `${names[row]} taken for ${names[column]}: ${share} % of its pixels`;
    button.setAttribute('aria-label', button.title);
    button.setAttribute('aria-pressed', open[0] === row && open[1] === column);
    if (share) button.style.background = `rgba(${right}, ${Math.min(0.75, 0.06 + Math.sqrt(share / 100) * 0.75)})`;
    button.onclick = () => model.send({ type: 'pick', true: row, taken: column });
  };
  const draw = () => {
    const names = model.get('names'), shares = model.get('shares');
    const kept = [...host.querySelectorAll('button')].indexOf(document.activeElement);
    host.replaceChildren();
    const table = make('table', host), top = make('tr', make('thead', table)), body = make('tbody', table);
    make('th', top, 'true ↓   taken for →');
    names.forEach(name => { make('th', top, name).scope = 'col'; });
    shares.forEach((values, row) => {
      const line = make('tr', body);
      make('th', line, names[row]).scope = 'row';
      values.forEach((share, column) => cell(line, names, share, row, column));
    });
    if (kept >= 0) host.querySelectorAll('button')[kept]?.focus({ preventScroll: true });
  };
  const watched = ['change:shares', 'change:opened'];
  watched.forEach(name => model.on(name, draw));
  draw();
  return () => watched.forEach(name => model.off(name, draw));
}

export default { render };
