import { element } from '../elements.js';
import { alongWheel, button, choice, badge, whole } from './base.js';

// The clusters in a line: colour and shape of the map, size, decisions, nearest class, value. A click selects.
export class StripView {
  constructor(bench, parent) {
    this.bench = bench; this.cards = new Map();
    this.host = element('section', 'wb-strip', parent);
    this.host.setAttribute('aria-label', 'Clusters');
    const head = element('div', 'wb-head', this.host), { options, ask } = bench;
    this.count = element('b', '', head);
    this.orderBox = choice(head, 'order', options.strip, value => ask('set', { name: 'strip', value }));
    button(head, '◀', 'Cluster before ([)', () => ask('step_cluster', { by: -1 }), 'wb-tool').setAttribute('aria-label', 'Cluster before');
    button(head, '▶', 'Next cluster (])', () => ask('step_cluster', { by: 1 }), 'wb-tool').setAttribute('aria-label', 'Next cluster');
    this.own = [button(head, 'Rename', 'Name the cluster chosen (n)', () => this.rename()),
                button(head, 'Split', 'K-means within the cluster chosen: two parts (x)', () => ask('split')),
                button(head, 'Merge', 'Then click the cluster that the one chosen takes in (m)', () => this.merge())];
    this.hint = element('span', 'wb-dim', head);
    this.line = element('div', 'wb-cards', this.host);
    alongWheel(this.line);
  }
  update(changed) {
    const { cards, state } = this.bench;
    this.orderBox.value = state.strip;
    for (const made of this.own) made.disabled = state.focus === null;
    if (changed.has('cards') || changed.has('theme')) this.fill(cards);
    this.count.textContent = `${cards.length} clusters`;
    if (state.focus !== this.focused) {
      this.focused = state.focus;
      for (const [id, { host }] of this.cards) host.setAttribute('aria-pressed', id === state.focus);
      const host = this.cards.get(state.focus)?.host;
      if (host) this.line.scrollLeft = Math.min(Math.max(this.line.scrollLeft, host.offsetLeft + host.offsetWidth - this.line.clientWidth + 30), host.offsetLeft - 30);
    }
  }
  fill(cards) {
    const known = new Set(cards.map(card => card.id));
    for (const [id, { host }] of this.cards) if (!known.has(id)) { host.remove(); this.cards.delete(id); }
    cards.forEach((card, n) => {
      if (!this.cards.has(card.id)) this.cards.set(card.id, this.make(card.id));
      const made = this.cards.get(card.id);
      if (this.line.children[n] !== made.host) this.line.insertBefore(made.host, this.line.children[n] || null);
      const words = JSON.stringify([card, this.bench.inks.dark, this.bench.state.value_name]);
      if (made.words !== words) { made.words = words; this.draw(made, card); }
    });
  }
  make(id) {
    const host = element('button', 'wb-card');
    host.type = 'button'; host.dataset.cluster = id;
    host.setAttribute('aria-pressed', id === this.bench.state.focus);
    host.onclick = event => this.pick(id, event);
    return { host, words: '' };
  }
  draw(made, card) {
    const { bench } = this, colour = bench.inks.of(card.colour);
    made.host.replaceChildren();
    made.host.style.setProperty('--mark', colour);
    const faces = element('span', 'wb-faces', made.host), text = element('span', 'wb-card-text', made.host);
    for (const row of card.faces) {
      const img = element('img', '', faces);
      img.alt = '';
      bench.thumbs.when(row, ({ url }) => { img.src = url; });
    }
    const name = element('span', 'wb-card-name', text);
    badge(name, card.shape, colour, 13);
    element('b', '', name, card.name);
    element('span', 'wb-dim', text, `${whole(card.size)} pictures`);
    element('span', 'wb-dim', text, `near ${card.near}${card.away === null ? '' : ` (${card.away.toFixed(1)})`}`);
    const line = element('span', 'wb-card-foot', text);
    if (card.value !== null) element('span', 'wb-value', line, `${card.value > 0 ? '+' : ''}${card.value.toFixed(1)}`).title = bench.state.value_name;
    const bar = element('span', 'wb-decided', line);
    for (const decision of ['keep', 'drop', 'undecided']) if (card[decision]) element('i', `wb-${decision}`, bar).style.flex = card[decision];
    const said = `${card.name}: ${card.size} pictures, ${card.keep} kept, ${card.drop} dropped, ${card.undecided} undecided, nearest class ${card.near}`;
    const worth = card.value === null ? '' : `, ${bench.state.value_name} ${card.value.toFixed(2)}`;
    made.host.title = said + worth;
    made.host.setAttribute('aria-label', said + worth);
  }
  pick(id, event) {
    const { ask, state } = this.bench;
    if (this.merging !== undefined) {
      const into = this.merging;
      this.stopMerge();
      if (id !== into && into === state.focus) ask('merge', { others: [id] });
      return;
    }
    this.bench.timing = ['clusterMs', performance.now()];
    ask('go', { cluster: id, how: event.shiftKey ? 'add' : event.altKey ? 'remove' : 'set' });
  }
  merge() {
    const { state, cards } = this.bench, here = cards.find(card => card.id === state.focus);
    if (!here) return this.bench.say('no cluster is chosen: click one in the strip, or press ]');
    this.merging = here.id;
    this.hint.textContent = `click the cluster that ${here.name} takes in; Escape: none`;
    this.host.classList.add('wb-merging');
    this.cards.get(here.id).host.focus({ preventScroll: true });
  }
  stopMerge() {
    if (this.merging === undefined) return false;
    this.merging = undefined;
    this.hint.textContent = '';
    this.host.classList.remove('wb-merging');
    return true;
  }
  rename() {
    const { state, cards, ask } = this.bench, card = cards.find(one => one.id === state.focus);
    if (!card) return this.bench.say('no cluster is chosen: click one in the strip, or press ]');
    const box = element('input', 'wb-rename'), name = this.cards.get(card.id).host.querySelector('.wb-card-name');
    box.value = card.name;
    box.setAttribute('aria-label', 'Name of the cluster');
    let done = false;
    const finish = keep => {
      if (done) return;
      done = true;
      box.remove(); name.style.visibility = '';
      if (keep && box.value.trim() && box.value !== card.name) ask('rename', { name: box.value });
      this.bench.root.focus({ preventScroll: true });
    };
    box.onkeydown = event => { if (event.key === 'Enter') finish(true); else if (event.key === 'Escape') finish(false); event.stopPropagation(); };
    box.onblur = () => finish(true);
    const host = this.cards.get(card.id).host.getBoundingClientRect(), home = this.host.getBoundingClientRect();
    box.style.left = `${Math.max(4, host.left - home.left)}px`; box.style.top = `${host.top - home.top + 4}px`;
    this.host.append(box);
    box.focus(); box.select();
  }
}
