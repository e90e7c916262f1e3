/// <reference types="vitest/config" />
// Two builds from one configuration: `--mode portal` and `--mode console`. Each ends in a folder
// of its own under dist/, so that the program can embed it and serve it at `/` of its listener.
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig(({ mode }) => {
  const entry = mode === "console" ? "console" : "portal";
  return {
    root: mode === "test" ? here(".") : here(`src/${entry}`),
    base: "/",
    publicDir: false,
    plugins: [svelte({ configFile: here("svelte.config.js") })],
    resolve: { alias: { $lib: here("src/lib") } },
    build: {
      outDir: here(`dist/${entry}`),
      emptyOutDir: true,
      target: "es2022",
      // Nothing is inlined: the content security policy allows files of our own only.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
    },
    server: { proxy: { "/api": { target: process.env["API"] ?? "http://localhost:8480" } } },
    test: { include: ["tests/**/*.test.ts"], environment: "node", testTimeout: 30_000 },
  };
});
