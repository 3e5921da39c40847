// A map of pictures. Hovering shows a thumbnail, a click or a lasso selects, the keyboard does the same.
// Two canvases: the points below, redrawn when they change; the pointer's ring and the lasso above.
// `model` is an anywidget model, or anything with get, on and send: the page that to_html() writes brings its own.

import { Cells } from './cells.js';

const NEAR = 12, PAD = 18, MANY = 4000;

const bytes = (model, name) => {
  const view = model.get(name);
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
};

const floats = (model, name) => new Float32Array(bytes(model, name).slice().buffer);
const shorts = (model, name) => new Uint16Array(bytes(model, name).slice().buffer);

const element = (kind, className, parent, text) => {
  const made = document.createElement(kind);
  made.className = className;
  if (text !== undefined) made.textContent = text;      // never innerHTML: names are only names
  parent?.append(made);
  return made;
};

const inside = (x, y, loop) => {
  let odd = false;
  for (let i = 0, j = loop.length - 1; i < loop.length; j = i++) {
    const [a, b] = loop[i], [c, d] = loop[j];
    if ((b > y) !== (d > y) && x < (c - a) * (y - b) / (d - b) + a) odd = !odd;
  }
  return odd;
};

const SHAPES = {
  dot: (g, r) => { g.arc(0, 0, r, 0, 7); g.fill(); },
  ring: (g, r) => { g.arc(0, 0, r * 0.8, 0, 7); g.lineWidth = r * 0.45; g.stroke(); },
  cross: (g, r) => {
    g.moveTo(-r * 0.8, -r * 0.8); g.lineTo(r * 0.8, r * 0.8); g.moveTo(-r * 0.8, r * 0.8); g.lineTo(r * 0.8, -r * 0.8);
    g.lineWidth = r * 0.6; g.stroke();
  },
  square: (g, r) => g.fillRect(-r * 0.75, -r * 0.75, r * 1.5, r * 1.5),
  star: (g, r) => {
    for (let k = 0; k < 10; k++) {
      const a = Math.PI * (k / 5 - 0.5), far = k % 2 ? r * 0.95 : r * 2.3;
      g.lineTo(Math.cos(a) * far, Math.sin(a) * far);
    }
    g.closePath(); g.fill(); g.lineWidth = 1.2; g.stroke();
  },
};

class PictureMap {
  constructor(model, el) {
    this.model = model;
    this.host = element('div', 'wood-map', el);
    this.frame = element('div', 'wood-map-frame', this.host);
    this.base = element('canvas', 'wood-map-points', this.frame);
    this.top = element('canvas', 'wood-map-pointer', this.frame);
    this.tip = element('div', 'wood-map-tip', this.frame);
    this.picture = element('img', '', this.tip);
    this.picture.alt = '';
    this.words = element('div', '', this.tip);
    this.legend = element('div', 'wood-map-legend', this.host);
    this.legend.setAttribute('role', 'group');
    this.legend.setAttribute('aria-label', 'Colours of the map: each selects its pictures');
    this.top.tabIndex = 0;
    this.top.setAttribute('role', 'application');
    this.top.setAttribute('aria-label', model.get('label'));
    this.zoom = 1; this.centre = [0.5, 0.5]; this.hovered = -1; this.loop = null; this.only = -1;
    this.known = new Map(); this.asked = 0;
    this.read(); this.listen();
  }

  read() {
    this.xy = floats(this.model, 'xy'); this.kind = bytes(this.model, 'kind');
    this.grid = new Cells(this.xy); this.n = this.kind.length;
    this.names = this.model.get('names');
    this.recolour();
  }

  recolour() {
    this.colour = shorts(this.model, 'colour'); this.flags = bytes(this.model, 'flags');
    this.entries = this.model.get('legend'); this.dots = new Map();
    this.drawLegend(); this.draw();
  }

  reflag() {      // mostly what was shown already when it was chosen here
    const flags = bytes(this.model, 'flags');
    if (flags.length === this.flags.length && flags.every((f, i) => f === this.flags[i])) return;
    this.flags = flags;
    this.draw();
  }

