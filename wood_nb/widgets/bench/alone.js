import { render } from './main.js';

// The page without a kernel: whatever may be asked for lies in the page. It shows, and decides nothing.
const data = JSON.parse(document.getElementById('data').textContent);
const unpacked = text => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
const numbers = (text, Kind) => new Kind(unpacked(text).buffer);

class Alone {
  constructor() {
    this.heard = {}; this.chosen = new Set(); this.values = { ...data.values };
    for (const name of data.bytes) this.values[name] = unpacked(data.values[name]);
    this.orders = Object.fromEntries(Object.entries(data.orders).map(([name, text]) => [name, numbers(text, Uint32Array)]));
    this.xy = numbers(data.values.xy, Float32Array); this.clusters = numbers(data.values.clusters, Uint16Array); this.flags = numbers(data.values.flags, Uint8Array);
    this.values.state.sort = this.orders[this.values.state.sort] ? this.values.state.sort : 'typical';
    this.values.state.message = '';
    this.labels = numbers(data.values.labels, Uint16Array);
    this.choose(this.all(row => this.flags[row] & 1));
  }
  get(name) { return this.values[name]; }
  on(event, act) { (this.heard[event] ||= []).push(act); }
  off() {}
  put(values) {
    Object.assign(this.values, values);
    for (const name of Object.keys(values)) for (const act of this.heard[`change:${name}`] || []) act();
  }
  send({ type, rows, action, how }) {
    const answer = () => this.heard['msg:custom'].forEach(act => act({ type, rows, names: rows.map(row => data.names[row]) }, rows.map(row => data.thumbs[row] || '')));
    if (type === 'thumbs') setTimeout(answer);
    if (type === 'do' && Alone.KNOWN.includes(action)) this[action](how);
  }
  all(test) { return Array.from(this.clusters.keys()).filter(test); }

  // -- what may be asked for --
  static KNOWN = ['select', 'lasso', 'box', 'entry', 'select_all', 'clear', 'go', 'step_cluster', 'move', 'mark', 'set', 'sort'];
  select({ rows, how }) { this.choose(rows, how); }
  lasso({ outline, how }) { this.choose(this.all(row => inside(outline, this.xy[2 * row], this.xy[2 * row + 1])), how); }
  box({ corners: [a, b, c, d], how }) {
    const between = (x, one, other) => x >= Math.min(one, other) && x <= Math.max(one, other);
    this.choose(this.all(row => between(this.xy[2 * row], a, c) && between(this.xy[2 * row + 1], b, d)), how);
  }
  entry({ label, how }) { this.choose(this.all(row => this.labels[row] === label), how); }
  select_all() { this.choose(this.all(() => true)); }
  clear() { this.choose([]); }
  go({ cluster, how = 'set' }) {
    const { place } = this.values.cards.find(card => card.id === cluster);
    this.choose(this.all(row => this.clusters[row] === place), how, how === 'set' ? cluster : null);
  }
  step_cluster({ by }) {
    const ids = this.values.cards.map(card => card.id), at = ids.indexOf(this.values.state.focus);
    if (ids.length) this.go({ cluster: ids.at(at < 0 ? Math.min(0, by) : (at + by) % ids.length) });
  }
  move({ by }) { const { order } = this; this.tell({ cursor: order[Math.min(Math.max(0, this.values.state.place + by), order.length - 1)] }); }
  mark({ row }) { if (row >= 0) this.tell({ cursor: row }); }
  sort({ sort }) { if (this.orders[sort]) this.tell({ sort }); }
  set({ name, value }) {
    if (name !== 'colour') return;
    this.labels = numbers(data.labels[value], Uint16Array);
    this.put({ labels: unpacked(data.labels[value]), legend: data.legends[value] });
    this.tell({ colour: value });
  }
  choose(rows, how = 'set', focus = null) {
    if (how === 'set') this.chosen = new Set();
    for (const row of rows) if (how === 'remove' || how === 'toggle' && this.chosen.has(row)) this.chosen.delete(row); else this.chosen.add(row);
    this.tell({ focus, selected: this.chosen.size });
  }
  tell(changes) {
    const { chosen } = this, state = { ...this.values.state, ...changes };
    this.order = this.orders[state.sort].filter(row => !(this.flags[row] & 2) && (!chosen.size || chosen.has(row)));      // nor does the filter show the others
    if (!this.order.includes(state.cursor)) state.cursor = this.order[0] ?? -1;
    const flags = this.flags.map((flag, row) => (flag & ~5) | chosen.has(row));
    Object.assign(state, { shown: this.order.length, place: this.order.indexOf(state.cursor), targets: 0, marked: 0, words: '', viewer: -1, unmeasured: 0 });
    this.put({ state, flags: new DataView(flags.buffer), order: new DataView(new Uint32Array(this.order).buffer) });
  }
}

const inside = (outline, x, y) => {      // how often a ray to the right crosses the line
  let odd = false;
  outline.forEach(([ax, ay], n) => {
    const [bx, by] = outline[(n || outline.length) - 1];
    if ((ay > y) !== (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax) odd = !odd;
  });
  return odd;
};

render({ model: new Alone(), el: document.getElementById('bench') });
