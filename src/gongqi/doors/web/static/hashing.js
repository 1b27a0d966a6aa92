// The SHA-256 of files, piece by piece, off the page's own thread. WebCrypto takes only what is whole in memory.
import { sha256 } from "./vendor/noble-hashes/sha2.js";

const PIECE_BYTES = 4 * 1024 * 1024;

addEventListener("message", async ({ data: { key, file } }) => {
  try {
    const hash = sha256.create();
    for (let at = 0; at < file.size; at += PIECE_BYTES) {
      hash.update(new Uint8Array(await file.slice(at, at + PIECE_BYTES).arrayBuffer()));
      postMessage({ key, done: Math.min(at + PIECE_BYTES, file.size) });
    }
    const digest = Array.from(hash.digest(), (byte) => byte.toString(16).padStart(2, "0")).join("");
    postMessage({ key, digest });
  } catch (error) {
    postMessage({ key, failure: String(error) }); // a file that went away, or was changed, since it was chosen
  }
});
