import { element } from '../elements.js';
import { button, choice, badge, whole } from './base.js';

const SIDES = [100, 136, 208], FOOT = 21, GAP = 8, AHEAD = 2;      // pixels; screens of pictures that are fetched beyond what is in view
const SIGNS = ['✓', '✕', ''], WORDS = ['keep', 'drop', 'undecided'];

// Pictures of the selection. Only what is in view exists: ten thousand scroll as ten do.
export class GridView {
  constructor(bench, parent) {
    this.bench = bench; this.cells = new Map(); this.free = []; this.size = 1;
    this.head = element('div', 'wb-head', parent);
    this.buildHead(this.head);
    this.box = element('div', 'wb-grid', parent);
    this.box.tabIndex = 0;
    this.box.setAttribute('role', 'listbox');
    this.box.setAttribute('aria-multiselectable', 'true');
    this.box.setAttribute('aria-label', 'Pictures selected. Arrows move, Enter marks, space enlarges, k keeps, d drops, u makes undecided');
    this.room = element('div', 'wb-room', this.box);
    this.none = element('p', 'wb-none', this.box, 'Nothing passes the filter.');
    this.box.onscroll = () => this.draw();
    this.watch = new ResizeObserver(() => this.lay());
    this.watch.observe(this.box);
  }
  buildHead(head) {
    const { options, ask } = this.bench;
    this.filter = element('input', 'wb-filter', head);
    this.filter.placeholder = 'filter: class:train -is:drop p>0.9   ( / )';
    this.filter.setAttribute('aria-label', `Filter: ${options.filters}`);
    this.filter.title = `A word is part of a name, or one of ${options.filters}`;
    this.filter.oninput = () => {
      clearTimeout(this.typed);
      this.typed = setTimeout(() => this.sendFilter(), 180);
    };
    this.sortBox = choice(head, 'sort', options.sorts, sort => { this.toTop = true; ask('sort', { sort }); });
    this.rest = button(head, '', 'Keep what is undecided among the pictures in view, and go on (r)', () => this.keepRest(), 'wb-rest');
    button(head, '⊞', 'Size of the pictures (i)', () => this.resize(), 'wb-tool').setAttribute('aria-label', 'Size of the pictures');
  }
  sendFilter() {
    clearTimeout(this.typed);
    if (this.filter.value === (this.sent ?? this.bench.state.words)) return;
    this.sent = this.filter.value;
    this.bench.ask('filter', { words: this.sent });
  }
  resize() { this.size = (this.size + 1) % SIDES.length; this.lay(); this.follow(); }

