import { element } from '../elements.js';
import { button, whole, badge } from './base.js';
import { Deciders } from './bar.js';
import { Pair } from './wipe.js';

// One picture over everything: its file as it is, zoom and pan, maps over it, what is known of it, and the decision. It shows a candidate
// (a row), or a pinned picture (an id) without a decision.
export class Viewer {
  constructor(bench) {
    this.bench = bench; this.row = -1; this.id = ''; this.kept = new Map(); this.zoom = 1; this.shift = [0, 0];
    this.host = element('div', 'wb-viewer', bench.root);
    this.host.setAttribute('role', 'dialog');
    this.host.setAttribute('aria-label', 'Picture');
    this.host.tabIndex = -1;
    this.host.style.display = 'none';
    this.stage = element('div', 'wb-stage', this.host);
    this.sheet = element('div', 'wb-sheet', this.stage);
    this.img = element('img', 'wb-whole', this.sheet);
    this.img.draggable = false;
    this.img.onload = () => this.fit();
    this.pair = new Pair(bench, this.sheet, false);
    const side = element('aside', 'wb-side', this.host), head = element('div', 'wb-head', side);
    button(head, '◀', 'The picture before (left arrow)', () => this.step(-1), 'wb-tool').setAttribute('aria-label', 'The picture before');
    button(head, '▶', 'The next picture (right arrow)', () => this.step(1), 'wb-tool').setAttribute('aria-label', 'The next picture');
    this.count = element('span', 'wb-grow', head);
    button(head, '✕', 'Back (space or Escape)', () => bench.ask('close_viewer'), 'wb-tool').setAttribute('aria-label', 'Back');
    this.title = element('h4', '', side);
    this.now = element('div', 'wb-now', side);
    this.deciders = new Deciders(bench, side, true);
    this.facts = element('dl', '', side);
    this.maps = button(side, 'Maps', 'Maps of the class over the picture, or not (o)', () => bench.ask('overlay'), 'wb-maps');
    this.said = element('p', 'wb-said-maps', side);
    this.said.setAttribute('role', 'status');
    this.scale = element('p', 'wb-dim', side);
    element('p', 'wb-dim', side, 'Wheel or + − zooms, drag pans, 0 fits, 1 shows every pixel.');
    this.listen();
    this.watch = new ResizeObserver(() => this.fit());
    this.watch.observe(this.stage);
  }
  step(by) { if (this.id) this.bench.ask('enlarge', { by }); else this.bench.ask('move', { by }); }
  update() {
    const { state } = this.bench, { large } = state.wipe, shown = this.row >= 0 || this.id;
    if (!this.bench.enlarged) {
      if (shown) { this.row = -1; this.id = ''; this.host.style.display = 'none'; this.bench.home(); }
      return;
    }
    if (!shown) { this.host.style.display = ''; this.host.focus({ preventScroll: true }); }
    this.host.classList.toggle('wb-large', large !== '');
    if (large) { if (this.id !== large) this.loadPinned(large); this.fillPinned(); }
    else { if (this.row !== state.viewer) this.load(state.viewer); this.fill(); }
    this.askMaps();
  }
  arrived() { if (this.row >= 0) this.fill(); }
  load(row) {
    this.row = row; this.id = '';
    const { bench } = this, kept = this.kept.get(row), small = bench.thumbs.get(row);
    this.reset();
    this.img.src = kept || small?.url || '';
    this.host.dataset.full = kept ? row : -1;
    if (!kept) bench.model.send({ type: 'picture', row });
    const next = bench.order[bench.state.place + 1];
    clearTimeout(this.ahead);
    this.ahead = setTimeout(() => { if (next !== undefined && !this.kept.has(next)) bench.model.send({ type: 'picture', row: next }); }, 250);
  }
  learn(row, kind, data) {
    if (!this.kept.has(row)) this.kept.set(row, URL.createObjectURL(new Blob([data], { type: kind })));
    while (this.kept.size > 24) { const [old, url] = this.kept.entries().next().value; URL.revokeObjectURL(url); this.kept.delete(old); }
    if (row === this.row) { this.img.src = this.kept.get(row); this.host.dataset.full = row; }
  }
  loadPinned(id) {
    this.row = -1; this.id = id; this.asked = this.pulled = '';
    this.reset();
    this.img.removeAttribute('src');
    this.host.dataset.full = id;
  }
  fillPinned() {
    const { bench, id } = this, at = bench.pins.findIndex(pin => pin.id === id), pins = bench.pins.filter(pin => pin.id);
    const { title, note } = bench.pins[at] || { title: id, note: '' };
    this.count.textContent = `${1 + pins.findIndex(pin => pin.id === id)} of ${pins.length} pinned`;
    this.title.textContent = title;
    this.facts.replaceChildren();
    const { left, right } = bench.state.wipe, facts = { picture: id, left, right, weight: note, 'pulled by': this.pulled };
    for (const [name, text] of Object.entries(facts)) {
      if (!text) continue;
      element('dt', '', this.facts, name);
      element('dd', '', this.facts, text);
    }
    this.stage.style.removeProperty('--mark');
  }

