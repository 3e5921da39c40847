import { element } from '../elements.js';
import { alongWheel, button, choice, badge, whole, SHAPES } from './base.js';
import { Cells } from '../cells.js';

const NEAR = 14, PAD = 20, MANY = 5000, PATIENCE = 60, TWICE = 300;      // pixels, points, ms
const TOOLS = { lasso: ['◌', 'Lasso: draw round pictures; Shift adds, Alt takes away (t: next tool)'],
                box: ['▢', 'Box: drag a rectangle; Shift adds, Alt takes away (t: next tool)'],
                pan: ['✥', 'Pan: drag the map; Ctrl and drag pans with any tool (t: next tool)'] };

// The map: two canvases, the points below, what follows the pointer above.
export class MapView {
  constructor(bench, parent) {
    this.bench = bench;
    this.zoom = 1; this.centre = [0.5, 0.5]; this.hovered = -1; this.line = null; this.only = -1; this.tool = 'lasso'; this.clicked = [-9, -9];
    this.host = element('section', 'wb-map', parent);
    this.host.setAttribute('aria-label', 'Map of pictures');
    this.buildHead();
    this.frame = element('div', 'wb-map-frame', this.host);
    this.base = element('canvas', 'wb-map-points', this.frame);
    this.top = element('canvas', 'wb-map-pointer', this.frame);
    this.top.tabIndex = 0;
    this.top.setAttribute('role', 'application');
    this.top.setAttribute('aria-label', 'Map. Arrows pan, plus and minus zoom, 0 shows all, brackets go from cluster to cluster');
    this.ring = element('div', 'wb-ring', this.frame);
    this.tip = element('div', 'wb-tip', this.frame);
    this.tipPicture = element('img', '', this.tip);
    this.tipPicture.alt = '';
    this.tipWords = element('div', '', this.tip);
    this.legend = element('div', 'wb-legend', this.host);
    this.legend.setAttribute('role', 'group');
    alongWheel(this.legend);
    this.legend.setAttribute('aria-label', 'Colours of the map: each selects its pictures');
    this.listen();
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(this.frame);
  }
  buildHead() {
    const head = element('div', 'wb-head', this.host), { options, ask } = this.bench;
    this.tools = Object.entries(TOOLS).map(([name, [sign, title]]) => {
      const made = button(head, sign, title, () => this.take(name), 'wb-tool');
      made.setAttribute('aria-label', title);
      return [name, made];
    });
    this.take('lasso');
    this.colourBox = choice(head, 'colour', options.colours, value => ask('set', { name: 'colour', value }));
    this.layoutBox = choice(head, 'layout', options.layouts, value => ask('set', { name: 'layout', value }));
    element('span', 'wb-grow', head);
    button(head, '−', 'Zoom out (−, or Ctrl and wheel)', () => this.scale(1 / 1.5), 'wb-tool').setAttribute('aria-label', 'Zoom out');
    button(head, '+', 'Zoom in (+, or Ctrl and wheel)', () => this.scale(1.5), 'wb-tool').setAttribute('aria-label', 'Zoom in');
    button(head, 'all', 'The whole map (0, or a double click)', () => this.reset(), 'wb-tool');
  }
  take(tool) {
    this.tool = tool;
    for (const [name, made] of this.tools) made.setAttribute('aria-pressed', name === tool);
    if (this.top) this.top.dataset.tool = tool;
  }
  nextTool() { const names = Object.keys(TOOLS); this.take(names[(names.indexOf(this.tool) + 1) % names.length]); }

  // -- from the kernel --
  update(changed) {
    const { bench } = this;
    if (changed.has('xy')) { this.cells = new Cells(bench.xy, bench.kind.length); this.hovered = -1; }
    if (changed.has('legend') || changed.has('labels')) this.stamps = new Map();
    this.colourBox.value = bench.state.colour; this.layoutBox.value = bench.state.layout;
    if (['labels', 'legend', 'flags', 'theme'].some(name => changed.has(name))) this.drawLegend(changed);
    if (['xy', 'labels', 'legend', 'flags', 'theme', 'marks'].some(name => changed.has(name))) { this.stamps = new Map(); this.draw(); }
    else this.overlay();
    if (this.hovered >= 0) this.tell(this.hovered);
  }

