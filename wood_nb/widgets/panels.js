// Pictures side by side with one crosshair over all of them: where one looks in one, one looks in all.
// A click asks for the values at that pixel. Keys belong to the inspector while the focus is in it.

import { element, ownKeys } from './elements.js';

const WRITES = 'input:not([type=checkbox]):not([type=button]), textarea, select, [contenteditable=true]';
const TAKEN = new Set(['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', 'n', 'p', 'c', 'o', 'r', 'l', 'a', 'g', '+', '-', 'w', 's', 't', 'm', '?']);

const keyed = (root, model) => {
  ownKeys(root);
  const press = event => {
    if (event.defaultPrevented || event.target.matches?.(WRITES)) return event.stopPropagation();
    const slider = event.target.closest?.('.noUi-handle') && event.key.startsWith('Arrow');
    if (slider || event.ctrlKey || event.metaKey || event.altKey) return event.stopPropagation();
    if (TAKEN.has(event.key)) { model.send({ type: 'key', key: event.key }); event.preventDefault(); }
    event.stopPropagation();
  };
  root.addEventListener('keydown', press);
  return () => root.removeEventListener('keydown', press);
};

function render({ model, el }) {
  const view = element('div', 'wood-panels', el);
  view.tabIndex = 0;
  view.setAttribute('role', 'group');
  view.setAttribute('aria-label', 'Image, truth and maps side by side. Left and right: images; up and down: threshold; question mark: all keys');
  let urls = [], figures = [];

  const place = (event, picture) => {
    const box = picture.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const cross = (x, y) => {
    for (const { mark } of figures) {
      mark.style.display = x === undefined ? 'none' : 'block';
      if (x !== undefined) { mark.style.left = `${100 * x}%`; mark.style.top = `${100 * y}%`; }
    }
  };
  const pin = point => {
    for (const { dot } of figures) {
      dot.style.display = point?.length ? 'block' : 'none';
      if (point?.length) { dot.style.left = `${100 * point[0]}%`; dot.style.top = `${100 * point[1]}%`; }
    }
  };
  const add = () => {
    const figure = element('figure', 'wood-panel', view), head = element('figcaption', 'wood-panel-title', figure);
    const frame = element('div', 'wood-panel-frame', figure), picture = element('img', '', frame);
    const mark = element('span', 'wood-panel-cross', frame), dot = element('span', 'wood-panel-dot', frame);
    const text = element('figcaption', 'wood-panel-text', figure);
    picture.draggable = false;
    frame.onpointermove = event => cross(...place(event, picture));
    frame.onpointerleave = () => cross();
    frame.onclick = event => { view.focus({ preventScroll: true }); const [x, y] = place(event, picture); model.send({ type: 'click', x, y }); };
    figures.push({ figure, head, picture, mark, dot, text });
  };
  const fill = () => {
    const panels = model.get('panels'), pictures = model.get('pictures');
    while (figures.length < panels.length) add();
    while (figures.length > panels.length) figures.pop().figure.remove();
    view.style.setProperty('--panels', panels.length);
    const old = urls;
    urls = pictures.map(data => URL.createObjectURL(new Blob([data], { type: 'image/jpeg' })));
    panels.forEach(([title, text], n) => {
      const { head, picture, text: line } = figures[n];
      head.textContent = title; line.textContent = text;
      picture.src = urls[n]; picture.alt = `${title}: ${text}`;
    });
    setTimeout(() => old.forEach(url => URL.revokeObjectURL(url)), 2000);
    view.dataset.drawn = 1 + (+view.dataset.drawn || 0);
    pin(model.get('point'));
  };
  const point = () => pin(model.get('point'));
  const hear = message => { if (message.type === 'focus') view.focus({ preventScroll: true }); };
  model.on('change:pictures', fill);
  model.on('change:panels', fill);
  model.on('change:point', point);
  model.on('msg:custom', hear);
  fill();
  let release = () => {};
  const wait = setInterval(() => {
    const root = el.closest('.wood-inspector');
    if (root) { clearInterval(wait); release = keyed(root, model); root.dataset.ready = 'true'; }
  }, 30);
  return () => {
    clearInterval(wait); release();
    model.off('change:pictures', fill); model.off('change:panels', fill); model.off('change:point', point); model.off('msg:custom', hear);
    urls.forEach(url => URL.revokeObjectURL(url));
  };
}

export default { render };
