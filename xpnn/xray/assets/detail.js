// What one layer does at a moment: its equations, and the arrays that they are about.

const PHASES = [['forward', 'Forward'], ['backward', 'Backward'], ['update', 'Update']];

function numbered(symbol, k, count) {
  return count > 1 ? symbol + String.fromCharCode(0x2081 + k) : symbol;
}

/** Figures to show: [array, { symbol, words, role }] of a layer in one phase. */
function figuresOf(layer, phase, state) {
  const record = state.step.layers[layer.name];
  const activation = state.step.layers[`${layer.name}.activation`];
  if (phase === 'update') return updateFigures(record);
  const [input, output] = namesOf(layer);
  return phase === 'backward' ? backwardFigures(record, activation, input)
    : forwardFigures(record, activation, input, activation ? 'f(S)' : output);
}

/** What the equations of a layer call its input and its output: those of activations S and Z. */
function namesOf(layer) {
  const isMade = (name) => layer.forward_text.some((line) => name.test(line));
  if (isMade(/^Z(_i|\[.*?\])? = /)) return ['S', 'Z'];
  if (isMade(/^Y = /)) return ['Z', 'Y'];
  return isMade(/^h_t = /) ? ['Z', 'h'] : ['Z', 'S'];
}

function several(arrays, symbol, words, role) {
  return (Array.isArray(arrays) ? arrays : [arrays]).map((array, k, all) =>
    [array, { symbol: numbered(symbol, k, all.length), words, role }]);
}

/** activation: what was seen of the one that the layer ends in, if it has one. */
function forwardFigures(record, activation, input, output) {
  const flow = [...listed(record.inputs), ...listed(record.output)];
  const kept = Object.entries(record.kept).filter(([, array], k, all) =>
    ![...flow, ...all.slice(0, k).map(([, one]) => one)].some((one) => sameNumbers(one, array)));
  return [
    ...several(record.inputs, input, 'comes in', 'input'),
    ...parameters(record),
    ...(activation ? several(activation.inputs[0], 'S', 'before the activation', 'output') : []),
    ...several(record.output, output, 'goes out', 'output'),
    ...kept.map(([name, array]) =>
      [array, { symbol: name, words: 'kept for the way back', role: 'kept' }]),
  ];
}

/** Small layers show besides what they read again of the way forward. */
function backwardFigures(record, activation, input) {
  const read = [...several(record.inputs, input, 'came in', 'input'), ...parameters(record)];
  const isSmall = read.every(([array]) => array.shape.length <= 2 && array.shape.every((one) => one <= SMALL));
  return [
    ...several(record.delta, '\u03b4', 'comes back, dL/d output', 'delta'),
    ...(activation ? several(activation.passed[0], '\u03b4\u209b', 'behind the activation, dL/dS', 'delta') : []),
    ...Object.entries(record.grads).map(([name, array]) =>
      [array, { symbol: `dL/d${symbolOf(name)}`, words: `gradient of ${name}`, role: 'param' }]),
    ...several(record.passed, `dL/d${input}`, 'is handed on', 'delta'),
    ...(isSmall ? read : []),
  ];
}

function updateFigures(record) {
  return Object.keys(record.updates).flatMap((name) => [
    [record.params[name], { symbol: symbolOf(name), words: `${name} before`, role: 'param' }],
    [record.grads[name], { symbol: `dL/d${symbolOf(name)}`, words: `gradient of ${name}`, role: 'param' }],
    [record.updates[name], { symbol: `\u0394${symbolOf(name)}`, words: `update of ${name}`, role: 'param' }],
  ]);
}

const SYMBOLS = { weight: 'W', bias: 'b', recurrent_weight: 'R' };

function symbolOf(name) {
  return SYMBOLS[name] || name;
}

function parameters(record) {
  return Object.entries(record.params).map(([name, array]) =>
    [array, { symbol: symbolOf(name), words: name in SYMBOLS ? name : 'parameter', role: 'param' }]);
}

