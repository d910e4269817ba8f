import { defineConfig } from "vite";

// The page is served under `Content-Security-Policy: default-src 'self'`, so nothing may be
// inlined: no data: URLs, no inline polyfill.
export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: {
    proxy: {
      "/api": process.env["WIREWITNESS_URL"] ?? "http://127.0.0.1:8650",
    },
  },
});
