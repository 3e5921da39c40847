import { element, ownKeys } from '../elements.js';
import { column, Inks, Thumbs } from './base.js';
import { MapView } from './map.js';
import { StripView } from './strip.js';
import { GridView } from './grid.js';
import { BarView, Contains, Deciders, Help } from './bar.js';
import { PinsView, Wipe } from './wipe.js';
import { Viewer } from './viewer.js';

const WRITES = 'input:not([type=checkbox]), textarea, select, [contenteditable=true]';
const NAMES = ['xy', 'kind', 'labels', 'flags', 'clusters', 'predicted', 'p', 'order', 'legend', 'cards', 'marks', 'classes', 'stars', 'state', 'saved', 'pins'];
const KINDS = { xy: Float32Array, kind: Uint8Array, labels: Uint16Array, flags: Uint8Array, clusters: Uint16Array, predicted: Uint16Array, p: Float32Array, order: Uint32Array };

const SILENCE = 3000, MUTE = 'no answer: the kernel is busy, or has ended. What you do now is done when it answers, and lost if it has ended';      // ms

// What the parts share: the traits as they are now, and the one way to ask the kernel for something.
class Bench {
  constructor(model, el) {
    this.model = model;
    this.id = `wb-${Math.random().toString(36).slice(2)}`;
    this.root = element('div', 'wb', el);
    this.root.tabIndex = -1;
    ownKeys(this.root);
    this.inks = new Inks(this.root);
    this.thumbs = new Thumbs(model);
    this.options = model.get('options');
    if (this.options.alone) this.root.dataset.alone = 'true';      // without a kernel: nothing can be decided
    this.ask = (action, how = {}) => { this.expect(); model.send({ type: 'do', action, how }); };
    for (const name of NAMES) this.read(name);
    this.build();
    this.changed = new Set([...NAMES, 'theme']);
    this.update();
    this.listen();
    this.shown = new ResizeObserver(() => this.appear());
    this.shown.observe(this.root);
  }
  appear() {      // on the page at last: now it has its colours and its size
    if (!this.root.clientWidth || this.root.dataset.ready) return;
    this.root.dataset.ready = 'true';
    this.changed.add('theme');
    this.update();
  }
  read(name) { this[name] = KINDS[name] ? column(this.model, name, KINDS[name]) : this.model.get(name); }
  get total() { return this.clusters.length; }
  build() {
    this.bar = new BarView(this, this.root);
    const main = element('div', 'wb-main', this.root);
    this.map = new MapView(this, main);
    const right = element('section', 'wb-right', main);
    right.setAttribute('aria-label', 'Selection');
    const said = element('div', 'wb-said', right);
    this.count = element('b', 'wb-count', said);
    this.message = element('span', 'wb-message', said);
    this.deciders = new Deciders(this, right);
    this.message.setAttribute('role', 'status');
    this.grid = new GridView(this, right);
    this.wipe = new Wipe(this);
    this.pinned = new PinsView(this, main);
    this.strip = new StripView(this, this.root);
    this.contains = new Contains(this);
    this.viewer = new Viewer(this);
    this.help = new Help(this);
    this.thumbs.changed = () => { this.grid.arrived(); this.viewer.arrived(); };
  }

