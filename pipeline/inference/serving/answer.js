// The model behind this page is on a server: photos go there, and what comes back is shown.

const NEAREST = 6;

const server = await (await fetch("about")).json();

export const model = {
  ...server,
  where: "Photos go to this server and nowhere else, and are not kept.",
  links: { "HTTP interface": "openapi.json", measures: "metrics" },
};

// Label a photo, and draw the evidence for a class, or for the label.
export async function ask(file, about) {
  if (file.size > server.max_bytes) {
    throw new Error(`The photo has ${megabytes(file.size)}; at most ${megabytes(server.max_bytes)} can be sent.`);
  }
  const query = new URLSearchParams({ explain: server.explains, nearest: server.compares ? NEAREST : 0 });
  if (about !== null) query.set("about", about);
  const body = new FormData();
  body.append("image", file);
  let response;
  try {
    response = await fetch(`predict?${query}`, { method: "POST", body });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
