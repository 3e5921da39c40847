import { element } from '../elements.js';
import { button, choice, whole } from './base.js';

const SAID = { keep: 'Keep', drop: 'Drop', undecided: 'Undecided' };

// Keep, Drop, Undecided, Contains..., each with the number of pictures that it acts on; for the grid and for the viewer.
export class Deciders {
  constructor(bench, parent, one = false) {
    this.bench = bench;
    this.host = element('div', 'wb-deciders', parent);
    this.made = Object.entries(SAID).map(([decision, text]) => {
      const key = decision[0], hint = `${text}: what is marked, or else all that is selected (Shift+${key.toUpperCase()}); one picture: ${key}`;
      return [text, button(this.host, text, hint, event => this.press(decision, event), `wb-do wb-do-${decision}`, one)];
    });
    this.more = button(this.host, 'Contains…', 'Drop, and say which classes the pictures contain (c)', () => this.bench.contains.open(this.more), 'wb-do wb-do-contains');
  }
  press(decision, event) {
    if (event.detail) this.bench.home();      // after a click the keys are those of the pictures again
    this.bench.decide(decision);
  }
  update(n) {
    for (const [text, made] of this.made) { made.textContent = n ? `${text} ${whole(n)}` : text; made.disabled = !n; }
    this.more.textContent = n ? `Contains… ${whole(n)}` : 'Contains…';
    this.more.disabled = !n;
  }
}

// Which classes the dropped pictures contain: a small menu, by mouse or keyboard.
export class Contains {
  constructor(bench) {
    this.bench = bench;
    this.host = element('div', 'wb-menu', bench.root);
    this.host.setAttribute('role', 'dialog');
    this.host.setAttribute('aria-label', 'Dropped pictures contain');
    this.host.style.display = 'none';
    this.host.addEventListener('keydown', event => {
      if (event.key === 'Escape') { this.close(); event.stopPropagation(); }
      if (event.key === 'Enter' && event.target.tagName === 'INPUT') { this.apply(); event.preventDefault(); }
      event.stopPropagation();
    });
  }
  open(by) {
    const { state, classes } = this.bench;
    if (!state.targets) return this.bench.say('nothing is selected: draw a lasso, choose a cluster, or click a picture');
    this.by = by;
    this.host.replaceChildren();
    element('strong', '', this.host, 'Dropped pictures contain');
    const list = element('div', 'wb-menu-list', this.host);
    this.boxes = classes.map((name, n) => {
      const label = element('label', '', list), box = element('input', '', label);
      box.type = 'checkbox'; box.value = name;
      box.checked = (state.contains || []).includes(name);
      box.onchange = () => this.label();
      label.append(` ${name}`);
      return box;
    });
    const label = element('label', 'wb-menu-keep', this.host);
    this.stays = element('input', '', label);
    this.stays.type = 'checkbox'; this.stays.checked = state.contains !== null;
    label.append(' from now on, for Drop as well');
    const foot = element('div', 'wb-menu-foot', this.host);
    this.go = button(foot, '', 'Enter', () => this.apply(), 'wb-do wb-do-drop');
    button(foot, 'As predicted', 'each as what it is taken for', () => this.drop(null), 'wb-do');
    button(foot, 'Cancel', 'Escape', () => this.close(), 'wb-do');
    this.label();
    this.host.style.display = '';
    this.boxes[0]?.focus();
  }
  get names() { return this.boxes.filter(box => box.checked).map(box => box.value); }
  label() { const { names } = this; this.go.textContent = `Drop ${whole(this.bench.state.targets)} ${names.length ? `with ${names.join(', ')}` : 'of no use (no class)'}`; }
  apply() { this.drop(this.names); }
  drop(names) {
    if (this.stays.checked) this.bench.ask('set', { name: 'contains', value: names });
    else if (this.bench.state.contains !== null) this.bench.ask('set', { name: 'contains', value: null });
    this.bench.decide('drop', names === null ? {} : { contains: names });
    this.close();
  }
  close() {
    if (this.host.style.display === 'none') return false;
    this.host.style.display = 'none';
    this.bench.home();
    return true;
  }
}