  // -- from the kernel --
  listen() {
    const { model, root } = this;
    this.heard = NAMES.map(name => {
      const hear = () => { this.heardOf(); this.read(name); this.changed.add(name); this.soon(); };
      model.on(`change:${name}`, hear);
      return [`change:${name}`, hear];
    });
    const said = (message, buffers) => {
      this.heardOf();
      if (message.type === 'thumbs') this.thumbs.learn(message.rows, message.names, buffers);
      if (message.type === 'picture') this.viewer.learn(message.row, message.kind, buffers[0]);
      if (message.type === 'maps') this.viewer.learnMaps(message, buffers);
    };
    model.on('msg:custom', said);
    this.heard.push(['msg:custom', said]);
    root.addEventListener('keydown', event => this.key(event));
    root.addEventListener('keyup', event => this.wipe.release(event.key));
    this.theme = new MutationObserver(() => { this.inks.read(); this.changed.add('theme'); this.soon(); });
    this.theme.observe(document.body, { attributes: true, attributeFilter: ['data-jp-theme-light', 'data-jp-theme-name', 'class', 'data-vscode-theme-kind'] });
  }
  expect() {      // a word from the kernel; if none comes it is asked for one, and if still none comes that is said
    if (this.silence || this.options.alone) return;
    this.silence = setTimeout(() => {
      try { this.model.send({ type: 'ping' }); } catch { /* what it was connected to has gone */ }
      this.silence = setTimeout(() => { this.root.dataset.mute = 'true'; this.say(MUTE); }, SILENCE);
    }, SILENCE);
  }
  heardOf() {
    clearTimeout(this.silence);
    this.silence = null;
    if (this.root.dataset.mute) { delete this.root.dataset.mute; this.soon(); }
  }
  soon() {
    if (this.queued) return;
    this.queued = true;
    queueMicrotask(() => { this.queued = false; this.update(); });
  }
  update() {
    const { changed, state } = this;
    this.changed = new Set();
    if (changed.has('theme')) this.inks.read();
    this.root.dataset.mode = state.mode;
    for (const part of [this.wipe, this.bar, this.map, this.strip, this.grid, this.pinned, this.viewer]) part.update(changed);
    this.deciders.update(state.targets);
    this.count.textContent = state.marked ? `${state.marked.toLocaleString('en')} marked of ${state.shown.toLocaleString('en')}`
      : state.selected ? `${state.shown.toLocaleString('en')} selected` : `all ${state.shown.toLocaleString('en')} shown`;
    this.say(state.message, state.bad);
    if (state.unmeasured && state.unmeasured !== this.left) this.ask('measure', { most: 48 });      // a few at a time: keys go on meanwhile
    this.left = state.unmeasured;
    if (this.timing) { this.root.dataset[this.timing[0]] = performance.now() - this.timing[1]; this.timing = null; }
    this.root.dataset.turn = 1 + (+this.root.dataset.turn || 0);
  }
  say(text, bad = true) {
    const busy = this.state.unmeasured ? `looking at ${this.state.unmeasured.toLocaleString('en')} more pictures …` : '';
    if (this.message.textContent !== (busy || text)) this.message.textContent = busy || text;
    this.message.classList.toggle('wb-bad', bad && !busy);
    this.message.title = text;
  }

  // -- what parts ask of one another --
  mark(row) {      // in the colours of the legend where it is all there is to see of the map
    if (this.state.mode === 'grid') { const { colour, shape, label } = this.legend[this.labels[row]]; return { colour, shape, name: label }; }
    return this.marks[this.clusters[row]] || { colour: '#8c8c8c', shape: 'dot', name: 'in no cluster' };
  }
  faces(card) { return card.faces[0]; }
  faceRows() { return this.cards.flatMap(card => card.faces); }
  light(row, fromGrid = false) {      // a point and its picture light up together
    if (fromGrid) { this.map.hovered = row; this.map.placeRing(); return; }
    for (const cell of this.grid.cells.values()) cell.host.classList.toggle('wb-lit', cell.row === row && row >= 0);
  }
  lines(row, more = []) {
    if (row >= this.total) return more.length ? more : ['…'];
    const decision = ['keep', 'drop', 'undecided'][(this.flags[row] >> 3) & 3], double = this.flags[row] & 64 ? 'leak' : this.flags[row] & 32 ? 'duplicate' : '';
    return [more[0] || '…', `${this.classes[this.predicted[row]]} ${this.p[row].toFixed(2)}`, this.mark(row).name, decision, double].filter(Boolean);
  }
  decide(decision, how = {}) { this.timing = ['decideMs', performance.now()]; this.ask('decide', { decision, ...how }); }
  get enlarged() { return this.state.viewer >= 0 || this.state.wipe.large !== ''; }
  home() { (this.enlarged ? this.viewer.host : this.grid.box).focus({ preventScroll: true }); }
  turnMode() { this.ask('set', { name: 'mode', value: this.state.mode === 'grid' ? 'all' : 'grid' }); }
  fill() { if (document.fullscreenElement) document.exitFullscreen(); else this.root.requestFullscreen?.(); }
  next(names, now) { return names[(names.indexOf(now) + 1) % names.length]; }

