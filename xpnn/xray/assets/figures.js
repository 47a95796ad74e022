// One array as a figure: its name, its map, the number that is pointed at, statistics, a table.

const ZOOMS = 5;
const settings = new Map(); // what was chosen for a figure, by its key, from layer to layer

/**
 * A figure of an array.
 *
 * about: { key, symbol, words, role, kind, batch }; onpoint(index, value) is told what is pointed
 * at, by the index in the whole array, and onpoint(null) when nothing is.
 */
function figure(array, about, width, onpoint = () => {}) {
  const view = viewOf(array, about.role, about.kind, about.batch);
  const isImage = Boolean(view.isImage);
  const chosen = settings.get(about.key) || { zoom: 0, fixed: [], grey: isImage };
  settings.set(about.key, chosen);
  view.fixed.forEach((axis, k) => {
    chosen.fixed[k] = Math.min(chosen.fixed[k] || 0, array.shown[axis] - 1);
  });
  const label = `${about.words}, ${shapeInWords(array.shape)}`;
  const readout = make('output', { class: 'readout' }, '\u00a0');
  const body = make('div', { class: 'body' });
  const made = make('figure', { class: 'map' },
    make('figcaption', {}, make('span', { class: 'symbol' }, about.symbol), ' ', about.words,
      make('span', { class: 'shape' }, ` ${shapeInWords(array.shape)}`)),
    body, readout, make('p', { class: 'statistics' }, statistics(array)),
    warning(array) && make('p', { class: 'bad' }, warning(array)),
    isThinned(array) && make('p', { class: 'note' }, thinnedInWords(array)));

  const draw = () => {
    const maps = cut(array, view, chosen.fixed);
    const colour = colouring(array, chosen.grey);
    const tell = (tile, row, col) => {
      if (tile === null) {
        readout.textContent = '\u00a0';
        onpoint(null);
        return;
      }
      const index = indexInWhole(array, maps.place(tile, row, col));
      readout.textContent = `[${index.join(', ')}] = ${exact(maps.value(tile, row, col))}`;
      onpoint(index, maps.value(tile, row, col));
    };
    const small = isSmall(maps);
    const drawn = small ? grid(maps, colour, label, tell)
      : canvasMaps(maps, colour, label, tell, chosen.zoom, width);
    const controls = controlsOf(array, view, maps, chosen, isImage, small, draw);
    const focused = [...body.querySelectorAll('button, input')].indexOf(document.activeElement);
    body.replaceChildren(...controls, make('div', { class: 'scroller' }, drawn),
      legend(array, chosen.grey), ...(small ? [] : [numbersBelow(maps, label)]));
    body.querySelectorAll('button, input')[focused]?.focus();
    made.mark = (ranges) => drawn.mark(ranges && spanOf(array, view, chosen.fixed, ranges));
  };
  draw();
  return made;
}

function controlsOf(array, view, maps, chosen, isImage, small, draw) {
  const choose = (change) => {
    change();
    draw();
  };
  const sliders = view.fixed.filter((axis) => array.shown[axis] > 1).map((axis) => {
    const k = view.fixed.indexOf(axis);
    const now = make('span', {}, String(chosen.fixed[k] * array.stride[axis]));
    const slider = make('input', {
      type: 'range', min: 0, max: array.shown[axis] - 1, value: chosen.fixed[k],
      'aria-label': view.names[axis],
    });
    slider.addEventListener('change', () => {
      choose(() => { chosen.fixed[k] = Number(slider.value); });
    });
    slider.addEventListener('input', () => {
      now.textContent = String(slider.value * array.stride[axis]);
    });
    return make('label', {}, `${view.names[axis]} `, slider, now);
  });
  const zooms = small ? [] : [['Smaller', '\u2212', -1], ['Larger', '+', 1]].map(
    ([words, sign, by]) => make('button', {
      type: 'button', 'aria-label': words, title: words,
      disabled: chosen.zoom + by < 0 || chosen.zoom + by > ZOOMS,
      onclick: () => choose(() => { chosen.zoom += by; }),
    }, sign));
  const grey = isImage && make('label', {}, make('input', {
    type: 'checkbox', checked: chosen.grey,
    onchange: (event) => choose(() => { chosen.grey = event.target.checked; }),
  }), ' grey');
  const all = [...sliders, grey || null, ...zooms].filter((one) => one);
  const axes = view.rows === null || small ? null : make('span', { class: 'axes' },
    `\u2193 ${view.names[view.rows]}  \u2192 ${view.names[view.cols]}` +
    (view.tile === null ? '' : `, a map for each ${view.names[view.tile]}`));
  return all.length || axes ? [make('div', { class: 'controls' }, axes, all)] : [];
}

function thinnedInWords(array) {
  const every = array.stride.map((stride, axis) => (stride > 1 ? `axis ${axis}: 1 of ${stride}` : ''))
    .filter((words) => words).join(', ');
  return `Shown are ${shapeInWords(array.shown)} of them (${every}); the statistics are of all.`;
}

/** The numbers of a canvas as a table, made when it is opened. */
function numbersBelow(maps, label) {
  const details = make('details', {}, make('summary', {}, 'Numbers as a table'));
  details.addEventListener('toggle', () => {
    if (details.open && details.children.length === 1) details.append(plainTable(maps, label));
  });
  return details;
}
