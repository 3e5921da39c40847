import { element } from '../elements.js';
import { button, choice } from './base.js';

const HOLD = 350, FIRM = 4, CALM = 400;      // milliseconds after which a key counts as held; pixels after which a press is a drag; see update

// Which two maps are compared, where the divider stands, which of them is seen. All pairs of a page follow at once; the kernel hears
// of it when the pointer or the key is released.
export class Wipe {
  constructor(bench) { this.bench = bench; this.touched = -CALM; this.apply(0.5, 'both'); }
  update() {      // what the kernel says counts, but not while the hand moves on: an answer to the last key must not undo the next one
    const { wipe } = this.bench.state, wait = this.touched + CALM - performance.now();
    clearTimeout(this.later);
    if (wait > 0) this.later = setTimeout(() => this.update(), wait);
    else if (!this.held && this.pressed === undefined) this.apply(wipe.at, wipe.show);
  }
  ask(name, options) { this.touched = performance.now(); this.bench.ask(name, options); }
  apply(at, show) {
    const { root } = this.bench;
    this.at = Math.min(1, Math.max(0, at)); this.show = show;
    root.style.setProperty('--wipe', this.at);
    root.dataset.wipe = show;
    for (const rod of root.querySelectorAll('.wb-rod')) rod.setAttribute('aria-valuenow', Math.round(100 * this.at));
  }
  move(at) { this.apply(at, 'both'); }
  settle() { this.ask('drag', { at: this.at }); }
  step(by) { this.move(this.at + by); this.settle(); }
  flick(show) { this.apply(this.at, show); this.ask('flicker', { show }); }
  press(key, again) {      // b: tapped, the other map; held, the other one as long as it is held
    const act = { b: () => {
      if (again) return;
      this.pressed = this.show; this.since = performance.now();
      this.flick(this.show === 'left' ? 'right' : 'left');
    }, h: () => this.flick('both'), ',': () => this.step(-0.05), '.': () => this.step(0.05), p: () => this.bench.ask('enlarge') }[key];
    if (!act || !this.bench.state.wipe.names.length) return false;
    act();
    return true;
  }
  release(key) {
    if (key !== 'b' || this.pressed === undefined) return;
    if (performance.now() - this.since > HOLD) this.flick(this.pressed);
    this.pressed = undefined;
  }
}

// Two pictures over one another; the left one is cut off at the divider.
export class Pair {
  constructor(bench, parent, anywhere) {      // anywhere: the whole picture drags the divider, not the rod alone
    this.bench = bench; this.kept = ['', ''];
    this.host = element('div', 'wb-pair', parent);
    this.images = ['right', 'left'].map(side => element('img', `wb-${side}`, this.host)).reverse();
    this.tags = ['left', 'right'].map(side => element('span', `wb-tag wb-tag-${side}`, this.host));
    this.rod = element('div', 'wb-rod', this.host);
    this.rod.tabIndex = 0;
    for (const [name, value] of Object.entries({ role: 'slider', 'aria-label': 'Divider between two maps', 'aria-valuemin': 0, 'aria-valuemax': 100 })) this.rod.setAttribute(name, value);
    for (const img of this.images) { img.draggable = false; img.alt = ''; }
    this.listen(anywhere ? this.host : this.rod);
  }
  listen(grip) {
    const { wipe } = this.bench, at = event => { const box = this.host.getBoundingClientRect(); return (event.clientX - box.left) / box.width; };
    grip.onpointerdown = event => {
      if (event.button) return;
      grip.setPointerCapture(event.pointerId);
      this.from = event.clientX;
      wipe.held = event.target === this.rod;
      event.preventDefault(); event.stopPropagation();
    };
    grip.onpointermove = event => {
      if (this.from === undefined) return;
      wipe.held ||= Math.abs(event.clientX - this.from) > FIRM;
      if (wipe.held) wipe.move(at(event));
    };
    grip.onpointerup = grip.onpointercancel = () => {
      if (this.from !== undefined && wipe.held) wipe.settle();
      this.from = undefined; wipe.held = false;
    };
    this.rod.onkeydown = event => {
      const by = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
      if (by) { wipe.step(by); event.preventDefault(); event.stopPropagation(); }
    };
  }
  show(pictures) {      // in place, when both are ready: nothing jumps or goes blank
    const urls = pictures.map(content => URL.createObjectURL(new Blob([content], { type: 'image/jpeg' })));
    const turn = this.turn = (this.turn || 0) + 1;
    Promise.all(urls.map(url => { const img = new Image(); img.src = url; return img.decode().catch(() => {}); })).then(() => {
      if (turn !== this.turn) return urls.forEach(url => URL.revokeObjectURL(url));
      this.images.forEach((img, n) => { img.src = urls[n]; });
      this.clear();
      this.kept = urls;
      this.host.dataset.turn = turn;
    });
  }
  name() {      // whose maps these are
    const { left, right } = this.bench.state.wipe;
    this.tags[0].textContent = left; this.tags[1].textContent = right;
    this.host.title = `${left} | ${right}: drag the divider; b flickers`;
    this.rod.setAttribute('aria-valuenow', Math.round(100 * this.bench.wipe.at));
  }
  clear() { for (const url of this.kept) if (url) URL.revokeObjectURL(url); this.kept = []; }
}

