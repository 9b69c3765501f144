// The peer on Node: Fastify, Hono or Express over the same functions (better-sqlite3, jsonwebtoken, Argon2id).
//   node node.mjs fastify|hono|express PORT FOLDER
// The framework carries the requests and parses JSON; what each endpoint does is the same text for all three.
import { createHash, randomUUID, randomBytes } from "node:crypto";
import { createReadStream, mkdirSync, writeFileSync, openSync, fsyncSync, closeSync, renameSync, statSync } from "node:fs";
import Database from "better-sqlite3";
import jwt from "jsonwebtoken";
import argon2 from "@node-rs/argon2";

const [framework, port, folder] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
const secret = "a secret of at least thirty-two bytes";
const db = new Database(`${folder}/peers.db`);
for (const pragma of ["journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 5000"]) db.pragma(pragma);
const sql = text => db.prepare(text);
const q = {
  login: sql("SELECT id, password_hash FROM developers WHERE email = ?"),
  register: sql("INSERT INTO developers (id, email, name, password_hash, created_at) VALUES (?, ?, ?, ?, ?)"),
  apps: sql("SELECT * FROM apps WHERE developer_id = ? ORDER BY id DESC LIMIT 20"),
  app: sql("SELECT * FROM apps WHERE package_id = ? AND developer_id = ?"),
  newApp: sql("INSERT INTO apps (id, package_id, developer_id, name, summary, description, category, tags, version, version_code, size_bytes, sha256, downloads, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', 0, 0, '', 0, ?)"),
  newVersion: sql("INSERT INTO versions (id, app_id, version, version_code, size_bytes, sha256, state, created_at) VALUES (?, ?, ?, ?, ?, ?, 'ready', ?)"),
  list: sql("SELECT a.*, d.name AS developer_name FROM apps a JOIN developers d ON d.id = a.developer_id WHERE a.version_code > 0 ORDER BY a.name, a.id LIMIT 20"),
  detail: sql("SELECT a.*, d.name AS developer_name FROM apps a JOIN developers d ON d.id = a.developer_id WHERE a.package_id = ? AND a.version_code > 0"),
  latest: sql("SELECT package_id, version, version_code, size_bytes, sha256 FROM apps WHERE package_id = ? AND version_code > ?"),
  approved: sql("SELECT id, version_code, size_bytes, sha256 FROM versions WHERE app_id = ? AND version = ? AND state = 'approved' AND version_code > ?"),
  published: sql("UPDATE versions SET state = 'published' WHERE id = ?"),
  offer: sql("UPDATE apps SET version = ?, version_code = ?, size_bytes = ?, sha256 = ?, updated_at = ? WHERE id = ?"),
  count: sql("UPDATE apps SET downloads = downloads + ? WHERE package_id = ?"),
  event: sql("INSERT INTO events (app_id, device_id, session_id, type, timestamp, data) VALUES (?, ?, ?, ?, ?, ?)"),
};
const now = () => new Date().toISOString().slice(0, 19) + "Z";
const shown = a => ({ ...a, tags: JSON.parse(a.tags) });
const problem = (status, code) => ({ status, body: { title: code, status, code } });
const hashing = { memoryCost: 19456, timeCost: 2, parallelism: 1 };  // Argon2id is the package's default
const who = headers => {
  try { return jwt.verify((headers.authorization || "").slice(7), secret, { algorithms: ["HS256"], issuer: "peer" }).sub; } catch { return null; }
};
const text = (value, low, high) => typeof value === "string" && value.length >= low && value.length <= high;
const id = /^[a-z0-9]+(\.[a-z0-9]+)+$/;
const types = new Set(["app_start", "app_stop", "app_crash", "lua_error", "perf_frame", "perf_memory", "perf_startup"]);
const insertEvents = db.transaction(batch => {
  for (const e of batch.events) q.event.run(batch.app_id, batch.device_id, batch.session_id, e.type, e.timestamp, JSON.stringify(e.data));
});
const publish = db.transaction((app, version) => {
  const row = q.approved.get(app.id, version, app.version_code);
  if (!row) return problem(409, "invalid_state");
  q.published.run(row.id);
  q.offer.run(version, row.version_code, row.size_bytes, row.sha256, now(), app.id);
  return { status: 200, body: { id: row.id, version, state: "published" } };
});
const counts = new Map();  // of downloads, written once a second
const writeCounts = db.transaction(() => { for (const [name, count] of counts) q.count.run(count, name); });
setInterval(() => { if (counts.size) { writeCounts(); counts.clear(); } }, 1000).unref();
const token = sub => jwt.sign({ iss: "peer", sub }, secret, { algorithm: "HS256", expiresIn: 900 });

