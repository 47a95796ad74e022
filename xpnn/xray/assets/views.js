// Which axes of an array are rows and columns, which one is cut into tiles, and which are fixed.

/**
 * A view of an array.
 *
 * role: 'input', 'output', 'delta', 'param' or 'kept'; images lie as (N, H, W, C), or as
 * (N, C, H, W) where only the last two axes are alike; kernels as (height, width, inputs, outputs);
 * what attention keeps as (N, heads, queries, keys) or (N, heads, time, units).
 */
function viewOf(array, role, kind, batch) {
  const axes = array.shown.length;
  if (axes < 2) return { rows: null, cols: axes - 1, tile: null, fixed: [], names: [] };
  if (axes === 2) return { rows: 0, cols: 1, tile: null, fixed: [], names: ['row', 'column'] };
  if (axes === 3) return viewOfThree(array, role, batch);
  if (role === 'param') return viewOfKernels(axes);
  if (axes === 4 && (isAttention(array, role, kind) || isChannelsFirst(array))) {
    const heads = array.shape[2] === array.shape[3] ? ['query', 'key'] : ['time', 'unit'];
    const isImage = !isAttention(array, role, kind);
    const names = isImage ? ['sample', 'channel', 'y', 'x'] : ['sample', 'head', ...heads];
    return { rows: 2, cols: 3, tile: 1, fixed: [0], names, isImage };
  }
  const fixed = [...Array(axes - 3).keys()];
  return {
    rows: axes - 3, cols: axes - 2, tile: axes - 1, fixed,
    names: [...fixed.map((axis) => (axis ? `axis ${axis}` : 'sample')), 'y', 'x', 'channel'],
    isImage: true,
  };
}

/** (N, time, features), or (time, N, features) as recurrent layers keep it. */
function viewOfThree(array, role, batch) {
  if (role === 'param') {
    return { rows: 1, cols: 2, tile: 0, fixed: [], names: ['part', 'row', 'column'] };
  }
  const timeFirst = array.shape[1] === batch && array.shape[0] !== batch;
  return timeFirst
    ? { rows: 0, cols: 2, tile: null, fixed: [1], names: ['time', 'sample', 'unit'] }
    : { rows: 1, cols: 2, tile: null, fixed: [0], names: ['sample', 'time', 'unit'] };
}

function viewOfKernels(axes) {
  const leading = [...Array(axes - 4).keys()];
  return {
    rows: axes - 4, cols: axes - 3, tile: axes - 1, fixed: [axes - 2, ...leading],
    names: [...leading.map((axis) => `axis ${axis}`), 'y', 'x', 'input channel', 'output channel'],
    isImage: true,
  };
}

function isAttention(array, role, kind) {
  return role === 'kept' && /attention/i.test(kind);
}

function isChannelsFirst(array) {
  const [, one, two, three] = array.shape;
  return two === three && one !== two;
}

/**
 * The numbers of a view as maps of one size, side by side.
 *
 * Returns { tiles, rows, cols, value(tile, row, col), place(tile, row, col) }; place is the index
 * among the numbers that are shown. A long vector is folded into rows of 64.
 */
function cut(array, view, chosen) {
  const numbers = numbersOf(array);
  const steps = stepsOf(array.shown);
  if (view.rows === null) {
    const length = array.shown.length ? array.shown[0] : 1;
    const cols = Math.min(length, 64);
    const place = (_, row, col) => (array.shown.length ? [row * cols + col] : []);
    const value = (_, row, col) => numbers[row * cols + col];
    return { tiles: 1, rows: Math.ceil(length / cols), cols, value, place, length };
  }
  const start = view.fixed.reduce((sum, axis, k) => sum + steps[axis] * (chosen[k] || 0), 0);
  const place = (tile, row, col) => {
    const index = new Array(array.shown.length).fill(0);
    view.fixed.forEach((axis, k) => { index[axis] = chosen[k] || 0; });
    if (view.tile !== null) index[view.tile] = tile;
    index[view.rows] = row;
    index[view.cols] = col;
    return index;
  };
  const value = (tile, row, col) => numbers[start + row * steps[view.rows] +
    col * steps[view.cols] + (view.tile === null ? 0 : tile * steps[view.tile])];
  return {
    tiles: view.tile === null ? 1 : array.shown[view.tile],
    rows: array.shown[view.rows], cols: array.shown[view.cols], value, place, length: Infinity,
  };
}

/** Rows and columns of a view that lie in ranges of the array's indices; null where none is seen. */
function spanOf(array, view, chosen, ranges) {
  const along = (axis) => {
    if (axis === null || !ranges[axis]) return [0, axis === null ? 1 : array.shown[axis]];
    return ranges[axis].map((end) => Math.ceil(end / array.stride[axis]));
  };
  const isSeen = view.fixed.every((axis, k) => isWithin(chosen[k] || 0, along(axis)));
  return isSeen ? { rows: along(view.rows), cols: along(view.cols) } : null;
}
