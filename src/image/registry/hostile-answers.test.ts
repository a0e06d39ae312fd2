// SPDX-License-Identifier: Apache-2.0
import { describeHostile, type HostileCase, onEverything, onLayers } from "../testing/hostile.ts";

const answers: HostileCase[] = [
  ...(
    [
      [401, "IMAGE_UNAUTHORIZED", /manifest x: 127.0.0.1:\d+: authentication required: DENIED no\\nway$/],
      [403, "IMAGE_UNAUTHORIZED", /access denied/],
      [404, "IMAGE_NOT_FOUND", /manifest x: .*not found/],
      [418, "REGISTRY_ERROR", /HTTP status 418/],
      [429, "IMAGE_RATE_LIMITED", /too many requests/],
      [500, "REGISTRY_ERROR", /HTTP status 500/],
    ] as const
  ).map(([status, code, message]) => ({
    title: `nothing but status ${status}`,
    intercept: onEverything((response) => {
      response.writeHead(status).end(JSON.stringify({ errors: [{ code: "DENIED", message: "no\nway" }] }));
    }),
    code,
    message,
  })),
  {
    title: "a blob that is gone",
    intercept: onLayers((response) => response.writeHead(404).end()),
    code: "IMAGE_NOT_FOUND",
    message: /layer sha256:\w+: blob: 127.0.0.1:\d+: not found/,
  },
  {
    title: "a Retry-After of a day",
    intercept: onEverything((response) => response.writeHead(429, { "retry-after": "86400" }).end()),
    code: "IMAGE_RATE_LIMITED",
    message: /too many requests: come back in 86400 s$/,
  },
  {
    title: "a redirect loop",
    intercept: onEverything((response, { path }) => response.writeHead(307, { location: path }).end()),
    code: "REGISTRY_ERROR",
    message: /more than 5 redirects/,
  },
  {
    title: "a redirect to plain http elsewhere",
    intercept: onEverything((response) => response.writeHead(307, { location: "http://192.0.2.1/x" }).end()),
    code: "REGISTRY_ERROR",
    message: /redirects to "http:\/\/192.0.2.1", which is not https/,
  },
  {
    title: "a redirect to a file",
    intercept: onEverything((response) => response.writeHead(307, { location: "file:///etc/passwd" }).end()),
    code: "REGISTRY_ERROR",
    message: /which is not https/,
  },
  {
    title: "a redirect to nowhere",
    intercept: onEverything((response) => response.writeHead(307).end()),
    code: "REGISTRY_ERROR",
    message: /redirects to nowhere/,
  },
  {
    title: "headers without end",
    intercept: onEverything((response) => {
      response.socket?.write(`HTTP/1.1 200 OK\r\n${"x: y\r\n".repeat(50_000)}`);
    }),
    code: "REGISTRY_ERROR",
    message: /headers too long/,
  },
  {
    title: "an answer that is not HTTP",
    intercept: onEverything((response) => response.socket?.end("SSH-2.0-OpenSSH\r\n")),
    code: "REGISTRY_ERROR",
    message: /127.0.0.1:\d+: what answers does not speak HTTP/,
  },
];

const silence: HostileCase[] = [
  {
    title: "no answer at all",
    intercept: onEverything(() => {}),
    code: "REGISTRY_UNREACHABLE",
    message: /127.0.0.1:\d+: no answer$/,
  },
  {
    title: "a body that stops",
    intercept: onLayers((response) => {
      response.writeHead(200);
      response.write(Buffer.alloc(10));
    }),
    code: "REGISTRY_UNREACHABLE",
    message: /layer sha256:\w+: 127.0.0.1:\d+: stalled/,
  },
  {
    title: "a body that trickles",
    intercept: onLayers((response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write("x"), 100);
      response.once("close", () => clearInterval(timer));
    }),
    code: "REGISTRY_UNREACHABLE",
    message: /stalled: \d+ bytes in 1 s/,
  },
  {
    title: "connections that always break",
    intercept: onLayers((response) => response.socket?.destroy()),
    code: "REGISTRY_UNREACHABLE",
    message: /connection lost/,
  },
];

describeHostile("a registry's answers", answers);
describeHostile("a registry's silence", silence);