// Who decides, how far one is, there and back.
export class BarView {
  constructor(bench, parent) {
    this.bench = bench;
    const { ask } = bench;
    this.host = element('header', 'wb-bar', parent);
    const label = element('label', 'wb-choice', this.host, 'by');
    this.by = element('input', 'wb-by', label);
    this.by.placeholder = 'your name';
    this.by.onchange = () => ask('set', { name: 'by', value: this.by.value });
    this.by.oninput = () => this.by.classList.toggle('wb-missing', !this.by.value.trim());
    this.progress = element('progress', 'wb-progress', this.host);
    this.report = element('span', 'wb-report', this.host);
    this.saved = element('span', 'wb-dim wb-saved', this.host);
    element('span', 'wb-grow', this.host);
    this.brush = choice(this.host, 'a click', { '': 'marks', drop: 'drops', keep: 'keeps' }, value => ask('set', { name: 'brush', value }));
    const tick = element('label', 'wb-choice', this.host);
    this.advance = element('input', '', tick);
    this.advance.type = 'checkbox';
    this.advance.onchange = () => ask('set', { name: 'advance', value: this.advance.checked });
    tick.append('go on');
    tick.title = 'After a decision: after one picture to the next, after a whole cluster to the next one with something to decide';
    this.undo = button(this.host, '↶ Undo', 'Take the last step back (z)', () => ask('undo'));
    this.redo = button(this.host, '↷ Redo', 'Do it again (y)', () => ask('redo'));
    this.mode = button(this.host, '', 'Map and clusters, or the pictures alone (M)', () => bench.turnMode());
    button(this.host, 'Full screen', 'The whole screen, and back (f)', () => bench.fill());
    button(this.host, '?', 'All keys (?)', () => bench.help.toggle(), 'wb-tool').setAttribute('aria-label', 'All keys');
  }
  update() {
    const { state, total, saved } = this.bench;
    if (document.activeElement !== this.by) this.by.value = state.by;
    this.by.classList.toggle('wb-missing', !this.by.value.trim());
    this.progress.max = Math.max(1, total); this.progress.value = state.decided;
    this.report.textContent = state.report;
    this.saved.textContent = saved;
    this.advance.checked = state.advance; this.brush.value = state.brush;
    this.mode.textContent = state.mode === 'grid' ? 'Show map' : 'Hide map';
    this.undo.disabled = !state.undo; this.redo.disabled = !state.redo;
  }
}

const KEYS = [
  ['Pictures', [['k d u', 'keep, drop, undecided: the framed picture, or what is marked'], ['Shift+K D U', 'the same for what the buttons name'],
    ['c', 'drop, and say what they contain'], ['r', 'keep the rest: what is undecided in view; then on'], ['arrows', 'to the next picture; with Shift they mark'], ['Enter', 'mark, or unmark'],
    ['space', 'enlarge, and back'], ['a', 'select all that the filter shows'], ['Escape', 'unmark; then select nothing']]],
  ['Clusters', [['] [', 'next cluster, the one before'], ['n', 'name it'], ['x', 'split it in two'], ['m', 'merge: it takes in the next one clicked']]],
  ['View', [['/', 'write a filter'], ['s', 'next order'], ['l', 'sort by likeness to the framed picture'], ['v', 'next colours of the map'],
    ['i', 'size of the pictures'], ['t', 'lasso, box, pan'], ['+ − 0', 'zoom the map, or the enlarged picture'], ['M', 'without map and clusters, or with them'], ['f', 'the whole screen'], ['g', 'to the pictures; Tab goes round']]],
  ['Two maps of a picture', [['drag', 'the divider; , and . move it by keys'], ['b', 'flicker: tap for the other map, or hold'], ['h', 'both again'], ['p', 'enlarge pinned maps; arrows go on'],
    ['o', 'maps over the enlarged picture, or not']]],
  ['There and back', [['z y', 'undo, redo; also Ctrl+Z, Ctrl+Y'], ['w', 'save now'], ['?', 'this list']]],
  ['Mouse', [['drag', 'lasso or box; Shift adds, Alt takes away'], ['Ctrl+drag', 'pan'], ['Ctrl+wheel', 'zoom'], ['double click', 'enlarge a picture; the whole map']]],
];

export class Help {
  constructor(bench) {
    this.bench = bench;
    this.host = element('div', 'wb-help', bench.root);
    this.host.setAttribute('role', 'dialog');
    this.host.setAttribute('aria-label', 'Keys');
    this.host.style.display = 'none';
    const sheet = element('div', 'wb-help-sheet', this.host);
    for (const [title, rows] of KEYS) {
      const part = element('section', '', sheet);
      element('h4', '', part, title);
      for (const [keys, words] of rows) {
        const line = element('div', 'wb-help-line', part), left = element('span', '', line);
        for (const key of keys.split(' ')) element('kbd', '', left, key);
        element('span', '', line, words);
      }
    }
    button(sheet, 'Close', 'Escape', () => this.close(), 'wb-help-close');
    this.host.onclick = event => { if (event.target === this.host) this.close(); };
  }
  toggle() { if (!this.close()) { this.host.style.display = ''; this.host.querySelector('button').focus({ preventScroll: true }); } }
  close() {
    if (this.host.style.display === 'none') return false;
    this.host.style.display = 'none';
    this.bench.home();
    return true;
  }
}
