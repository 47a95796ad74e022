// Small arrays: a table whose cells have colours and numbers; arrow keys go from cell to cell.

const SMALL = 12;

function isSmall(maps) {
  return maps.tiles === 1 && maps.rows <= SMALL && maps.cols <= SMALL;
}

/** tell(tile, row, col) is called for the cell that is pointed at, and tell(null) behind it. */
function grid(maps, colour, label, tell) {
  const rows = [...Array(maps.rows).keys()].map((row) => make('tr', { role: 'row' },
    [...Array(maps.cols).keys()].map((col) => cell(maps, row, col, colour))));
  const table = make('table', { class: 'grid', role: 'grid', 'aria-label': label },
    make('tbody', { role: 'rowgroup' }, rows));
  const cells = [...table.querySelectorAll('td')];
  if (cells.length) cells[0].tabIndex = 0;
  const placeOf = (one) => [one.parentNode.rowIndex, one.cellIndex];
  const pointed = (event) => {
    const one = event.target.closest('td');
    if (one) tell(0, ...placeOf(one));
  };
  table.addEventListener('mouseover', pointed);
  table.addEventListener('focusin', pointed);
  table.addEventListener('mouseleave', () => tell(null));
  table.addEventListener('focusout', () => tell(null));
  table.addEventListener('keydown', (event) => {
    const from = event.target.closest('td');
    const to = from && neighbour(event.key, ...placeOf(from), maps);
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    const next = table.rows[to[0]].cells[to[1]];
    if (!next) return;
    from.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  table.mark = (part) => cells.forEach((one) => {
    const [row, col] = placeOf(one);
    one.classList.toggle('marked', Boolean(part) && isWithin(row, part.rows) && isWithin(col, part.cols));
  });
  return table;
}

function isWithin(place, [from, to]) {
  return from <= place && place < to;
}

function cell(maps, row, col, colour) {
  if (row * maps.cols + col >= maps.length) return make('td', { role: 'gridcell' });
  const value = maps.value(0, row, col);
  const made = make('td', { role: 'gridcell', tabindex: -1 }, short(value));
  const ground = colour(value);
  made.style.background = css(ground);
  made.style.color = inkOn(ground);
  return made;
}

/** Where an arrow key leads to from a cell; null for other keys. */
function neighbour(key, row, col, { rows, cols }) {
  const [down, right] = {
    ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
    Home: [0, -cols], End: [0, cols],
  }[key] || [];
  if (down === undefined) return null;
  return [
    Math.min(rows - 1, Math.max(0, row + down)), Math.min(cols - 1, Math.max(0, col + right)),
  ];
}

/** The same numbers as a plain table: what a canvas says to those who do not see it. */
function plainTable(maps, label) {
  const rows = [...Array(maps.rows).keys()].flatMap((row) =>
    [...Array(maps.tiles).keys()].map((tile) => make('tr', {},
      make('th', { scope: 'row' }, maps.tiles > 1 ? `${tile}: ${row}` : String(row)),
      [...Array(maps.cols).keys()].filter((col) => row * maps.cols + col < maps.length)
        .map((col) => make('td', {}, short(maps.value(tile, row, col)))))));
  return make('div', { class: 'scroller', tabindex: 0, role: 'region', 'aria-label': label },
    make('table', { class: 'plain' }, make('caption', {}, label), make('tbody', {}, rows)));
}
