// The map without a kernel: everything it may ask for lies in the page.
const data = JSON.parse(document.getElementById('data').textContent);
const raw = text => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
const state = {
  xy: raw(data.xy), kind: raw(data.kind), names: data.names, label: data.label,
  flags: new DataView(new ArrayBuffer(data.n)),
};
const sheet = new Image();
const shot = i => {
  if (i >= data.drawn) return '';
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = data.shot;
  canvas.getContext('2d').drawImage(sheet, (i % data.columns) * data.side, Math.floor(i / data.columns) * data.side,
    data.shot, data.shot, 0, 0, data.shot, data.shot);
  return canvas.toDataURL('image/jpeg');
};
const chosen = document.getElementById('chosen');
const tell = rows => {
  chosen.replaceChildren();
  element('h2', '', chosen, rows.length ? `${rows.length} selected` : 'Draw a lasso, or click a point or the legend');
  const box = element('div', '', chosen);
  for (const i of rows.slice(0, 120)) {
    const figure = element('figure', '', box), picture = element('img', '', figure);
    picture.src = shot(i); picture.alt = '';
    element('figcaption', '', figure, data.lines[i][0]).title = data.lines[i].join('\n');
  }
  if (rows.length > 120) element('p', '', chosen, `and ${rows.length - 120} more`);
};
let map;
const model = {
  get: name => state[name],
  send: (message, _, buffers) => {
    if (message.type === 'hover') map.know(message.index, data.lines[message.index], shot(message.index));
    if (message.type === 'select') tell([...new Uint32Array(buffers[0])]);
  },
};
const colour = name => {
  state.colour = raw(data.colours[name].index);
  state.legend = data.colours[name].legend;
  if (map) { map.forget(); map.recolour(); }
};
const host = document.getElementById('map');
const label = element('label', '', host, 'colour by ');
const box = element('select', '', label);
for (const name of Object.keys(data.colours)) element('option', '', box, name).value = name;
box.value = data.first;
box.onchange = () => colour(box.value);
colour(data.first);
sheet.src = data.sheet;
map = new PictureMap(model, host);
tell([]);
