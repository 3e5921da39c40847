// What all parts of the page share: elements, arrays, colours, thumbnails. Nothing is decided here: the kernel keeps the truth.

import { element } from '../elements.js';

export const button = (parent, text, title, act, className = '', often = false) => {
  const made = element('button', `wb-button ${className}`, parent, text);
  made.type = 'button';
  made.title = title;
  made.onclick = event => { if (event.detail < 2 || often) act(event); };      // the second half of a double click decides nothing
  return made;
};

export const choice = (parent, label, options, act) => {
  const frame = element('label', 'wb-choice', parent), made = element('select', '', frame);
  frame.prepend(element('span', 'wb-label', null, label));
  made.setAttribute('aria-label', label);
  for (const [value, text] of Object.entries(options)) element('option', '', made, text).value = value;
  made.onchange = () => act(made.value);
  return made;
};

export const alongWheel = line => line.addEventListener('wheel', event => {      // a plain wheel moves a line along, as long as it can
  if (event.deltaX || event.shiftKey || event.ctrlKey) return;
  const before = line.scrollLeft;
  line.scrollLeft += event.deltaY;
  if (line.scrollLeft !== before) event.preventDefault();
}, { passive: false });

export const whole = n => n.toLocaleString('en');

const bytes = (model, name) => { const view = model.get(name); return new Uint8Array(view.buffer, view.byteOffset, view.byteLength); };
export const column = (model, name, Kind) => Kind === Uint8Array ? bytes(model, name).slice() : new Kind(bytes(model, name).slice().buffer);

// Colours are those of the clusters; on a dark ground they are mixed with white, the same for map, strip and borders.
export class Inks {
  constructor(root) { this.root = root; this.read(); }
  read() {
    const style = getComputedStyle(this.root);
    this.ink = style.color || '#1c1c1c';      // not on the page yet: it is read again as soon as it is
    this.ground = style.backgroundColor || '#ffffff';
    const parts = (this.ink.match(/[\d.]+/g) || [0]).slice(0, 3).map(Number);
    this.dark = parts.reduce((sum, v) => sum + v, 0) > 382;
    this.root.classList.toggle('wb-dark', this.dark);
  }
  of(colour) { return this.dark ? `color-mix(in srgb, ${colour} 62%, white)` : colour; }
}

// Shapes of points, drawn round the origin.
export const SHAPES = {
  dot: (g, r) => { g.arc(0, 0, r, 0, 7); g.fill(); },
  square: (g, r) => g.fillRect(-r * 0.85, -r * 0.85, r * 1.7, r * 1.7),
  triangle: (g, r) => { g.moveTo(0, -r * 1.15); g.lineTo(r * 1.1, r * 0.85); g.lineTo(-r * 1.1, r * 0.85); g.closePath(); g.fill(); },
  diamond: (g, r) => { g.moveTo(0, -r * 1.25); g.lineTo(r * 1.1, 0); g.lineTo(0, r * 1.25); g.lineTo(-r * 1.1, 0); g.closePath(); g.fill(); },
  bar: (g, r) => g.fillRect(-r * 1.2, -r * 0.5, r * 2.4, r),
  ring: (g, r) => { g.arc(0, 0, r * 0.8, 0, 7); g.lineWidth = r * 0.45; g.stroke(); },
  cross: (g, r) => {
    g.moveTo(-r * 0.8, -r * 0.8); g.lineTo(r * 0.8, r * 0.8); g.moveTo(-r * 0.8, r * 0.8); g.lineTo(r * 0.8, -r * 0.8);
    g.lineWidth = r * 0.6; g.stroke();
  },
  star: (g, r) => {
    for (let k = 0; k < 10; k++) {
      const a = Math.PI * (k / 5 - 0.5), far = k % 2 ? r * 0.95 : r * 2.3;
      g.lineTo(Math.cos(a) * far, Math.sin(a) * far);
    }
    g.closePath(); g.fill();
  },
};

// A mark as it stands on the map, for legend, strip and captions. Drawn once: each canvas on a page is a layer, and a hundred of them
// cost 40 ms whenever anything moves.
const drawn = new Map();
const drawMark = (shape, colour, size) => {
  const canvas = document.createElement('canvas'), g = canvas.getContext('2d');
  canvas.width = canvas.height = size;
  g.translate(size / 2, size / 2);
  g.fillStyle = g.strokeStyle = colour;
  g.beginPath();
  SHAPES[shape](g, size * 0.38);
  return `url(${canvas.toDataURL()})`;
};
export const badge = (parent, shape, colour, size = 12) => {
  const made = element('span', 'wb-badge', parent), across = Math.ceil(size * (window.devicePixelRatio || 1)), key = [shape, colour, across].join();
  if (!drawn.has(key)) drawn.set(key, drawMark(shape, colour, across));
  made.style.cssText = `width: ${size}px; height: ${size}px; background-image: ${drawn.get(key)}`;
  made.setAttribute('aria-hidden', 'true');
};

// Thumbnails come when they are asked for, a few at a time, what is in view first; they are kept, the oldest go.
export class Thumbs {
  constructor(model, most = 5000, few = 12) {
    this.model = model; this.most = most; this.few = few;
    this.known = new Map(); this.wanted = []; this.flying = 0; this.waiting = new Map();
  }
  get(row) { return this.known.get(row); }
  want(rows, fresh = true) {      // the latest wish replaces those before it
    const missing = rows.filter(row => row >= 0 && !this.known.has(row));
    this.wanted = fresh ? missing : [...missing, ...this.wanted];
    this.ask();
  }
  when(row, act) {
    if (this.known.has(row)) return act(this.known.get(row));
    this.waiting.set(row, [...(this.waiting.get(row) || []), act]);
    if (!this.wanted.includes(row)) this.wanted.unshift(row);
    this.ask();
  }
  now(row, act) {      // what the pointer is on does not wait for others
    if (this.known.has(row)) return act(this.known.get(row));
    this.waiting.set(row, [...(this.waiting.get(row) || []), act]);
    this.model.send({ type: 'thumbs', rows: [row] });
  }
  ask() {
    if (this.flying) return;
    const rows = this.wanted.splice(0, this.few).filter(row => !this.known.has(row));
    if (!rows.length) return;
    this.flying = rows.length;
    clearTimeout(this.late);
    this.late = setTimeout(() => { this.flying = 0; this.ask(); }, 8000);      // a busy kernel is asked again
    this.model.send({ type: 'thumbs', rows });
  }
  learn(rows, names, buffers) {
    rows.forEach((row, n) => {
      if (this.known.has(row)) return;
      const url = typeof buffers[n] === 'string' ? buffers[n] : buffers[n]?.byteLength ? URL.createObjectURL(new Blob([buffers[n]], { type: 'image/jpeg' })) : '';
      this.known.set(row, { url, lines: names[n] });
      for (const act of this.waiting.get(row) || []) act(this.known.get(row));
      this.waiting.delete(row);
    });
    while (this.known.size > this.most) {
      const [row, { url }] = this.known.entries().next().value;
      URL.revokeObjectURL(url);
      this.known.delete(row);
    }
    this.flying = 0;
    this.changed?.();
    this.ask();
  }
  close() { for (const { url } of this.known.values()) URL.revokeObjectURL(url); }
}