  // Where things are on the screen.
  resize() {
    const width = this.frame.clientWidth, height = this.frame.clientHeight, ratio = window.devicePixelRatio || 1;
    if (!width || !height) return;
    this.width = width; this.height = height;
    for (const canvas of [this.base, this.top]) {
      canvas.width = width * ratio; canvas.height = height * ratio;
      canvas.getContext('2d').setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.dots = new Map();
    this.draw();
  }
  get stretch() { return Math.min(1.6, Math.max(1, (this.width - 2 * PAD) / (this.height - 2 * PAD))); }    // use a wide frame
  get unit() { return (Math.min(this.width, this.height) - 2 * PAD) * this.zoom; }
  at(i) {
    return [this.width / 2 + (this.xy[2 * i] - this.centre[0]) * this.unit * this.stretch,
            this.height / 2 - (this.xy[2 * i + 1] - this.centre[1]) * this.unit];
  }
  place(event) {
    const box = this.top.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }
  plane(x, y) {
    return [(x - this.width / 2) / this.unit / this.stretch + this.centre[0], (this.height / 2 - y) / this.unit + this.centre[1]];
  }
  get radius() { return Math.min(9, (5.6 - 0.85 * Math.log10(Math.max(10, this.n))) * Math.sqrt(this.zoom)); }
  hidden(i) { return (this.flags[i] & 2) > 0; }
  selected(i) { return (this.flags[i] & 1) > 0; }

  // Drawing. A point is stamped from a small picture of its colour and shape.
  ink() { const style = getComputedStyle(this.host); return [style.color, style.backgroundColor]; }
  readable(colour) {      // on a dark ground colours are nearer to white: some are too dark for it
    const light = this.ink()[0].match(/[\d.]+/g).slice(0, 3).reduce((sum, v) => sum + +v, 0);
    return light > 382 && colour[0] === '#' ? `color-mix(in srgb, ${colour} 65%, white)` : colour;
  }
  dot(colour, shape, edge) {
    const key = colour + shape + edge;
    if (!this.dots.has(key)) {
      const ratio = window.devicePixelRatio || 1, r = this.radius;
      const stamp = document.createElement('canvas'), half = Math.ceil((shape === 'star' ? 2.4 : 1) * r + 3);
      stamp.width = stamp.height = 2 * half * ratio;
      stamp.half = half;
      const g = stamp.getContext('2d', { willReadFrequently: this.n > MANY });
      g.scale(ratio, ratio); g.translate(half, half);
      g.fillStyle = g.strokeStyle = colour = this.readable(colour);
      if (shape === 'star') g.strokeStyle = this.ink()[1];
      if (edge) { g.fillStyle = edge; g.beginPath(); g.arc(0, 0, r + 1.4, 0, 7); g.fill(); g.fillStyle = colour; }
      g.beginPath();
      SHAPES[shape](g, r);
      this.dots.set(key, stamp);
    }
    return this.dots.get(key);
  }
  draw() {
    if (!this.width || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }
  paint() {
    const g = this.base.getContext('2d'), [ink, ground] = this.ink();
    g.clearRect(0, 0, this.width, this.height);
    const any = this.flags.some(f => f & 1), layers = [[], [], [], [], []];
    for (let i = 0; i < this.n; i++) {
      if (this.kind[i] === 2) layers[4].push(i);
      else if (this.hidden(i) || (this.only >= 0 && this.colour[i] !== this.only)) layers[0].push(i);
      else layers[this.kind[i] === 1 ? 1 : this.selected(i) ? 3 : 2].push(i);
    }
    const alpha = [0.09, any ? 0.2 : 0.4, any ? 0.35 : 0.9, 1, 1];
    if (this.n > MANY) this.setPixels(g, layers.slice(0, 4), alpha, ink, ground);
    layers.forEach((layer, depth) => {
      if (this.n > MANY && depth < 4) return;
      g.globalAlpha = alpha[depth];
      for (const i of layer) this.stamp(g, i, depth === 3 ? ink : '', ink);
    });
    g.globalAlpha = 1;
    this.nameStars(g, layers[4], ink, ground);
    this.overlay();
  }
  stampOf(i, edge, ink) {
    const entry = this.entries[this.colour[i]];
    const shape = this.kind[i] === 2 ? 'star' : this.kind[i] === 1 ? 'square' : entry.shape;
    return this.dot(this.kind[i] === 2 ? ink : entry.colour, shape, edge);
  }
  stamp(g, i, edge, ink) {
    const [x, y] = this.at(i), stamp = this.stampOf(i, edge, ink);
    if (x < -20 || y < -20 || x > this.width + 20 || y > this.height + 20) return;
    g.drawImage(stamp, x - stamp.half, y - stamp.half, 2 * stamp.half, 2 * stamp.half);
  }
  nameStars(g, stars, ink, ground) {
    g.font = '600 12px ' + getComputedStyle(this.host).fontFamily;
    g.textAlign = 'center'; g.lineWidth = 3; g.strokeStyle = ground; g.fillStyle = ink; g.lineJoin = 'round';
    const taken = [];
    for (const i of stars) {
      const [x, y] = this.at(i), name = this.names[i - (this.n - this.names.length)];
      const half = g.measureText(name).width / 2;
      let line = y - 13;
      for (let n = 0; n < 8 && taken.some(([a, b, h]) => Math.abs(a - x) < h + half + 4 && Math.abs(b - line) < 13); n++)
        line = y + (n % 2 ? -13 : 20) * (1 + Math.floor(n / 2) * 0.9);
      taken.push([x, line, half]);
      const left = Math.min(Math.max(x, half + 4), this.width - half - 4);
      g.strokeText(name, left, line); g.fillText(name, left, line);
    }
  }
  overlay() {
    const g = this.top.getContext('2d'), [ink] = this.ink();
    g.clearRect(0, 0, this.width, this.height);
    g.strokeStyle = ink; g.lineWidth = 2;
    if (this.hovered >= 0) {
      const [x, y] = this.at(this.hovered);
      g.beginPath(); g.arc(x, y, this.radius + 4, 0, 7); g.stroke();
    }
    if (!this.loop) return;
    g.beginPath();
    this.loop.forEach(([x, y], n) => n ? g.lineTo(x, y) : g.moveTo(x, y));
    g.closePath(); g.setLineDash([5, 4]); g.stroke(); g.setLineDash([]);
    g.globalAlpha = 0.08; g.fillStyle = ink; g.fill(); g.globalAlpha = 1;
  }
  // Thousands of points are set pixel by pixel, which takes a tenth of the time of stamping; faded ones are mixed with the ground.
  pixels(stamp, alpha, ground) {
    const { width, height } = stamp, data = stamp.getContext('2d').getImageData(0, 0, width, height).data, found = [];
    for (let i = 0; i < width * height; i++) {
      if (data[4 * i + 3] < 110) continue;
      const [r, g, b] = [0, 1, 2].map(c => Math.round(ground[c] + (data[4 * i + c] - ground[c]) * alpha));
      found.push([i % width - width / 2, Math.floor(i / width) - height / 2, (255 << 24 | b << 16 | g << 8 | r) >>> 0]);
    }
    return found;
  }
  setPixels(g, layers, alpha, ink, ground) {
    const ratio = window.devicePixelRatio || 1, wide = Math.round(this.width * ratio), high = Math.round(this.height * ratio);
    const image = g.createImageData(wide, high), buffer = new Uint32Array(image.data.buffer), made = new Map();
    const base = (ground.match(/[\d.]+/g) || [255, 255, 255]).map(Number);
    layers.forEach((layer, depth) => {
      for (const i of layer) {
        const key = (this.colour[i] << 4) + (this.kind[i] << 2) + (depth === 3 ? 1 : 0) + 1e7 * depth;
        if (!made.has(key)) made.set(key, this.pixels(this.stampOf(i, depth === 3 ? ink : '', ink), alpha[depth], base));
        const [x, y] = this.at(i), left = Math.round(x * ratio), low = Math.round(y * ratio);
        for (const [dx, dy, value] of made.get(key)) {
          const column = left + dx | 0, line = low + dy | 0;
          if (column >= 0 && line >= 0 && column < wide && line < high) buffer[line * wide + column] = value;
        }
      }
    });
    g.putImageData(image, 0, 0);
  }
  drawLegend() {
    const counts = new Array(this.entries.length).fill(0);
    for (let i = 0; i < this.n; i++) if (this.kind[i] < 2) counts[this.colour[i]]++;
    this.legend.replaceChildren();
    this.entries.forEach((entry, n) => {
      if (!counts[n]) return;
      const key = element('button', 'wood-map-key', this.legend);
      key.type = 'button';
      key.title = `${entry.label}: ${counts[n]} pictures; click to select them`;
      const mark = element('span', `wood-map-mark wood-${entry.shape}`, key, { cross: '✕', ring: '○', dot: '●', square: '■' }[entry.shape]);
      mark.style.color = entry.colour;
      mark.setAttribute('aria-hidden', 'true');
      key.append(` ${entry.label} ${counts[n]}`);
      key.onmouseenter = key.onfocus = () => { this.only = n; this.draw(); };
      key.onmouseleave = key.onblur = () => { this.only = -1; this.draw(); };
      key.onclick = event => this.choose(this.where(i => this.colour[i] === n), event);
    });
  }

  // Hovering: the thumbnail comes from the kernel when it is asked for, and is kept.
  hover(i) {
    if (i === this.hovered) return;
    this.hovered = i;
    this.next = -1;
    clearTimeout(this.ahead);
    this.host.dataset.hover = i;
    this.since = performance.now();
    this.tip.style.display = i < 0 ? 'none' : 'flex';
    this.overlay();
    if (i < 0) return;
    const found = this.known.get(i);
    if (found) this.show(i, found);
    else {
      this.picture.style.visibility = 'hidden';
      this.words.replaceChildren();
      element('strong', '', this.words, this.kind[i] === 2 ? 'class prototype' : this.entries[this.colour[i]].label);
      clearTimeout(this.asked);
      this.asked = setTimeout(() => this.model.send({ type: 'hover', index: i }), 8);
    }
    this.settle(i);
  }
  learn(index, lines, data) { this.know(index, lines, data ? URL.createObjectURL(new Blob([data], { type: 'image/jpeg' })) : ''); }
  know(index, lines, url) {
    if (this.known.size > 3000) {
      const [oldest, { url: old }] = this.known.entries().next().value;
      URL.revokeObjectURL(old); this.known.delete(oldest);
    }
    this.known.set(index, { lines, url });
    this.host.dataset.known = this.known.size;
    if (index === this.hovered) this.show(index, this.known.get(index));
    else if (index === this.next) this.lookAhead(this.times - 1, 0);
  }
  // The pointer rests: fetch what lies around it, one by one, so that no answer waits behind many.
  lookAhead(times, wait) {
    const x = this.xy[2 * this.hovered], y = this.xy[2 * this.hovered + 1];
    this.times = times;
    this.ahead = setTimeout(() => {
      this.next = times ? this.grid.near(x, y, 3 * NEAR / this.unit, this.stretch, k => this.hidden(k) || this.known.has(k)) : -1;
      if (this.next >= 0) this.model.send({ type: 'hover', index: this.next });
    }, wait);
  }
  forget() { for (const { url } of this.known.values()) if (url.startsWith('blob:')) URL.revokeObjectURL(url); this.known.clear(); }
  // What was said of the points is no longer true; the one under the pointer is asked for anew.
  renew() {
    const i = this.hovered;
    this.forget();
    this.hovered = -1;
    this.hover(i);
  }
  show(i, { lines, url }) {
    this.words.replaceChildren();
    lines.forEach((line, n) => element(n ? 'div' : 'strong', '', this.words, line));
    this.picture.style.visibility = url ? 'visible' : 'hidden';
    if (url) this.picture.src = url;
    const timed = () => { if (this.hovered === i) this.host.dataset.hoverMs = (performance.now() - this.since).toFixed(1); };
    if (url) this.picture.decode().then(timed, () => {}); else timed();
    this.settle(i);
    this.lookAhead(8, 120);
  }
  settle(i) {
    const [x, y] = this.at(i), { offsetWidth: w, offsetHeight: h } = this.tip;
    this.tip.style.left = `${x + 16 + w > this.width ? Math.max(0, x - 16 - w) : x + 16}px`;
    this.tip.style.top = `${Math.max(0, Math.min(y + 12, this.height - h))}px`;
  }

  // Selecting.
  where(test) {
    const found = [];
    for (let i = 0; i < this.n; i++) if (this.kind[i] === 0 && !this.hidden(i) && test(i)) found.push(i);
    return found;
  }
  choose(rows, event) {
    const how = event?.shiftKey ? 'add' : event?.altKey ? 'remove' : 'set';
    const flags = this.flags.slice(), chosen = new Set(rows);
    for (let i = 0; i < this.n; i++) {
      if (how === 'set') flags[i] = (flags[i] & 2) | (chosen.has(i) ? 1 : 0);
      else if (chosen.has(i)) flags[i] = (flags[i] & 2) | (how === 'add' ? 1 : 0);
    }
    this.flags = flags;       // shown at once; the kernel says the same a moment later
    this.draw();
    this.model.send({ type: 'select' }, undefined, [Uint32Array.from(this.where(i => this.selected(i))).buffer]);
  }
  lasso(loop, event) {
    const start = performance.now(), flat = loop.map(([x, y]) => this.plane(x, y));
    const xs = flat.map(o => o[0]), ys = flat.map(o => o[1]);
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    this.choose(this.where(i => {
      const x = this.xy[2 * i], y = this.xy[2 * i + 1];
      return x >= left && x <= right && y >= low && y <= high && inside(x, y, flat);
    }), event);
    this.host.dataset.lassoMs = (performance.now() - start).toFixed(1);
  }
  pick(x, y) {
    const [a, b] = this.plane(x, y);
    return this.grid.near(a, b, NEAR / this.unit, this.stretch, i => this.hidden(i));
  }

  listen() {
    const top = this.top;
    top.onpointerdown = event => {
      if (event.button) return;
      top.focus({ preventScroll: true });
      top.setPointerCapture(event.pointerId);
      this.loop = [this.place(event)];
    };
    top.onpointermove = event => {
      const here = this.place(event);
      if (!this.loop) return this.hover(this.pick(...here));
      this.loop.push(here);
      if (this.loop.length > 4) this.hover(-1);
      this.overlay();
    };
    top.onpointerup = event => {
      const loop = this.loop;
      this.loop = null;
      if (!loop) return;
      const far = Math.max(...loop.map(([x, y]) => Math.hypot(x - loop[0][0], y - loop[0][1])));
      if (far > 6) this.lasso(loop, event);
      else {
        if (!(event.timeStamp - this.clicked < 500)) this.before = this.where(i => this.selected(i));
        this.clicked = event.timeStamp;
        const i = this.pick(...loop[0]);
        this.choose(i >= 0 && this.kind[i] === 0 ? [i] : [], event);
      }
      this.overlay();
    };
    top.onpointercancel = () => { this.loop = null; this.overlay(); };
    top.onpointerleave = () => { if (!this.loop) this.hover(-1); };
    top.ondblclick = event => {      // it zooms; what its two clicks did to the selection is taken back
      this.zoomBy(2, ...this.place(event));
      this.choose(this.before, {});
    };
    top.addEventListener('wheel', event => {
      if (!event.ctrlKey && !event.metaKey) return;      // a plain wheel scrolls the notebook
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 300), ...this.place(event));
    }, { passive: false });
    top.onkeydown = event => this.key(event);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.frame);
    this.theme = new MutationObserver(() => { this.dots = new Map(); this.draw(); });
    for (const node of [document.body, document.documentElement])
      this.theme.observe(node, { attributes: true, attributeFilter: ['data-jp-theme-light', 'class', 'data-theme'] });
  }
  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step) this.walk(...step);
    else if (event.key === '+' || event.key === '=') this.zoomBy(1.5);
    else if (event.key === '-') this.zoomBy(1 / 1.5);
    else if (event.key === '0') { this.zoom = 1; this.centre = [0.5, 0.5]; this.resize(); }
    else if ((event.key === 'Enter' || event.key === ' ') && this.hovered >= 0)
      this.choose(this.kind[this.hovered] === 0 ? [this.hovered] : [], event);
    else return;
    event.preventDefault(); event.stopPropagation();
  }
  walk(dx, dy) {       // to the next point in that direction
    const [x, y] = this.hovered >= 0 ? [this.xy[2 * this.hovered], this.xy[2 * this.hovered + 1]] : this.centre;
    let best = -1, least = Infinity;
    for (let i = 0; i < this.n; i++) {
      if (i === this.hovered || this.hidden(i)) continue;
      const ahead = (this.xy[2 * i] - x) * dx + (this.xy[2 * i + 1] - y) * dy;
      const aside = Math.abs((this.xy[2 * i] - x) * dy - (this.xy[2 * i + 1] - y) * dx);
      if (ahead > 1e-6 && ahead + 3 * aside < least) { least = ahead + 3 * aside; best = i; }
    }
    if (best < 0) return;
    const [px, py] = this.at(best);
    if (px < 0 || py < 0 || px > this.width || py > this.height) { this.centre = [this.xy[2 * best], this.xy[2 * best + 1]]; this.draw(); }
    this.hover(best);
  }
  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    const [a, b] = this.plane(x, y);
    this.zoom = Math.min(40, Math.max(1, this.zoom * factor));
    this.centre = this.zoom === 1 ? [0.5, 0.5] : [a - (x - this.width / 2) / this.unit / this.stretch, b - (this.height / 2 - y) / this.unit];
    this.dots = new Map();
    this.hover(-1); this.draw();
  }
  close() { clearTimeout(this.ahead); this.observer.disconnect(); this.theme.disconnect(); this.forget(); }
}

