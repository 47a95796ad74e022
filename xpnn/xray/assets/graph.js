// The network as a graph: a button for each layer, lines between them, and in each box a strip of
// what has reached it so far.

/** Draw the graph into a place; reached(name) is the array that a box shows by now, or null. */
function drawGraph(place, state, acts, reached) {
  const laid = layOut(state.layers, state.open, null, state.inputs);
  const board = putAt(make('div', { class: 'board' }), { width: laid.width, height: laid.height });
  drawPart(board, laid, 0, 0, state, acts, reached);
  place.replaceChildren(board);
}

function drawPart(board, laid, left, top, state, acts, reached) {
  const svg = makeSvg('svg', {
    class: 'lines', 'aria-hidden': 'true', width: laid.width, height: laid.height,
  });
  for (const line of laid.lines) {
    const isNow = state.moment.name !== null && (state.moment.phase === 'forward'
      ? line.at(-1).id === state.moment.name : line[0].id === state.moment.name);
    svg.append(makeSvg('path', { d: pathOf(line), class: isNow ? state.moment.phase : '' }));
  }
  board.append(putAt(svg, { left, top }));
  for (const box of laid.boxes) {
    const x = left + box.x - box.width / 2;
    const y = top + box.y;
    const drawn = box.layer ? layerBox(box, state, acts, reached) : endBox(box, state, acts);
    board.append(putAt(drawn, { left: x, top: y, width: box.width, height: box.height }));
    if (box.inner) {
      const inset = (box.width - box.inner.width) / 2;
      drawPart(board, box.inner, x + inset, y + BOX.head, state, acts, reached);
    }
  }
}

function layerBox(box, state, acts, reached) {
  const { layer } = box;
  const isNow = state.moment.name === layer.name;
  const record = state.step.layers[layer.name];
  const isBad = record && badArrays(record).length > 0;
  const isOrigin = isBad && firstBad(state.layers, state.step)?.name === layer.name;
  const classes = ['box', isNow ? `now ${state.moment.phase}` : '', isBad ? 'broken' : '',
    isOrigin ? 'origin' : '', box.inner ? 'opened' : ''].join(' ');
  const choose = make('button', {
    type: 'button', class: 'choose', 'data-layer': layer.name,
    'aria-pressed': String(state.chosen === layer.name), title: layer.text,
    onclick: () => acts.choose(layer.name),
  }, make('span', { class: 'name' }, shortName(layer)), make('span', { class: 'kind' }, layer.kind),
  isBad ? make('span', { class: 'flag' }, isOrigin ? 'NaN began' : 'NaN') : null);
  const array = box.inner ? null : reached(layer.name);
  if (array) choose.append(strip(array));
  const holds = state.layers.some((one) => one.inside === layer.name);
  const toggle = holds ? make('button', {
    type: 'button', class: 'toggle', 'data-toggle': layer.name, 'aria-expanded': String(Boolean(box.inner)),
    'aria-label': `${box.inner ? 'Close' : 'Open'} ${layer.name}`, onclick: () => acts.toggle(layer.name),
  }, box.inner ? '\u2212' : '+') : null;
  return make('div', { class: classes }, choose, toggle);
}

/** The part of a name that the box around it does not say already. */
function shortName({ name, inside }) {
  return inside !== null && name.startsWith(`${inside}.`) ? name.slice(inside.length + 1) : name;
}

function endBox(box, state, acts) {
  if (!box.isLoss) return make('div', { class: 'end', title: box.id }, box.input);
  return make('button', {
    type: 'button', class: `end ${state.moment.phase === 'loss' ? 'now loss' : ''}`,
    onclick: acts.loss, title: 'the loss of this step',
  }, `loss ${short(state.step.loss, 4)}`);
}

const STRIP = { rows: 4, cols: 24, maps: 6 };

/** An array in little: its first rows as a strip of colours, or its first maps side by side. */
function strip(array) {
  const view = viewOf(array, 'output', '', null);
  const maps = cut(array, view, []);
  const isImages = maps.tiles > 1 || Boolean(view.isImage);
  const rows = isImages ? maps.rows : Math.min(STRIP.rows, maps.rows);
  const cols = isImages ? maps.cols : Math.min(STRIP.cols, maps.cols);
  const tiles = isImages ? Math.min(STRIP.maps, maps.tiles) : 1;
  const part = { ...maps, rows, cols, length: Infinity };
  if (!isImages) {
    part.value = (_, row, col) => maps.value(0, row, Math.floor(col * maps.cols / cols));
  }
  const wide = cols + (isImages ? Math.ceil(cols / 12) : 0);
  const canvas = make('canvas', {
    class: isImages ? 'strip images' : 'strip', width: tiles * wide, height: rows,
    'aria-hidden': 'true',
  });
  const context = canvas.getContext('2d');
  for (let tile = 0; tile < tiles; tile++) {
    context.drawImage(mapOf(part, tile, colouring(array)), tile * wide, 0);
  }
  return canvas;
}
