// Two images of one size, looked at in five ways. Everything is drawn here; nothing is asked of the server.
// Laid over each other, the picture is moved onto the sample: shifted, cropped, mirrored.

const STEP = 600; // ms an image stays in flicker: less than three changes a second
const HEAT = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]]; // stops of the map "inferno"
const EDGE_SHARE = 0.1; // the share of pixels that are outlines (ours)
const EDGE_LEAST = 24; // a gradient in levels below which nothing is an outline (ours)
const CRISP = 192; // images up to this side show their pixels
const NAMES = {
  beside: ["Sample of the model", ""],
  overlay: ["Picture over sample", ""],
  flicker: ["Sample", ""],
  difference: ["Difference", "black: equal; bright: different"],
  outlines: ["Outlines", "sample orange, picture blue, both white"],
};

export class Viewer {
  constructor(stage) {
    this.stage = stage;
    this.sample = stage.querySelector("#sample");
    this.picture = stage.querySelector("#picture");
    this.over = stage.querySelector("#over");
    this.view = "beside";
    this.share = 0.5;
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.both = null;
    this.timer = 0;
    this.shown = 0;
    this.running = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  }

  // Show a pair: {sample, picture, aligned}, bitmaps of one size, or null for nothing.
  show(both) {
    this.both = both;
    this.made = {};
    if (both) {
      for (const which of ["sample", "picture"]) paint(this[which], both[which]);
      this.stage.classList.toggle("crisp", Math.max(both.sample.width, both.sample.height) <= CRISP);
      this.stage.style.setProperty("--aspect", `${both.sample.width} / ${both.sample.height}`);
    } else {
      for (const canvas of [this.sample, this.picture, this.over]) canvas.width = canvas.height = 1;
    }
    this.draw();
  }

  look(view) {
    this.view = view;
    this.stage.dataset.view = view;
    this.draw();
  }

  get legend() {
    return NAMES[this.view][1];
  }

  slide(share) {
    this.share = share;
    if (this.view === "overlay") this.draw();
  }

  // Stop the flicker at one image, or go on to the other.
  step() {
    this.running = false;
    this.shown = 1 - this.shown;
    this.draw();
  }

  zoomed(factor) {
    const scale = factor ? Math.min(16, Math.max(1, this.zoom.scale * factor)) : 1;
    this.zoom = scale === 1 ? { scale, x: 0, y: 0 } : { ...this.zoom, scale };
    this.place();
  }

  // Move by shares of the mat.
  pan(dx, dy) {
    const { scale } = this.zoom;
    const most = (scale - 1) / 2;
    const held = (value) => Math.min(most, Math.max(-most, value));
    this.zoom = { scale, x: held(this.zoom.x + dx), y: held(this.zoom.y + dy) };
    this.place();
  }

  place() {
    const { scale, x, y } = this.zoom;
    for (const canvas of [this.sample, this.picture, this.over]) {
      canvas.style.transform = `translate(${x * 100}%, ${y * 100}%) scale(${scale})`;
    }
  }

  draw() {
    clearInterval(this.timer);
    const single = this.view !== "beside";
    this.over.hidden = !single;
    this.sample.hidden = single;
    document.getElementById("left-name").replaceChildren(bold(NAMES[this.view][0]));
    if (!this.both || !single) return;
    this[this.view]();
  }

  overlay() {
    const { sample, aligned } = this.both;
    const context = paint(this.over, sample);
    context.globalAlpha = this.share;
    context.drawImage(aligned, 0, 0);
  }

  flicker() {
    const change = () => {
      const which = ["sample", "aligned"][this.shown];
      paint(this.over, this.both[which]);
      document.getElementById("left-name").replaceChildren(bold(which === "sample" ? "Sample" : "Picture"));
    };
    change();
    if (this.running) this.timer = setInterval(() => { this.shown = 1 - this.shown; change(); }, STEP);
  }

  difference() {
    this.made.difference ??= heat(pixels(this.both.sample), pixels(this.both.aligned));
    put(this.over, this.made.difference);
  }

  outlines() {
    this.made.outlines ??= laid(edges(pixels(this.both.sample)), edges(pixels(this.both.aligned)));
    put(this.over, this.made.outlines);
  }
}

function bold(text) {
  const element = document.createElement("b");
  element.textContent = text;
  return element;
}

function paint(canvas, bitmap) {
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context;
}

function put(canvas, image) {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function pixels(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

// The mean absolute difference of the channels, 0 to 255, in colours whose lightness grows with it; 128 is the brightest.
function heat(a, b) {
  const out = new ImageData(a.width, a.height);
  for (let i = 0; i < a.data.length; i += 4) {
    const off = Math.abs(a.data[i] - b.data[i]) + Math.abs(a.data[i + 1] - b.data[i + 1]) + Math.abs(a.data[i + 2] - b.data[i + 2]);
    const at = Math.min(0.9999, off / 3 / 128) * (HEAT.length - 1);
    const [low, high, part] = [HEAT[Math.floor(at)], HEAT[Math.floor(at) + 1], at % 1];
    for (let c = 0; c < 3; c++) out.data[i + c] = low[c] + (high[c] - low[c]) * part;
    out.data[i + 3] = 255;
  }
  return out;
}

// The pixels where luma changes most: the largest tenth of Sobel's gradients, but none below a few levels.
function edges(image) {
  const { width, height, data } = image;
  const luma = new Float32Array(width * height);
  for (let i = 0; i < luma.length; i++) luma[i] = 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
  const strength = new Float32Array(width * height);
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const i = y * width + x;
      const [up, down] = [i - width, i + width];
      const across = luma[up + 1] + 2 * luma[i + 1] + luma[down + 1] - luma[up - 1] - 2 * luma[i - 1] - luma[down - 1];
      const along = luma[down - 1] + 2 * luma[down] + luma[down + 1] - luma[up - 1] - 2 * luma[up] - luma[up + 1];
      strength[i] = Math.hypot(across, along) / 4;
    }
  }
  const limit = Math.max(EDGE_LEAST, strength.slice().sort()[Math.floor(strength.length * (1 - EDGE_SHARE))]);
  return { width, height, marks: Uint8Array.from(strength, (value) => (value >= limit ? 1 : 0)) };
}

function laid(a, b) {
  const out = new ImageData(a.width, a.height);
  const colours = [[24, 25, 28], [255, 150, 60], [86, 170, 255], [255, 255, 255]];
  for (let i = 0; i < a.marks.length; i++) {
    out.data.set(colours[a.marks[i] + 2 * b.marks[i]], 4 * i);
    out.data[4 * i + 3] = 255;
  }
  return out;
}