// endpoint: (request) -> {status, body} or {file}; request: {headers, params, query, body (object or Buffer)}
const endpoints = {
  "GET /healthz": () => ({ status: 200, body: { status: "ok" } }),
  "POST /auth/register": async r => {
    const { email, password, name } = r.body || {};
    if (!text(email, 3, 254) || !text(password, 10, 1024) || !text(name, 1, 100)) return problem(422, "invalid");
    const developer = randomUUID();
    try { q.register.run(developer, email, name, await argon2.hash(password, hashing), now()); } catch { return problem(409, "email_taken"); }
    return { status: 201, body: { id: developer, access_token: token(developer) } };
  },
  "POST /auth/login": async r => {
    const row = q.login.get(r.body?.email ?? "");
    if (!row || !(await argon2.verify(row.password_hash, r.body.password))) return problem(401, "invalid_credentials");
    return { status: 200, body: { access_token: token(row.id), refresh_token: randomBytes(32).toString("base64url") } };
  },
  "GET /apps": r => {
    const caller = who(r.headers);
    return caller ? { status: 200, body: { apps: q.apps.all(caller).map(shown) } } : problem(401, "invalid_token");
  },
  "GET /apps/:app": r => {
    const caller = who(r.headers), app = caller && q.app.get(r.params.app, caller);
    return !caller ? problem(401, "invalid_token") : app ? { status: 200, body: shown(app) } : problem(404, "not_found");
  },
  "POST /apps": r => {
    const caller = who(r.headers), b = r.body || {};
    if (!caller) return problem(401, "invalid_token");
    if (!text(b.package_id, 3, 255) || !id.test(b.package_id) || !text(b.name, 1, 50) || !text(b.summary ?? "", 0, 200)
        || !Array.isArray(b.tags ?? []) || (b.tags ?? []).length > 10 || !(b.tags ?? []).every(t => text(t, 1, 40))) return problem(422, "invalid");
    const app = { id: randomUUID(), ...b };
    try { q.newApp.run(app.id, b.package_id, caller, b.name, b.summary ?? "", b.description ?? "", b.category ?? "other", JSON.stringify(b.tags ?? []), now()); } catch { return problem(409, "package_id_taken"); }
    return { status: 201, body: app };
  },
  "POST /apps/:app/versions": r => {
    const caller = who(r.headers), app = caller && q.app.get(r.params.app, caller);
    if (!app) return problem(404, "not_found");
    const version = randomUUID(), target = `${folder}/packages/${app.id}`;
    mkdirSync(target, { recursive: true });
    writeFileSync(`${target}/${version}.part`, r.body);
    const file = openSync(`${target}/${version}.part`, "r+"); fsyncSync(file); closeSync(file);
    renameSync(`${target}/${version}.part`, `${target}/${version}.mosis`);
    const directory = openSync(target, "r"); fsyncSync(directory); closeSync(directory);
    const digest = createHash("sha256").update(r.body).digest("hex");
    q.newVersion.run(version, app.id, version, 1, r.body.length, digest, now());
    return { status: 201, body: { id: version, size_bytes: r.body.length, sha256: digest } };
  },
  "POST /apps/:app/versions/:version/publish": r => {
    const caller = who(r.headers), app = caller && q.app.get(r.params.app, caller);
    return app ? publish(app, r.params.version) : problem(404, "not_found");
  },
  "GET /small/:app": r => { counts.set(r.params.app, (counts.get(r.params.app) || 0) + 1); return { file: `${folder}/small.bin` }; },
  "GET /store/apps": () => ({ status: 200, body: { apps: q.list.all().map(shown) } }),
  "GET /store/apps/:app": r => { const a = q.detail.get(r.params.app); return a ? { status: 200, body: shown(a) } : problem(404, "not_found"); },
  "GET /store/updates": r => {
    const updates = [];
    for (const part of (r.query.pkgs || "").split(",")) {
      const [name, code] = part.split(":"), found = q.latest.get(name, Number(code) || 0);
      if (found) updates.push(found);
    }
    return { status: 200, body: { updates } };
  },
  "POST /telemetry/events": r => {
    const b = r.body || {};
    if (!text(b.app_id, 3, 255) || !text(b.device_id, 64, 64) || !text(b.session_id, 1, 64) || !Array.isArray(b.events) || b.events.length > 100
        || !b.events.every(e => types.has(e.type) && text(e.timestamp, 20, 30) && typeof e.data === "object")) return problem(422, "invalid");
    insertEvents(b);
    return { status: 202, body: { accepted: b.events.length, rejected: 0 } };
  },
  "GET /download": () => ({ file: `${folder}/download.bin` }),
};
const limit = 64 * 1024 * 1024;
const split = name => name.split(" ");

if (framework === "fastify") {
  const { default: fastify } = await import("fastify");
  const app = fastify({ bodyLimit: limit });
  app.addContentTypeParser("application/octet-stream", { parseAs: "buffer" }, (_r, body, done) => done(null, body));
  for (const [name, act] of Object.entries(endpoints)) {
    const [method, url] = split(name);
    app.route({ method, url, handler: async (r, reply) => {
      const answer = await act(r);
      if (answer.file) return reply.header("content-length", statSync(answer.file).size).send(createReadStream(answer.file));
      return reply.code(answer.status).send(answer.body);
    } });
  }
  await app.listen({ port, host: "127.0.0.1" });
} else if (framework === "express") {
  const { default: express } = await import("express");
  const app = express();
  app.use(express.json({ limit }), express.raw({ limit }));
  for (const [name, act] of Object.entries(endpoints)) {
    const [method, url] = split(name);
    app[method.toLowerCase()](url, async (r, response) => {
      const answer = await act(r);
      if (answer.file) return response.sendFile(answer.file);
      response.status(answer.status).json(answer.body);
    });
  }
  app.listen(port, "127.0.0.1");
} else {
  const { Hono } = await import("hono");
  const { serve } = await import("@hono/node-server");
  const { Readable } = await import("node:stream");
  const app = new Hono();
  for (const [name, act] of Object.entries(endpoints)) {
    const [method, url] = split(name);
    app.on(method, url, async c => {
      const kind = c.req.header("content-type") || "";
      const body = method !== "POST" ? undefined : kind.includes("json") ? await c.req.json() : Buffer.from(await c.req.arrayBuffer());
      const answer = await act({ headers: { authorization: c.req.header("authorization") }, params: c.req.param(), query: c.req.query(), body });
      if (answer.file) return c.body(Readable.toWeb(createReadStream(answer.file)), 200, { "content-length": String(statSync(answer.file).size) });
      return c.json(answer.body, answer.status);
    });
  }
  serve({ fetch: app.fetch, port, hostname: "127.0.0.1" });
}