  // -- maps over the picture: asked for again whenever they are others --
  askMaps() {
    const { bench } = this, { wipe, maps } = bench.state, on = wipe.names.length > 0 && (maps || this.id !== '');
    this.maps.style.display = wipe.names.length && !this.id ? '' : 'none';
    this.maps.setAttribute('aria-pressed', on);
    this.pair.name();
    const wanted = on ? [this.row, this.id, wipe.turn].join() : '';
    if (wanted === this.asked) return;
    if (!on || wanted.split(',')[0] !== (this.asked || '').split(',')[0]) { this.host.classList.remove('wb-mapped'); this.said.textContent = ''; }
    this.asked = wanted;
    if (on) bench.model.send({ type: 'maps', row: this.row, id: this.id });
  }
  learnMaps({ row, id, said, pulled }, [plain, ...pair]) {
    if (row !== this.row || id !== this.id || !this.asked) return;
    if (id) { this.pulled = pulled; this.fillPinned(); }
    this.said.textContent = said;
    this.host.classList.toggle('wb-mapped', pair.length === 2);
    if (pair.length !== 2) return;
    if (id && !this.img.src) this.img.src = URL.createObjectURL(new Blob([plain], { type: 'image/jpeg' }));
    this.pair.show(pair);
  }
  fill() {
    const { bench, row } = this, { state } = bench, decision = ['keep', 'drop', 'undecided'][(bench.flags[row] >> 3) & 3];
    this.count.textContent = `${whole(state.place + 1)} of ${whole(state.shown)}`;
    this.title.textContent = (bench.thumbs.get(row)?.lines || [''])[0] || Object.fromEntries(state.facts).file;
    this.now.className = `wb-now wb-is-${decision}`;
    this.now.textContent = { keep: '✓ kept', drop: '✕ dropped', undecided: 'undecided' }[decision];
    this.deciders.update(1);
    this.facts.replaceChildren();
    for (const [name, text] of state.facts) {
      element('dt', '', this.facts, name);
      const value = element('dd', '', this.facts);
      if (name === 'cluster') { const mark = bench.mark(row); badge(value, mark.shape, bench.inks.of(mark.colour)); }
      value.append(text);
    }
    this.stage.style.setProperty('--mark', bench.inks.of(bench.mark(row).colour));
  }

  // -- zoom and pan --
  get fitted() {
    const { clientWidth: width, clientHeight: height } = this.stage, { naturalWidth: w, naturalHeight: h } = this.img;
    return w ? Math.min((width - 24) / w, (height - 24) / h) : 1;
  }
  reset() { this.zoom = 1; this.shift = [0, 0]; this.fit(); }
  fit() {
    const scale = this.fitted * this.zoom, { naturalWidth: w, naturalHeight: h } = this.img;
    this.sheet.style.width = `${w * scale}px`; this.sheet.style.height = `${h * scale}px`;
    this.sheet.style.transform = `translate(-50%, -50%) translate(${this.shift[0]}px, ${this.shift[1]}px)`;
    this.img.classList.toggle('wb-pixels', scale >= 2);
    this.scale.textContent = (this.id ? w : +this.host.dataset.full === this.row) ? `${w} × ${h} pixels, shown at ${Math.round(100 * scale)} %` : 'loading …';
  }
  scaleBy(by) {
    const before = this.zoom;
    this.zoom = Math.min(40, Math.max(1, this.zoom * by));
    this.shift = this.zoom === 1 ? [0, 0] : this.shift.map(v => v * this.zoom / before);
    this.fit();
  }
  listen() {
    const { stage } = this;
    stage.addEventListener('wheel', event => { event.preventDefault(); this.scaleBy(Math.exp(-event.deltaY / 300)); }, { passive: false });
    stage.onpointerdown = event => { stage.setPointerCapture(event.pointerId); this.grip = [event.clientX, event.clientY]; event.preventDefault(); this.host.focus({ preventScroll: true }); };
    stage.onpointermove = event => {
      if (!this.grip) return;
      this.shift = [this.shift[0] + event.clientX - this.grip[0], this.shift[1] + event.clientY - this.grip[1]];
      this.grip = [event.clientX, event.clientY];
      this.fit();
    };
    stage.onpointerup = stage.onpointercancel = () => { this.grip = null; };
    stage.ondblclick = () => this.bench.ask('close_viewer');
  }
  press(key) {
    const acts = { o: () => this.bench.ask('overlay'), '+': () => this.scaleBy(1.4), '=': () => this.scaleBy(1.4), '-': () => this.scaleBy(1 / 1.4), 0: () => this.reset(),
                   1: () => { this.zoom = Math.max(1, 1 / this.fitted); this.fit(); } };
    acts[key]?.();
    return key in acts;
  }
  close() { this.watch.disconnect(); this.pair.clear(); for (const url of this.kept.values()) URL.revokeObjectURL(url); }
}