  // -- where things are on the screen --
  resize() {
    const width = this.frame.clientWidth, height = this.frame.clientHeight, ratio = window.devicePixelRatio || 1;
    if (!width || !height) return;
    this.width = width; this.height = height;
    for (const canvas of [this.base, this.top]) {
      canvas.width = width * ratio; canvas.height = height * ratio;
      canvas.getContext('2d').setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.stamps = new Map();
    this.paint();
  }
  get stretch() { return Math.min(1.7, Math.max(0.75, (this.width - 2 * PAD) / (this.height - 2 * PAD))); }
  get unit() { return Math.min((this.width - 2 * PAD) / this.stretch, this.height - 2 * PAD) * this.zoom; }
  at(i) {
    return [this.width / 2 + (this.bench.xy[2 * i] - this.centre[0]) * this.unit * this.stretch,
            this.height / 2 - (this.bench.xy[2 * i + 1] - this.centre[1]) * this.unit];
  }
  place(event) { const box = this.top.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; }
  plane([x, y]) { return [(x - this.width / 2) / this.unit / this.stretch + this.centre[0], (this.height / 2 - y) / this.unit + this.centre[1]]; }
  scale(by, [x, y] = [this.width / 2, this.height / 2]) {
    const before = this.plane([x, y]);
    this.zoom = Math.min(60, Math.max(0.8, this.zoom * by));
    const after = this.plane([x, y]);
    this.centre = this.centre.map((v, n) => v + before[n] - after[n]);
    this.stamps = new Map();
    this.draw();
  }
  shift(dx, dy) {
    this.centre = [this.centre[0] - dx / this.unit / this.stretch, this.centre[1] + dy / this.unit];
    this.draw();
  }
  reset() { this.zoom = 1; this.centre = [0.5, 0.5]; this.stamps = new Map(); this.draw(); }

  // -- drawing: each point is stamped from a small picture of its shape; thousands at once are small squares --
  hidden(i) { return (this.bench.flags[i] & 2) > 0; }
  radius(n) { return Math.min(9, (6.4 - Math.log10(Math.max(10, n))) * Math.sqrt(this.zoom)); }
  draw() {
    if (!this.width || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }
  layers() {
    const { flags, kind, labels } = this.bench, found = [[], [], [], [], []];
    let seen = 0;
    for (let i = 0; i < kind.length; i++) {
      const [x, y] = this.at(i);
      if (x < -20 || y < -20 || x > this.width + 20 || y > this.height + 20) continue;
      seen++;
      const faint = this.hidden(i) || (this.only >= 0 && labels[i] !== this.only);
      found[kind[i] === 2 ? 4 : faint ? 0 : kind[i] === 1 ? 1 : flags[i] & 1 ? 3 : 2].push(i);
    }
    return [found, seen];
  }
  paint() {
    if (!this.bench.xy || !this.width) return;
    const g = this.base.getContext('2d'), { inks } = this.bench, [layers, seen] = this.layers();
    const any = this.bench.state.selected > 0, alpha = [0.08, any ? 0.2 : 0.4, any ? 0.28 : 0.9, 1, 1];
    if (this.drawnFor !== seen > MANY) { this.drawnFor = seen > MANY; this.stamps = new Map(); }
    this.size = this.radius(seen);
    g.clearRect(0, 0, this.width, this.height);
    layers.forEach((layer, depth) => {
      g.globalAlpha = alpha[depth];
      if (seen > MANY && depth < 4) this.squares(g, layer, depth === 3);
      else for (const i of layer) this.stamp(g, i, depth === 3 ? inks.ink : '');
    });
    g.globalAlpha = 1;
    this.names(g, layers[4]);
    this.overlay();
    this.host.dataset.drawn = seen;
  }
  entry(i) { return this.bench.legend[this.bench.labels[i]]; }
  stamp(g, i, edge) {
    const entry = this.entry(i), kind = this.bench.kind[i], shape = kind === 2 ? 'star' : kind === 1 ? 'square' : entry.shape;
    const colour = kind === 2 ? this.bench.inks.ink : this.bench.inks.of(entry.colour), key = colour + shape + edge;
    if (!this.stamps.has(key)) this.stamps.set(key, this.cut(colour, shape, kind === 2 ? 5 : kind === 1 ? this.size * 0.8 : this.size, edge));
    const stamp = this.stamps.get(key), [x, y] = this.at(i);
    g.drawImage(stamp, x - stamp.half, y - stamp.half, 2 * stamp.half, 2 * stamp.half);
  }
  cut(colour, shape, r, edge) {
    const ratio = window.devicePixelRatio || 1, stamp = document.createElement('canvas'), half = Math.ceil((shape === 'star' ? 2.4 : 1.4) * r + 3);
    stamp.width = stamp.height = 2 * half * ratio;
    stamp.half = half;
    const g = stamp.getContext('2d');
    g.scale(ratio, ratio); g.translate(half, half);
    if (edge) { g.fillStyle = g.strokeStyle = edge; g.beginPath(); SHAPES[shape](g, r + 1.8); }
    g.fillStyle = g.strokeStyle = colour;
    g.beginPath();
    SHAPES[shape](g, r);
    return stamp;
  }
  squares(g, layer, chosen) {
    const groups = new Map(), { labels, inks, legend } = this.bench, half = Math.max(1.2, this.size * 0.75) + (chosen ? 0.6 : 0);
    for (const i of layer) { if (!groups.has(labels[i])) groups.set(labels[i], []); groups.get(labels[i]).push(i); }
    for (const [label, rows] of groups) {
      g.fillStyle = inks.of(legend[label].colour);
      for (const i of rows) { const [x, y] = this.at(i); g.fillRect(x - half, y - half, 2 * half, 2 * half); }
    }
  }
  names(g, stars) {
    const { bench } = this, taken = [];
    g.textAlign = 'center'; g.lineWidth = 3.5; g.lineJoin = 'round'; g.strokeStyle = bench.inks.ground; g.fillStyle = bench.inks.ink;
    const write = (text, x, y, font) => {
      g.font = `${font} ${getComputedStyle(this.host).fontFamily}`;
      const half = g.measureText(text).width / 2, left = Math.min(Math.max(x, half + 4), this.width - half - 4);
      if (taken.some(([a, b, h]) => Math.abs(a - left) < h + half + 2 && Math.abs(b - y) < 12)) return;
      taken.push([left, y, half]);
      g.strokeText(text, left, y); g.fillText(text, left, y);
    };
    for (const i of stars) { const [x, y] = this.at(i); write(bench.stars[i - (bench.kind.length - bench.stars.length)], x, y - 14, '600 12px'); }
    if (bench.state.colour !== 'cluster') return;
    const focused = card => card.id === bench.state.focus;
    for (const card of [...bench.cards].sort((a, b) => focused(b) - focused(a))) {
      const spot = bench.faces(card);
      if (spot) { const [x, y] = this.at(spot); write(card.name.replace(/^cluster /, ''), x, y + 4, focused(card) ? '700 15px' : '700 12px'); }
    }
  }
  overlay() {
    if (!this.width || !this.bench.xy) return;
    const g = this.top.getContext('2d'), { ink } = this.bench.inks, { cursor } = this.bench.state;
    g.clearRect(0, 0, this.width, this.height);
    g.strokeStyle = ink; g.lineWidth = 2;
    this.placeRing();
    if (cursor >= 0) {
      const [x, y] = this.at(cursor);
      g.beginPath(); g.arc(x, y, (this.size || 5) + 6, 0, 7); g.setLineDash([3, 3]); g.stroke(); g.setLineDash([]);
    }
    if (!this.line || this.line.length < 2) return;
    g.beginPath();
    this.outline().forEach(([x, y], n) => n ? g.lineTo(x, y) : g.moveTo(x, y));
    g.closePath(); g.setLineDash([5, 4]); g.stroke(); g.setLineDash([]);
    g.globalAlpha = 0.09; g.fillStyle = ink; g.fill(); g.globalAlpha = 1;
  }
  outline() {      // of a box only two corners are kept
    const [[a, b], [c, d]] = [this.line[0], this.line[this.line.length - 1]];
    return this.tool === 'box' ? [[a, b], [c, b], [c, d], [a, d]] : this.line;
  }

  // -- the legend: a line for each colour, which selects; counts follow the selection --
  drawLegend(changed) {
    const { labels, kind, flags, legend, state, inks, ask } = this.bench, all = new Array(legend.length).fill(0), chosen = all.slice();
    for (let i = 0; i < kind.length; i++) if (kind[i] < 2) { all[labels[i]]++; chosen[labels[i]] += flags[i] & 1; }
    if (!state.selected || changed.has('legend')) this.only = -1;
    const had = this.legend.contains(document.activeElement) ? document.activeElement.dataset.label : undefined;
    this.legend.replaceChildren();
    legend.forEach((entry, n) => {
      if (!all[n]) return;
      const key = element('button', 'wb-key', this.legend), last = n === legend.length - 1;
      key.type = 'button'; key.dataset.label = n; key.disabled = last;
      key.title = last ? `${whole(all[n])} training images` : `${entry.label}: ${whole(all[n])} pictures; click selects them, Shift adds, Alt takes away`;
      key.setAttribute('aria-label', key.title);
      badge(key, entry.shape, inks.of(entry.colour));
      element('span', '', key, entry.label);
      element('b', '', key, chosen[n] && !last ? `${whole(chosen[n])} of ${whole(all[n])}` : whole(all[n]));
      const light = label => { if (label !== this.only) { this.only = label; this.draw(); } };
      key.onpointermove = event => { if (Math.hypot(event.clientX - this.clicked[0], event.clientY - this.clicked[1]) > 4) light(n); };
      key.onfocus = () => { if (key.matches(':focus-visible')) light(n); };
      key.onpointerleave = key.onblur = () => light(-1);
      key.onclick = event => { this.clicked = [event.clientX, event.clientY]; light(-1); ask('entry', { label: n, how: this.how(event) }); };
      if (had === `${n}`) key.focus({ preventScroll: true });
    });
  }

  // -- the pointer --
  how(event) { return event.shiftKey ? 'add' : event.altKey ? 'remove' : 'set'; }
  listen() {
    const { top } = this;
    top.onpointerdown = event => {
      top.focus({ preventScroll: true });
      const pans = event.button === 1 || event.ctrlKey || event.metaKey || this.tool === 'pan';
      if (event.button > 1) return;
      event.preventDefault();
      top.setPointerCapture(event.pointerId);
      this.from = this.place(event);
      this.dragged = false;
      if (pans) this.grip = this.from; else this.line = [this.from];
    };
    top.onpointermove = event => {
      const at = this.place(event);
      if (this.from && Math.hypot(at[0] - this.from[0], at[1] - this.from[1]) > 4) this.dragged = true;
      if (this.grip) { this.shift(at[0] - this.grip[0], at[1] - this.grip[1]); this.grip = at; }
      else if (this.line) { this.line.push(at); this.overlay(); }
      else this.hover(this.near(at));
    };
    top.onpointerup = event => this.release(event);
    top.onpointercancel = () => { this.line = this.grip = this.from = null; this.overlay(); };
    top.onpointerleave = () => this.hover(-1);
    top.ondblclick = () => { clearTimeout(this.single); this.reset(); };
    top.addEventListener('wheel', event => {
      if (!event.ctrlKey && !event.metaKey) return;      // a plain wheel scrolls the page
      event.preventDefault();
      this.scale(Math.exp(-event.deltaY / 300), this.place(event));
    }, { passive: false });
  }
  release(event) {
    const { line, dragged } = this, outline = line && this.outline().map(point => this.plane(point)), how = this.how(event);
    this.line = this.grip = this.from = null;
    this.overlay();
    if (!line) return;
    if (!dragged) return this.pick(this.near(this.place(event)), how);
    this.bench.timing = ['lassoMs', performance.now()];
    if (this.tool === 'box') this.bench.ask('box', { corners: [...outline[0], ...outline[2]], how });
    else this.bench.ask('lasso', { outline: thin(outline, 240), how });
  }
  pick(i, how) {      // a click waits: the first half of a double click must not lose the selection
    clearTimeout(this.single);
    if (i >= 0 && this.bench.kind[i] === 0) this.single = setTimeout(() => this.bench.ask('select', { rows: [i], how }), TWICE);
  }
  near([x, y]) {
    const [a, b] = this.plane([x, y]);
    return this.cells?.near(a, b, NEAR / this.unit, this.stretch, i => this.hidden(i)) ?? -1;
  }
  hover(i) {
    if (i === this.hovered) return;
    this.hovered = i;
    this.host.dataset.hover = i;
    clearTimeout(this.ahead); clearTimeout(this.slow);
    if (i < 0) this.tip.style.display = 'none';
    else {
      const begun = performance.now();
      this.slow = setTimeout(() => this.showTip(i), PATIENCE);      // a busy kernel: what is known goes first
      this.bench.thumbs.now(i, () => {
        if (i !== this.hovered) return;
        clearTimeout(this.slow);
        this.showTip(i);
        this.host.dataset.hoverMs = performance.now() - begun;
        this.ahead = setTimeout(() => this.lookAhead(i), 150);
      });
    }
    this.placeRing();
    this.bench.light(i);
  }
  showTip(i) {
    this.tell(i);
    const [x, y] = this.at(i), { style } = this.tip;
    style.left = `${x < this.width / 2 ? Math.min(x + 16, this.width - 250) : Math.max(4, x - 262)}px`;
    style.top = `${Math.max(4, Math.min(y - 40, this.height - 150))}px`;
    style.display = 'flex';
  }
  placeRing() {      // not on the canvas: a browser without a graphics card would draw all of that again at each step of the pointer
    const far = (this.size || 5) + 4, [x, y] = this.hovered < 0 ? [-99, -99] : this.at(this.hovered);
    this.ring.style.cssText = `width: ${2 * far}px; height: ${2 * far}px; transform: translate(${x - far}px, ${y - far}px)`;
  }
  lookAhead(i) {      // the pointer rests: what lies around it comes next
    if (i !== this.hovered) return;
    const { xy } = this.bench, found = [];
    for (let n = 0; n < 6; n++) {
      const next = this.cells.near(xy[2 * i], xy[2 * i + 1], 4 * NEAR / this.unit, this.stretch, k => this.hidden(k) || this.bench.thumbs.get(k) || found.includes(k));
      if (next < 0) break;
      found.push(next);
    }
    this.bench.thumbs.want(found, false);
  }
  tell(i) {
    const found = this.bench.thumbs.get(i), lines = this.bench.lines(i, found?.lines);
    this.tipPicture.style.display = found?.url ? '' : 'none';
    if (found?.url) this.tipPicture.src = found.url;
    this.tipWords.replaceChildren();
    lines.forEach((line, n) => element(n ? 'div' : 'strong', '', this.tipWords, line));
  }
  press(key) {      // keys of the map alone
    const step = 60, moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (document.activeElement !== this.top || !moves[key]) return false;
    this.shift(...moves[key]);
    return true;
  }
  close() { this.watch.disconnect(); clearTimeout(this.single); }
}

const thin = (line, most) => line.length <= most ? line : Array.from({ length: most }, (_, n) => line[Math.floor(n * line.length / most)]);