// Keys of the whole explorer: pressed anywhere in it, except where one writes. JupyterLab does not get them.
const WRITES = 'input:not([type=checkbox]):not([type=button]), textarea, select, [contenteditable=true]';

const keyed = (root, model) => {
  root.dataset.lmSuppressShortcuts = 'true';
  const thumb = node => [...(node.closest?.('[class*="place-"]')?.classList || [])].find(o => o.startsWith('place-'));
  const steer = (event, name) => {      // arrows walk through the thumbnails
    const all = [...root.querySelectorAll('.wood-thumb')].filter(o => o.offsetParent), n = all.indexOf(event.target.closest('.wood-thumb'));
    const across = all.filter(o => o.offsetTop === all[0].offsetTop).length;
    const to = n + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
    if (all[to]) all[to].focus();
    event.preventDefault();
  };
  let clicked = null;      // a thumbnail that has the focus from a click was marked or unmarked by it, not reached by the keyboard
  const click = event => { clicked = event.detail ? event.target.closest?.('.wood-thumb') : null; };
  const blur = () => { clicked = null; };
  const press = event => {
    if (event.defaultPrevented || event.isComposing) return;
    if (event.target.matches?.(WRITES)) return event.stopPropagation();
    const place = thumb(event.target);
    if (place && event.key.startsWith('Arrow')) { steer(event, place); event.stopPropagation(); return; }
    if (event.altKey || ['Tab', 'Enter', ' ', 'Shift', 'Control', 'Meta', 'Alt'].includes(event.key)) return event.stopPropagation();
    const jump = { '/': '.wood-filter input', c: '.wood-contains select', n: '.wood-name input', o: '.wood-order select' }[event.key];
    const aim = jump && !event.ctrlKey && !event.metaKey && root.querySelector(jump);
    if (aim) { aim.focus(); aim.select?.(); }
    else if ((event.ctrlKey || event.metaKey) && !['z', 'y', 'Z', 's'].includes(event.key)) return event.stopPropagation();
    else {
      const meant = place && (event.key === 'l' || event.target.closest('.wood-thumb') !== clicked);
      const key = (event.ctrlKey || event.metaKey ? 'Ctrl+' : '') + event.key, words = root.querySelector('.wood-filter input')?.value;
      model.send({ type: 'key', key, place: meant ? +place.slice(6) : -1, words });
    }
    event.preventDefault(); event.stopPropagation();
  };
  const leave = event => {      // Escape ends writing; the boxes themselves keep every key from us, so it is caught before
    if (event.key !== 'Escape' || !event.target.matches?.(WRITES)) return;
    root.querySelector('.wood-map-pointer')?.focus();
    event.preventDefault(); event.stopPropagation();
  };
  root.addEventListener('keydown', leave, true);
  const heard = { keydown: press, click, focusout: blur };
  for (const [name, act] of Object.entries(heard)) root.addEventListener(name, act);
  return () => {
    root.removeEventListener('keydown', leave, true);
    for (const [name, act] of Object.entries(heard)) root.removeEventListener(name, act);
  };
};

function render({ model, el }) {
  const map = new PictureMap(model, el);
  let release = () => {};
  const wait = setInterval(() => {
    const root = el.closest('.wood-explorer');
    if (root) { clearInterval(wait); release = keyed(root, model); root.dataset.ready = 'true'; }
  }, 30);
  const on = { xy: () => map.read(), colour: () => map.recolour(), legend: () => map.recolour(), flags: () => map.reflag() };
  for (const [name, act] of Object.entries(on)) model.on(`change:${name}`, act);
  const hear = (message, buffers) => {
    if (message.type === 'thumb') map.learn(message.index, message.lines, buffers?.[0]);
    if (message.type === 'forget') map.renew();
    if (message.type === 'focus') {      // unless the person has gone on to a box or the map meanwhile
      const here = document.activeElement;
      if (here === document.body || here?.classList.contains('wood-thumb')) el.closest('.wood-explorer')?.querySelector(message.at)?.focus();
    }
  };
  model.on('msg:custom', hear);
  return () => {
    clearInterval(wait); release(); map.close();
    for (const [name, act] of Object.entries(on)) model.off(`change:${name}`, act);
    model.off('msg:custom', hear);
  };
}

export default { render };
