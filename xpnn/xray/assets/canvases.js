// Large arrays: maps on a canvas, which can be made larger; arrow keys move a cursor over it.

const GAP = 6; // between maps that stand side by side
const NUMBERS_FROM = 44; // pixels of a cell in which its number is printed
const LARGEST_CANVAS = 4096;

/** Where the maps lie on a canvas whose cells have so many pixels. */
function placing(maps, pixels, width) {
  const wide = maps.cols * pixels;
  const high = maps.rows * pixels;
  const across = Math.max(1, Math.min(maps.tiles, Math.floor((width + GAP) / (wide + GAP))));
  const down = Math.ceil(maps.tiles / across);
  return {
    pixels, wide, high, across,
    width: across * (wide + GAP) - GAP, height: down * (high + GAP) - GAP,
    left: (tile) => (tile % across) * (wide + GAP),
    top: (tile) => Math.floor(tile / across) * (high + GAP),
  };
}

/** Pixels of a cell with which the maps are seen well, two of them side by side where there is room. */
function pixelsFor(maps, width) {
  if (maps.tiles > 1) {
    const goal = maps.tiles > 16 ? 64 : 96;
    return Math.max(1, Math.min(12, Math.round(goal / Math.max(maps.rows, maps.cols))));
  }
  const wanted = Math.min(width, 360);
  return Math.max(2, Math.min(18, Math.floor(wanted / maps.cols), Math.floor(420 / maps.rows)));
}

function paint(canvas, maps, place, colour) {
  const density = isTooLarge(place, 2) ? 1 : Math.min(2, devicePixelRatio || 1);
  canvas.width = place.width * density;
  canvas.height = place.height * density;
  canvas.style.width = `${place.width}px`;
  const context = canvas.getContext('2d');
  context.scale(density, density);
  context.imageSmoothingEnabled = false;
  for (let tile = 0; tile < maps.tiles; tile++) {
    context.drawImage(mapOf(maps, tile, colour), place.left(tile), place.top(tile),
      place.wide, place.high);
    if (place.pixels >= NUMBERS_FROM) print(context, maps, tile, place, colour);
  }
}

/** One map, a pixel for each number. */
function mapOf(maps, tile, colour) {
  const small = make('canvas', { width: maps.cols, height: maps.rows });
  const context = small.getContext('2d');
  const image = context.createImageData(maps.cols, maps.rows);
  for (let row = 0; row < maps.rows; row++) {
    for (let col = 0; col < maps.cols; col++) {
      const k = row * maps.cols + col;
      if (k >= maps.length) continue;
      image.data.set(colour(maps.value(tile, row, col)), 4 * k);
      image.data[4 * k + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return small;
}

function print(context, maps, tile, place, colour) {
  context.font = '11px ui-monospace, monospace';
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  for (let row = 0; row < maps.rows; row++) {
    for (let col = 0; col < maps.cols && row * maps.cols + col < maps.length; col++) {
      const value = maps.value(tile, row, col);
      context.fillStyle = inkOn(colour(value));
      context.fillText(short(value, 3), place.left(tile) + (col + 0.5) * place.pixels,
        place.top(tile) + (row + 0.5) * place.pixels, place.pixels - 2);
    }
  }
}

/** A canvas with its cursor; tell as for grids. zoom is a power of two. */
function canvasMaps(maps, colour, label, tell, zoom, width) {
  let pixels = pixelsFor(maps, width) * 2 ** zoom;
  while (pixels > 1 && isTooLarge(placing(maps, pixels, width))) pixels = Math.floor(pixels / 2);
  const place = placing(maps, pixels, width);
  const canvas = make('canvas', { 'aria-hidden': 'true' });
  const cursor = make('div', { class: 'cursor', hidden: true });
  const bands = make('div');
  const stage = make('div', {
    class: 'stage', tabindex: 0, role: 'application', 'aria-label': `${label}; arrow keys move`,
  }, canvas, bands, cursor);
  paint(canvas, maps, place, colour);
  let at = [0, 0, 0];
  const show = (tile, row, col) => {
    at = [tile, row, col];
    cursor.hidden = false;
    const side = Math.max(place.pixels, 4);
    putAt(cursor, {
      left: place.left(tile) + col * place.pixels, top: place.top(tile) + row * place.pixels,
      width: side, height: side,
    });
    tell(tile, row, col);
  };
  const hide = () => {
    cursor.hidden = true;
    tell(null);
  };
  canvas.addEventListener('mousemove', (event) => {
    const found = cellAt(event.offsetX, event.offsetY, maps, place);
    if (found) show(...found);
    else hide();
  });
  canvas.addEventListener('mouseleave', hide);
  stage.addEventListener('focus', () => stage.matches(':focus-visible') && show(...at));
  stage.addEventListener('blur', hide);
  stage.addEventListener('keydown', (event) => {
    const to = moved(event.key, at, maps);
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    show(...to);
    cursor.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  });
  stage.mark = (part) => bands.replaceChildren(...(part ? [...Array(maps.tiles).keys()] : [])
    .map((tile) => bandOf(part, tile, maps, place)));
  return stage;
}

/** A frame around rows and columns of one map. */
function bandOf({ rows, cols }, tile, maps, place) {
  const [top, bottom] = rows.map((row) => place.pixels * Math.min(row, maps.rows));
  const [left, right] = cols.map((col) => place.pixels * Math.min(col, maps.cols));
  return putAt(make('div', { class: 'band' }), {
    left: place.left(tile) + left, top: place.top(tile) + top,
    width: right - left, height: bottom - top,
  });
}

function isTooLarge({ width, height }, times = 1) {
  return times * Math.max(width, height) > LARGEST_CANVAS;
}

function cellAt(x, y, maps, place) {
  const across = Math.floor(x / (place.wide + GAP));
  const tile = Math.floor(y / (place.high + GAP)) * place.across + across;
  const col = Math.floor((x - place.left(tile)) / place.pixels);
  const row = Math.floor((y - place.top(tile)) / place.pixels);
  const isInside = across < place.across && tile < maps.tiles && col >= 0 && col < maps.cols &&
    row >= 0 && row < maps.rows && row * maps.cols + col < maps.length;
  return isInside ? [tile, row, col] : null;
}

/** As neighbour, and page up and down from map to map. */
function moved(key, [tile, row, col], maps) {
  const jump = { PageUp: -1, PageDown: 1 }[key];
  if (jump) return [Math.min(maps.tiles - 1, Math.max(0, tile + jump)), row, col];
  const to = neighbour(key, row, col, maps);
  return to && to[0] * maps.cols + to[1] < maps.length ? [tile, ...to] : null;
}
