// Colours: diverging around 0, or grey from the smallest number to the largest.

const SCHEMES = {
  light: { zero: [250, 250, 249], negative: [33, 102, 172], positive: [178, 70, 10], bad: [200, 0, 140] },
  dark: { zero: [32, 37, 46], negative: [110, 176, 255], positive: [255, 158, 82], bad: [255, 80, 200] },
};

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

const LEVELS = 255; // of a colour, from 0 to the largest number

/** A function from numbers to [red, green, blue]. */
function colouring(array, grey = false) {
  const scheme = SCHEMES[isDark() ? 'dark' : 'light'];
  if (grey) {
    const span = array.max - array.min || 1;
    const levels = [...Array(LEVELS + 1).keys()].map((level) => [level, level, level]);
    return (value) => levels[levelOf((value - array.min) / span)] || scheme.bad;
  }
  const end = largest(array) || 1;
  const towards = (goal) => [...Array(LEVELS + 1).keys()].map((level) =>
    scheme.zero.map((from, k) => Math.round(from + level / LEVELS * (goal[k] - from))));
  const [negative, positive] = [towards(scheme.negative), towards(scheme.positive)];
  return (value) => (value < 0 ? negative : positive)[levelOf(Math.abs(value) / end)] || scheme.bad;
}

/** NaN for what is not finite, which is no level. */
function levelOf(share) {
  return Number.isFinite(share) ? Math.round(LEVELS * Math.min(1, Math.max(0, share))) : NaN;
}

function css(colour) {
  return `rgb(${colour.join(' ')})`;
}

/** Black or white, whichever is read better on a colour; one of them always has 4.5 to 1. */
function inkOn(colour) {
  const [red, green, blue] = colour.map((level) => {
    const share = level / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? '#000' : '#fff';
}

/** The bar that says which colour is which number. */
function legend(array, grey) {
  const colour = colouring(array, grey);
  const [low, high] = grey ? [array.min, array.max] : [-largest(array), largest(array)];
  const bar = make('span', { class: 'bar' });
  const stops = [0, 0.25, 0.5, 0.75, 1].map((share) => css(colour(low + share * (high - low))));
  bar.style.background = `linear-gradient(to right, ${stops.join(', ')})`;
  return make('div', { class: 'legend', 'aria-hidden': 'true' },
    make('span', {}, short(low)), bar, make('span', {}, short(high)));
}
