// Where a number comes from: the rows and columns, or the window, that it is made of, lit up; of a
// Dense layer the sum with its numbers put in.

const MOST_TERMS = 12;

/**
 * By the symbol of a figure, what a number with an index is made of: two vectors whose products
 * are summed, and what is added. A part is [symbol, row, column], of which null means all.
 */
const DENSE = {
  'S, forward': ([i, j]) => ({ left: ['Z', i, null], right: ['W', null, j], plus: ['b', null, j] }),
  'dL/dW, backward': ([k, j]) => ({ left: ['Z', null, k], right: ['\u03b4', null, j] }),
  'dL/db, backward': ([j]) => ({ left: ['\u03b4', null, j] }),
  'dL/dZ, backward': ([i, k]) => ({ left: ['\u03b4', i, null], right: ['W', k, null] }),
};

/** A listener for figures: lights up in all of them what a number is made of, and says the sum. */
function relating(layer, phase, symbol, figures, record, line) {
  const rule = layer.kind === 'Dense' && DENSE[`${symbol}, ${phase}`];
  const [input, output] = namesOf(layer);
  const isOutput = (name) => name === output || name === 'f(S)';
  const windows = (phase === 'forward' && record.windows) || [];
  return (index, value) => {
    for (const one of figures) one.drawn.mark(null);
    line.textContent = '';
    if (!index) return;
    if (windows.length && isOutput(symbol)) figures[0].drawn.mark(windowAt(index, windows));
    if (windows.length && symbol === input) {
      for (const one of figures) if (isOutput(one.symbol)) one.drawn.mark(readersOf(index, windows));
    }
    if (rule) line.textContent = lightUp(rule(index), symbol, index, value, figures);
  };
}

/** The ranges of an input, along its axes, that a place of the output is made of. */
function windowAt(index, windows) {
  return rangesAt(index, windows, (at, { size, stride, dilation, low }) => {
    const from = at * stride - low;
    return [Math.max(0, from), from + (size - 1) * dilation + 1];
  });
}

/** The ranges of an output whose windows reach over a place of the input. */
function readersOf(index, windows) {
  return rangesAt(index, windows, (at, { size, stride, dilation, low }) => {
    const from = Math.ceil((at + low - (size - 1) * dilation) / stride);
    return [Math.max(0, from), Math.floor((at + low) / stride) + 1];
  });
}

function rangesAt([sample, ...place], windows, range) {
  return [[sample, sample + 1], ...windows.map((one, axis) => range(place[axis], one)), null];
}

function lightUp(made, symbol, index, value, figures) {
  const find = (name) => figures.find((one) => one.symbol === `${name}\u209b`) ||
    figures.find((one) => one.symbol === name);
  const parts = [made.left, made.right, made.plus].map((part) => part && find(part[0]));
  if (!parts[0] || (made.right && !parts[1])) return '';
  [made.left, made.right, made.plus].forEach((part, k) => {
    if (!part || !parts[k]) return;
    const [row, col] = part.slice(1).map((one) => (one === null ? null : [one, one + 1]));
    parts[k].drawn.mark(parts[k].array.shown.length < 2 ? [col] : [row, col]);
  });
  return sumInWords(symbol, index, value, made, parts);
}

function sumInWords(symbol, index, value, made, [left, right, plus]) {
  const first = vector(left, made.left);
  const second = right ? vector(right, made.right) : null;
  if (!first || (right && !second) || first.length > MOST_TERMS) return '';
  const terms = first.map((one, k) => (second ? `${signed(one)}\u00b7${signed(second[k])}` : signed(one)));
  const added = plus ? vector(plus, made.plus)[0] : null;
  if (added !== null) terms.push(signed(added));
  return `${symbol}[${index.join(', ')}] = ${terms.join(' + ')} = ${short(value, 4)}`;
}

function signed(value) {
  return value < 0 ? `(${short(value)})` : short(value);
}

/** A row or a column, if all of the array is there. */
function vector({ array }, [, row, col]) {
  if (isThinned(array) || array.shown.length > 2) return null;
  const numbers = numbersOf(array);
  if (array.shown.length < 2) return [numbers[col ?? 0]];
  const [rows, cols] = array.shown;
  return row !== null ? [...numbers.subarray(row * cols, (row + 1) * cols)]
    : [...Array(rows).keys()].map((k) => numbers[k * cols + col]);
}