  // -- keys: none of them reaches the notebook --
  key(event) {
    const { key } = event, control = event.ctrlKey || event.metaKey;
    event.stopPropagation();
    if (event.target.matches(WRITES)) {
      if (key === 'Escape' || (key === 'Enter' && event.target === this.grid.filter)) { this.grid.sendFilter(); this.home(); event.preventDefault(); }
      return;
    }
    if (event.altKey || (control && !'zyZsa'.includes(key))) return;
    if (this.press(key, control, event)) event.preventDefault();
  }
  press(key, control, event) {
    const { ask, state, grid, map, strip } = this, open = this.enlarged, large = state.wipe.large !== '';
    if (control) return { z: () => ask('undo'), y: () => ask('redo'), Z: () => ask('redo'), s: () => this.model.send({ type: 'save' }), a: () => ask('select_all') }[key]?.() ?? true;
    if (key === 'Escape') { if (!(this.help.close() || this.contains.close() || strip.stopMerge())) ask(open ? 'close_viewer' : 'clear'); return true; }
    const onButton = event.target.tagName === 'BUTTON' || event.target.type === 'checkbox';
    if (onButton && (key === 'Enter' || key === ' ')) return false;
    if (open ? this.viewer.press(key) : map.press(key)) return true;
    if (this.wipe.press(key, event.repeat)) return true;
    const step = grid.steps()[key];
    if (step !== undefined) {
      const by = open && key.startsWith('Arrow') ? Math.sign(step) : step;
      if (large) ask('enlarge', { by: Math.sign(by) });
      else ask('move', { by: Math.max(-1e9, Math.min(1e9, by)), extend: event.shiftKey && !open });
      return true;
    }
    if (large && !['z', 'y', 'w', '?', 'f', ' '].includes(key)) return true;      // a pinned picture is only looked at
    const single = { k: 'keep', d: 'drop', u: 'undecided' }[key], many = { K: 'keep', D: 'drop', U: 'undecided' }[key];
    if (single) { this.decide(single, { what: 'single' }); return true; }
    if (many) { this.decide(many); return true; }
    const act = {
      Enter: () => ask('mark', { row: -1 }), ' ': () => ask(open ? 'close_viewer' : 'show'), a: () => ask('select_all'),
      z: () => ask('undo'), y: () => ask('redo'), ']': () => ask('step_cluster', { by: 1 }), '[': () => ask('step_cluster', { by: -1 }),
      s: () => ask('sort', { sort: this.next(Object.keys(this.options.sorts), state.sort) }), l: () => ask('sort', { sort: 'similar', row: state.cursor }),
      v: () => ask('set', { name: 'colour', value: this.next(Object.keys(this.options.colours), state.colour) }),
      c: () => this.contains.open(), n: () => strip.rename(), x: () => ask('split'), m: () => strip.merge(), i: () => grid.resize(), t: () => map.nextTool(),
      '+': () => map.scale(1.5), '=': () => map.scale(1.5), '-': () => map.scale(1 / 1.5), 0: () => map.reset(), f: () => this.fill(), r: () => grid.keepRest(), M: () => this.turnMode(), g: () => this.home(),
      w: () => this.model.send({ type: 'save' }), '/': () => { grid.filter.focus(); grid.filter.select(); }, '?': () => this.help.toggle(),
    }[key];
    act?.();
    return Boolean(act);
  }
  close() {
    for (const [name, act] of this.heard) this.model.off(name, act);
    clearTimeout(this.silence);
    this.theme.disconnect();
    this.shown.disconnect();
    for (const part of [this.map, this.grid, this.pinned, this.viewer, this.thumbs]) part.close();
  }
}

function render({ model, el }) {
  const bench = new Bench(model, el);
  return () => bench.close();
}

export default { render };