/** The pane of a layer; acts.phase(phase) goes to another phase of it. */
function drawDetail(place, state, acts) {
  const { moment } = state;
  if (moment.phase === 'loss') {
    drawLoss(place, state);
    return;
  }
  const layer = state.layers.find((one) => one.name === state.chosen);
  const record = state.step.layers[layer.name];
  const buttons = PHASES.map(([phase, words]) => make('button', {
    type: 'button', class: phase, 'aria-pressed': String(moment.phase === phase),
    onclick: () => acts.phase(phase),
  }, words));
  const title = [
    make('div', { class: 'title' }, make('h2', { id: 'detail-title' }, layer.name),
      make('div', { class: 'phases', role: 'group', 'aria-label': 'phase' }, buttons)),
    make('p', { class: 'text' }, make('code', {}, layer.text)),
  ];
  if (!record) {
    place.replaceChildren(...title, make('p', { class: 'note' }, 'It was not run in this step.'));
    return;
  }
  place.replaceChildren(...title, ...equationsOf(layer, moment.phase, state),
    ...figuresIn(place, figuresOf(layer, moment.phase, state), layer, moment.phase, record));
}

function equationsOf(layer, phase, state) {
  if (phase === 'update') return [make('p', { class: 'optimizer' }, 'by ', make('code', {}, state.optimizer))];
  const texts = layer[`${phase}_text`];
  if (!texts.length) return [];
  const lines = texts.map((text, k) => make('li', {}, equation(layer[phase][k], text)));
  return [make('ul', { class: `equations ${phase}`, tabindex: 0 }, lines)];
}

function figuresIn(place, figures, layer, phase, record) {
  const present = figures.filter(([array]) => array);
  const width = Math.max(200, place.clientWidth - 40);
  const batch = listed(record.inputs)[0]?.shape[0];
  const line = make('output', { class: 'sum' });
  const shown = [];
  for (const [array, about] of present) {
    const key = `${layer.name} ${phase} ${about.symbol} ${about.words}`;
    const drawn = figure(array, { ...about, kind: layer.kind, batch, key }, width,
      (...pointed) => relating(layer, phase, about.symbol, shown, record, line)(...pointed));
    shown.push({ symbol: about.symbol, array, drawn });
  }
  const words = {
    forward: 'Nothing was kept.', update: 'It has no parameters that are trained.',
    backward: 'Nothing is handed on from here.',
  }[phase];
  const isNoted = !present.length || (phase === 'backward' && present.length < figures.length);
  return [
    make('div', { class: 'figures' }, shown.map((one) => one.drawn)),
    layer.kind === 'Dense' && phase !== 'update' ? line : '',
    isNoted ? make('p', { class: 'note' }, words) : '',
  ];
}

function drawLoss(place, state) {
  const last = lastLayers(state.layers);
  const figures = last.flatMap((layer) => {
    const record = state.step.layers[layer.name];
    return record ? [
      ...several(record.output, 'S', `output of ${layer.name}`, 'output'),
      ...several(record.delta, '\u03b4', `dL/d output of ${layer.name}, where backward begins`, 'delta'),
    ] : [];
  });
  const targets = several(state.step.targets, 'y', 'targets', 'output');
  place.replaceChildren(
    make('div', { class: 'title' }, make('h2', { id: 'detail-title' }, `loss ${short(state.step.loss, 6)}`)),
    make('p', { class: 'text' }, make('code', {}, state.lossName), ' compares outputs and targets'),
    ...figuresIn(place, [...figures, ...targets], { name: 'loss', kind: '', forward_text: [] }, 'forward',
      { inputs: [] }),
  );
}

function lastLayers(layers) {
  const top = childrenOf(layers, null);
  const read = new Set(top.flatMap((layer) => layer.from));
  return top.filter((layer) => !read.has(layer.name));
}