// The column of pinned maps: what is compared, numbers, then a pair for each picture.
export class PinsView {
  constructor(bench, parent) {
    this.bench = bench; this.made = [];
    this.host = element('section', 'wb-pins', parent);
    this.host.setAttribute('aria-label', 'Pinned maps');
    this.sides = {};
    this.head = element('div', 'wb-compare', this.host);
  }
  buildHead(names) {
    this.head.replaceChildren();
    this.names = names.join('\n');
    if (!names.length) return;
    const options = Object.fromEntries(names.map(name => [name, name]));
    for (const side of ['left', 'right']) this.sides[side] = choice(this.head, side, options, name => this.bench.ask('compare', { [side]: name }));
    const tools = element('div', 'wb-compare-tools', this.head), { wipe } = this.bench;
    button(tools, 'Flicker', 'The other map, whole (b; hold it, or tap it)', () => wipe.flick(wipe.show === 'left' ? 'right' : 'left'), '', true);
    button(tools, 'Both', 'Both, with the divider (h)', () => wipe.flick('both'), '', true);
    button(tools, '⤢', 'Enlarge (p)', () => this.bench.ask('enlarge'), 'wb-tool').setAttribute('aria-label', 'Enlarge');
  }
  update(changed) {
    const { state, pins, root } = this.bench;
    if (state.wipe.names.join('\n') !== this.names) this.buildHead(state.wipe.names);
    for (const side in this.sides) this.sides[side].value = state.wipe[side];
    for (const { pair } of this.made) pair?.name();
    if (!changed.has('pins')) return;
    root.classList.toggle('wb-pinned', pins.length > 0);
    const kinds = pins.map(pin => (pin.pair ? 'pair' : pin.picture ? 'picture' : 'words')).join();
    if (kinds !== this.kinds) this.build(pins);
    this.kinds = kinds;
    pins.forEach((pin, n) => this.fill(this.made[n], pin));
  }
  build(pins) {
    for (const { figure, pair } of this.made) { pair?.clear(); figure.remove(); }
    this.made = pins.map(pin => {
      const figure = element('figure', '', this.host), pair = pin.pair && new Pair(this.bench, figure, true);
      pair?.name();
      if (pair) pair.host.ondblclick = () => this.bench.ask('enlarge', { id: figure.dataset.id });
      const img = pin.picture && element('img', '', figure), text = element('figcaption', '', figure);
      return { figure, pair, img, title: element('b', '', text), note: element('span', '', text) };
    });
  }
  fill({ figure, pair, img, title, note }, pin) {
    figure.dataset.id = pin.id || '';
    title.textContent = pin.title; note.textContent = pin.note;
    pair?.show(pin.pair);
    if (!img) return;
    const url = URL.createObjectURL(new Blob([pin.picture]));
    img.onload = () => URL.revokeObjectURL(url);
    img.src = url; img.alt = `${pin.title}: ${pin.note}`;
  }
  close() { for (const { pair } of this.made) pair?.clear(); }
}
