// The model is in this page: a photo is decoded by the browser, and resized and labelled by the exported graph. None is sent.

import * as ort from "./ort.js";

const ROWS = 256; // of a photo, read at a time: a phone's canvas holds fewer pixels than its camera takes
const SCALES = [8, 4, 2, 1];
const READ = { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" };

ort.env.wasm.wasmPaths = { wasm: new URL("ort.wasm", import.meta.url).href };
const about = await (await fetch("model.json")).json();
const session = ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
session.catch(() => {}); // the first photo tells
let running = Promise.resolve(); // a session runs one photo at a time

export const model = {
  name: about.name,
  classes: about.classes,
  explains: false,
  where: "No photo leaves this device: the model runs in this page.",
  links: {},
};

// Label a photo: what `/predict` of `headstart serve` answers, as far as a graph can.
export async function ask(file) {
  const { pixels, height, width } = await read(file);
  const probabilities = await (running = running.catch(() => {}).then(() => run(pixels, height, width)));
  return {
    label: about.classes[decide(probabilities)],
    probabilities: Object.fromEntries(about.classes.map((name, place) => [name, probabilities[place]])),
    kind: null,
    nearest: [],
    heat_map: null,
  };
}

async function run(pixels, height, width) {
  const tensor = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
  const { probabilities } = await (await session).run({ pixels: tensor });
  return probabilities.data;
}

function decide(probabilities) {
  if (about.threshold == null) return probabilities.indexOf(Math.max(...probabilities));
  const positive = about.classes.indexOf(about.threshold.positive);
  return probabilities[positive] >= about.threshold.value ? positive : 1 - positive;
}

// Decode a photo to upright RGB on white; a large JPEG to the scale at which the model's own decoder takes it.
export async function read(file) {
  if (!readsWhatIsDrawn()) {
    throw new Error("This browser changes the pixels that a page reads, against fingerprinting. Allow this page to read them.");
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, READ);
  } catch {
    throw new Error("This browser cannot read the photo.");
  }
  const scale = (await isJpeg(file)) ? scaleOf(bitmap) : 1;
  const [height, width] = [Math.ceil(bitmap.height / scale), Math.ceil(bitmap.width / scale)];
  const pixels = new Uint8Array(height * width * 3);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, Math.min(ROWS, bitmap.height)];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  for (let top = 0; top < bitmap.height; top += ROWS) {
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, -top);
    const rows = Math.min(ROWS, bitmap.height - top);
    const { data } = context.getImageData(0, 0, bitmap.width, rows, { colorSpace: "srgb" });
    reduce(data, bitmap.width, rows, scale, pixels.subarray((top / scale) * width * 3));
  }
  bitmap.close();
  return { pixels, height, width };
}

async function isJpeg(file) {
  const start = new Uint8Array(await file.slice(0, 3).arrayBuffer());
  return [0xff, 0xd8, 0xff].every((byte, place) => byte === start[place]);
}

function scaleOf({ width, height }) {
  const most = Math.min(Math.floor(width / about.least), Math.floor(height / about.least));
  return SCALES.find((scale) => scale <= most) ?? 1;
}

// Average squares of `scale` pixels, which is nearly what libjpeg decodes at a smaller scale.
function reduce(rgba, width, height, scale, into) {
  let place = 0;
  for (let top = 0; top < height; top += scale) {
    const bottom = Math.min(top + scale, height);
    for (let left = 0; left < width; left += scale) {
      const right = Math.min(left + scale, width);
      const count = (bottom - top) * (right - left);
      let [red, green, blue] = [0, 0, 0];
      for (let y = top; y < bottom; y++) {
        for (let at = 4 * (y * width + left); at < 4 * (y * width + right); at += 4) {
          red += rgba[at];
          green += rgba[at + 1];
          blue += rgba[at + 2];
        }
      }
      into[place++] = Math.round(red / count);
      into[place++] = Math.round(green / count);
      into[place++] = Math.round(blue / count);
    }
  }
}

// Against fingerprinting, some browsers change what a page reads of a picture: the model would see another photo.
function readsWhatIsDrawn() {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const { data } = context.createImageData(16, 16);
  data.forEach((_, place) => (data[place] = place % 4 === 3 ? 255 : (place * 37) % 256));
  context.putImageData(new ImageData(data, 16, 16), 0, 0);
  return context.getImageData(0, 0, 16, 16).data.every((level, place) => level === data[place]);
}