  // -- from the kernel --
  update(changed) {
    const { state } = this.bench;
    if (document.activeElement !== this.filter) this.filter.value = state.words;
    this.sent = undefined;
    this.sortBox.value = state.sort;
    this.none.style.display = state.shown ? 'none' : '';
    if (changed.has('order')) {
      if (this.bench.state.place <= 0) this.toTop = true;
      this.lay();
    }
    if (this.toTop) { this.box.scrollTop = 0; this.toTop = false; }
    if (state.place !== this.placed || changed.has('order')) { this.placed = state.place; this.follow(); }
    if (this.next !== undefined && changed.has('flags')) {      // what was looked at has been kept: the next ones come to the top
      if (!changed.has('order')) this.box.scrollTop = Math.floor(this.next / this.columns) * (this.high + GAP);
      this.next = undefined;
    }
    this.draw(true);
  }
  get side() { return SIDES[this.size]; }
  lay() {      // how many columns fit, and how high all of it is
    const width = this.box.clientWidth - 2 * GAP;
    if (width < 40 || this.box.clientHeight < 40) return;      // as while the theme changes
    this.height = this.box.clientHeight;
    this.columns = Math.max(1, Math.floor((width + GAP) / (this.side + GAP)));
    this.wide = Math.floor((width + GAP) / this.columns) - GAP;
    this.high = Math.round(this.wide * 0.86) + FOOT;
    this.rows = Math.ceil(this.bench.order.length / this.columns);
    this.room.style.height = `${this.rows * (this.high + GAP) + GAP}px`;
    this.draw(true);
  }
  follow() {      // the cursor into view
    const { place } = this.bench.state;
    if (place < 0 || !this.columns) return;
    const top = Math.floor(place / this.columns) * (this.high + GAP), under = top + this.high + 2 * GAP;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (under > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = under - this.box.clientHeight;
  }
  span() {      // places in view, with a line more on each side
    const line = this.high + GAP, first = Math.max(0, Math.floor(this.box.scrollTop / line) - 1);
    const last = Math.ceil((this.box.scrollTop + this.height) / line) + 1;
    return [first * this.columns, Math.min(this.bench.order.length, last * this.columns)];
  }
  draw(all = false) {
    if (!this.columns) return;
    const [first, last] = this.span(), { order } = this.bench;
    for (const [place, cell] of this.cells) if (place < first || place >= last) { cell.host.style.display = 'none'; this.free.push(cell); this.cells.delete(place); }
    for (let place = first; place < last; place++) {
      let cell = this.cells.get(place);
      if (cell && !all) continue;
      if (!cell) { cell = this.free.pop() || this.make(); this.cells.set(place, cell); }
      this.fill(cell, place, order[place]);
    }
    this.box.setAttribute('aria-activedescendant', this.cells.get(this.bench.state.place)?.host.id || '');
    const ahead = AHEAD * (last - first);
    this.countRest();
    this.bench.thumbs.want([...order.slice(first, last), ...order.slice(last, last + ahead), ...this.bench.faceRows(), ...order.slice(Math.max(0, first - ahead), first)]);
  }
  inView() {      // places wholly in view: [first, count]
    const line = this.high + GAP, top = Math.max(0, Math.ceil((this.box.scrollTop - GAP - 2) / line));
    const under = Math.max(top + 1, Math.floor((this.box.scrollTop + this.box.clientHeight + 2) / line));
    return [top * this.columns, (under - top) * this.columns];
  }
  countRest() {
    const [first, count] = this.inView(), { order, flags } = this.bench, left = Array.from(order.slice(first, first + count)).filter(row => ((flags[row] >> 3) & 3) === 2);
    this.rest.textContent = left.length ? `Keep the rest ${left.length}` : 'Keep the rest';
    this.rest.disabled = !left.length;
  }
  keepRest() {
    const [first, count] = this.inView();
    this.bench.ask('keep_rest', { first, count });
    if (this.bench.state.advance) this.next = first + count;
  }
  make() {
    const host = element('div', 'wb-cell', this.room);
    host.id = `${this.bench.id}-${this.room.children.length}`;
    host.setAttribute('role', 'option');
    const cell = { host, img: element('img', '', host), sign: element('span', 'wb-sign', host), foot: element('span', 'wb-foot', host) };
    cell.img.alt = ''; cell.img.draggable = false;
    host.onclick = event => {
      this.box.focus({ preventScroll: true });
      if (event.detail > 1) return;
      this.bench.ask('click', { row: cell.row, how: event.shiftKey ? 'range' : 'toggle' });
    };
    host.ondblclick = () => { this.bench.ask('click', { row: cell.row, how: 'back' }); this.bench.ask('show', { row: cell.row }); };
    host.onpointerenter = () => this.bench.light(cell.row, true);
    host.onpointerleave = () => this.bench.light(-1, true);
    return cell;
  }
  fill(cell, place, row) {
    const { bench } = this, { host, img, sign, foot } = cell, flags = bench.flags[row], decision = (flags >> 3) & 3;
    const line = Math.floor(place / this.columns), mark = bench.mark(row), found = bench.thumbs.get(row), url = found?.url || '';
    const marked = (flags & 4) > 0, at = place === bench.state.place, words = [place, row, flags, this.wide, this.columns, url, mark.colour, bench.inks.dark, at].join();
    if (cell.words === words && host.style.display === '') return;
    cell.words = words; cell.row = row;
    host.style.cssText = `transform:translate(${GAP + (place % this.columns) * (this.wide + GAP)}px,${GAP + line * (this.high + GAP)}px);` +
      `width:${this.wide}px;height:${this.high}px;--mark:${bench.inks.of(mark.colour)}`;
    host.className = `wb-cell wb-is-${WORDS[decision]}${marked ? ' wb-marked' : ''}${at ? ' wb-cursor' : ''}`;
    host.dataset.row = row; host.dataset.place = place;
    host.setAttribute('aria-selected', marked);
    if (cell.url !== url) { cell.url = url; if (url) img.src = url; else img.removeAttribute('src'); }
    sign.textContent = SIGNS[decision];
    foot.replaceChildren();
    badge(foot, mark.shape, bench.inks.of(mark.colour), 11);
    const double = flags & 64 ? '! ' : flags & 32 ? '= ' : '';
    element('span', '', foot, `${double}${bench.classes[bench.predicted[row]]} ${bench.p[row].toFixed(2)}`);
    host.title = bench.lines(row, found?.lines).join('\n');
    host.setAttribute('aria-label', bench.lines(row, found?.lines).join(', '));
  }
  arrived() { if (this.columns) for (const [place, cell] of this.cells) if (!cell.url) this.fill(cell, place, this.bench.order[place]); }
  page() { return this.columns * Math.max(1, Math.floor(this.box.clientHeight / (this.high + GAP))); }
  steps() { return { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -this.page(), PageDown: this.page(), Home: -1e9, End: 1e9 }; }
  close() { this.watch.disconnect(); }
}
