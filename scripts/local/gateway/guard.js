// What a registry cannot do by itself: a tag is never moved, and to the statements about an image is only added.
// nginx asks for each manifest that is put, one at a time for each tag; the registry gets it when there is no objection.

const STATEMENTS = /^sha256-[0-9a-f]{64}\.att$/;

// What a manifest of statements may say, in just this spelling: Go, which reads it, would take `Layers` for `layers`.
const MANIFEST = ["schemaVersion", "mediaType", "artifactType", "config", "layers", "annotations"];
const LAYER = ["mediaType", "size", "digest", "annotations"];

async function put(r) {
  const there = await r.subrequest("/stored" + r.uri, { method: "GET" });
  if (there.status !== 200 && there.status !== 404) {
    return refuse(r, 502, "UNKNOWN", "the registry does not say what is there: " + there.status);
  }
  if (!r.requestText) {
    return refuse(r, 400, "MANIFEST_INVALID", "no manifest");
  }
  const reason = there.status === 200 ? objection(r, there) : "";
  if (reason) {
    return refuse(r, 403, "DENIED", reason);
  }
  r.internalRedirect("@store");
}

function objection(r, there) {
  const tag = r.variables.reference;
  if (r.requestBuffer.equals(there.responseBuffer)) {
    return "";
  }
  if (!STATEMENTS.test(tag)) {
    return tag + " is there with other content, and a tag is never moved";
  }
  const kept = statements(r.requestText);
  if (kept === null) {
    return "no manifest of statements";
  }
  const lost = (statements(there.responseText) || []).filter((one) => kept.indexOf(one) === -1);
  return lost.length ? lost.length + " of the statements in " + tag + " would be gone" : "";
}

// Each layer, with all that makes a statement of it, as one text; null where it is no manifest of statements.
function statements(text) {
  try {
    const manifest = JSON.parse(text);
    const layers = manifest.layers;
    const known = only(manifest, MANIFEST) && layers.every((one) => only(one, LAYER));
    return known ? layers.map((one) => described(one)) : null;
  } catch (error) {
    return null;
  }
}

function described(layer) {
  const said = layer.annotations || {};
  const annotations = Object.keys(said).sort().map((name) => [name, said[name]]);
  return JSON.stringify([layer.digest, layer.mediaType, annotations]);
}

function only(object, names) {
  return Object.keys(object).every((name) => names.indexOf(name) !== -1);
}

function refuse(r, status, code, message) {
  r.headersOut["Content-Type"] = "application/json";
  r.return(status, JSON.stringify({ errors: [{ code: code, message: message }] }));
}

export default { put };
