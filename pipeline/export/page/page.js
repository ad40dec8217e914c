// The page: a photo is chosen, dropped, pasted or taken; it goes to the model of answer.js; what that answers is shown.

import { ask, model } from "./answer.js";

const SHOWN_CLASSES = 8;

const at = (id) => document.getElementById(id);
let photo = null; // the file that is shown
let asked = 0; // requests so far: an answer that is no longer wanted is not shown

document.title = `${model.name} · headstart`;
at("name").textContent = model.name;
at("where").append(model.where, ...Object.entries(model.links).flatMap(([name, path]) => [" ", link(name, path)]));
at("needs").hidden = true;
at("knows").textContent = knows(model.classes);

function knows(classes) {
  const some = classes.slice(0, 6).join(", ");
  return classes.length > 6 ? `Tells ${classes.length} classes apart: ${some}, …` : `Tells apart: ${some}`;
}

// --- asking

async function label(file, about = null) {
  const number = ++asked;
  if (file !== photo) show(file);
  at("error").hidden = true;
  at("found").setAttribute("aria-busy", "true");
  try {
    const answer = await ask(file, about);
    if (number === asked) tell(answer, about ?? answer.label);
  } catch (error) {
    if (number === asked) refuse(error.message);
  } finally {
    if (number === asked) at("found").setAttribute("aria-busy", "false");
  }
}

// --- showing

function show(file) {
  if (photo !== null) URL.revokeObjectURL(at("photo").src);
  photo = file;
  at("photo").src = URL.createObjectURL(file);
  at("evidence").hidden = at("layers").hidden = true;
  at("photo").hidden = false;
  at("found").hidden = false;
  at("label").textContent = "Looking …";
  at("classes").replaceChildren();
  at("familiarity").hidden = at("alike").hidden = true;
}

function refuse(reason) {
  at("error").textContent = reason;
  at("error").hidden = false;
  at("found").hidden = true;
}

function tell(answer, about) {
  const small = element("small", `probability ${fraction(answer.probabilities[answer.label])}`);
  at("label").replaceChildren(answer.label, small);
  tellClasses(answer, about);
  tellEvidence(answer.heat_map, about);
  tellFamiliarity(answer);
  at("nearest").replaceChildren(...answer.nearest.map(neighbour));
  at("alike").hidden = answer.nearest.length === 0;
}

function tellClasses(answer, about) {
  const sorted = Object.entries(answer.probabilities).sort((one, other) => other[1] - one[1]);
  const items = sorted.slice(0, SHOWN_CLASSES).map(([name, probability]) => {
    const button = element("button");
    button.type = "button";
    button.className = "class";
    button.disabled = !model.explains;
    button.setAttribute("aria-pressed", String(model.explains && name === about));
    button.title = model.explains ? `Show the evidence for ${name}` : "";
    const bar = element("progress");
    bar.value = probability;
    bar.setAttribute("aria-hidden", "true");
    button.append(bar, element("span", name), element("output", fraction(probability)));
    button.addEventListener("click", () => label(photo, name));
    return inItem(button);
  });
  const focused = document.activeElement?.closest("#classes li");
  const place = focused ? [...at("classes").children].indexOf(focused) : -1;
  if (sorted.length > SHOWN_CLASSES) {
    const rest = element("li", `and ${sorted.length - SHOWN_CLASSES} more`);
    rest.className = "rest";
    items.push(rest);
  }
  at("classes").replaceChildren(...items);
  if (place >= 0) items[place]?.querySelector("button")?.focus();
}

function tellEvidence(drawn, about) {
  at("layers").hidden = drawn === null;
  at("about").textContent = about;
  if (drawn !== null) at("evidence").src = drawn;
  choose(drawn === null ? "photo" : document.querySelector("input[name=layer]:checked").value);
}

function choose(layer) {
  at("evidence").hidden = layer !== "evidence";
  at("photo").hidden = layer === "evidence";
}

function tellFamiliarity({ kind, farther, compared_with: photos }) {
  const place = at("familiarity");
  place.hidden = kind === null;
  if (kind === null) return;
  place.className = kind;
  const seen = `${farther} of ${photos} training photos ${farther === 1 ? "lies" : "lie"} as far from the others as this one`;
  place.textContent = {
    familiar: `Like what was learned from: ${seen}, or farther.`,
    uncertain:
      `Perhaps unlike what was learned from: ${seen}, and ${photos} photos cannot tell more surely. ` +
      "Compare it with the most similar of them.",
    unlike: `Unlike what was learned from: ${seen}. Do not rely on the label.`,
  }[kind];
}

function neighbour(one) {
  const item = element("li");
  if (one.thumbnail !== null) {
    const picture = element("img");
    picture.src = one.thumbnail;
    picture.alt = `Training photo of ${one.label}`;
    picture.loading = "lazy";
    item.append(picture);
  }
  item.append(element("b", one.label), element("span", `similarity ${fraction(one.similarity)}`));
  item.title = one.path;
  if (one.thumbnail === null) item.append(element("span", one.path));
  return item;
}

function link(name, path) {
  const made = element("a", name);
  made.href = path;
  return made;
}

function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function inItem(child) {
  const item = element("li");
  item.append(child);
  return item;
}

// Never 1.000 for what is not certain.
const fraction = (value) => (value > 0.9995 && value < 1 ? "> 0.999" : value.toFixed(3));

// --- photos from files, from another window, from the clipboard

for (const input of [at("file"), at("capture")]) {
  input.addEventListener("change", () => {
    if (input.files.length) label(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
}
for (const button of document.getElementsByName("layer")) {
  button.addEventListener("change", () => choose(button.value));
}

const images = (items) => [...(items ?? [])].filter((file) => file.type.startsWith("image/") || file.type === "");
let over = 0; // how deep the pointer is in nested elements while it drags

addEventListener("dragenter", () => at("give").classList.toggle("over", ++over > 0));
addEventListener("dragleave", () => at("give").classList.toggle("over", --over > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  at("give").classList.remove("over");
  const [file] = images(event.dataTransfer.files);
  if (file) label(file);
  else refuse("That was no image file.");
});
addEventListener("paste", (event) => {
  const [file] = images(event.clipboardData.files);
  if (file) label(file);
});

// --- photos from the camera: shown live where the browser allows it, else by the phone's own camera app

at("camera").addEventListener("click", async () => {
  if (!navigator.mediaDevices?.getUserMedia) return at("capture").click();
  try {
    at("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    return refuse(error.name === "NotFoundError" ? "No camera was found." : "The camera may not be used.");
  }
  at("error").hidden = true;
  at("shoot").disabled = true;
  at("live").hidden = false;
  at("close").focus();
  at("video").play().catch(() => {}); // it was closed before it began
});

at("video").addEventListener("playing", () => {
  at("shoot").disabled = false;
  at("shoot").focus();
});

at("shoot").addEventListener("click", () => {
  const video = at("video");
  const canvas = element("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => label(new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.92);
  closeCamera();
});
at("close").addEventListener("click", closeCamera);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !at("live").hidden) closeCamera();
});

function closeCamera() {
  for (const track of at("video").srcObject?.getTracks() ?? []) track.stop();
  at("video").srcObject = null;
  at("live").hidden = true;
  at("camera").focus();
}
