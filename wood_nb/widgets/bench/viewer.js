import { element, button, whole, badge } from './base.js';
import { Deciders } from './bar.js';

// One picture over everything: its file as it is, zoom and pan, what is known of it, and the decision.
export class Viewer {
  constructor(bench) {
    this.bench = bench; this.row = -1; this.kept = new Map(); this.zoom = 1; this.shift = [0, 0];
    this.host = element('div', 'wb-viewer', bench.root);
    this.host.setAttribute('role', 'dialog');
    this.host.setAttribute('aria-label', 'Picture');
    this.host.tabIndex = -1;
    this.host.style.display = 'none';
    this.stage = element('div', 'wb-stage', this.host);
    this.img = element('img', '', this.stage);
    this.img.draggable = false;
    this.img.onload = () => this.fit();
    const side = element('aside', 'wb-side', this.host), head = element('div', 'wb-head', side);
    button(head, '◀', 'The picture before (left arrow)', () => this.step(-1), 'wb-tool').setAttribute('aria-label', 'The picture before');
    button(head, '▶', 'The next picture (right arrow)', () => this.step(1), 'wb-tool').setAttribute('aria-label', 'The next picture');
    this.count = element('span', 'wb-grow', head);
    button(head, '✕', 'Back (space or Escape)', () => bench.ask('close_viewer'), 'wb-tool').setAttribute('aria-label', 'Back');
    this.title = element('h4', '', side);
    this.now = element('div', 'wb-now', side);
    this.deciders = new Deciders(bench, side, true);
    this.facts = element('dl', '', side);
    this.scale = element('p', 'wb-dim', side);
    element('p', 'wb-dim', side, 'Wheel or + − zooms, drag pans, 0 fits, 1 shows every pixel.');
    this.listen();
    this.watch = new ResizeObserver(() => this.fit());
    this.watch.observe(this.stage);
  }
  step(by) { this.bench.ask('move', { by }); }
  update() {
    const { state } = this.bench, open = state.viewer >= 0;
    if (!open) {
      if (this.row >= 0) { this.row = -1; this.host.style.display = 'none'; this.bench.home(); }
      return;
    }
    if (this.row < 0) { this.host.style.display = ''; this.host.focus({ preventScroll: true }); }
    if (this.row !== state.viewer) this.load(state.viewer);
    this.fill();
  }
  load(row) {
    this.row = row;
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
    this.img.style.width = `${w * scale}px`; this.img.style.height = `${h * scale}px`;
    this.img.style.transform = `translate(-50%, -50%) translate(${this.shift[0]}px, ${this.shift[1]}px)`;
    this.img.classList.toggle('wb-pixels', scale >= 2);
    this.scale.textContent = +this.host.dataset.full === this.row ? `${w} × ${h} pixels, shown at ${Math.round(100 * scale)} %` : 'loading …';
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
    const acts = { '+': () => this.scaleBy(1.4), '=': () => this.scaleBy(1.4), '-': () => this.scaleBy(1 / 1.4), 0: () => this.reset(),
                   1: () => { this.zoom = Math.max(1, 1 / this.fitted); this.fit(); } };
    acts[key]?.();
    return key in acts;
  }
  close() { this.watch.disconnect(); for (const url of this.kept.values()) URL.revokeObjectURL(url); }
}
