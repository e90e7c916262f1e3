import svelte from "eslint-plugin-svelte";
import tseslint from "typescript-eslint";
import svelteConfig from "./svelte.config.js";

export default tseslint.config(
  { ignores: ["dist/", "node_modules/", "src/lib/api/schema.d.ts"] },
  ...tseslint.configs.strict,
  ...svelte.configs.recommended,
  {
    files: ["**/*.svelte", "**/*.svelte.ts"],
    languageOptions: { parserOptions: { extraFileExtensions: [".svelte"], parser: tseslint.parser, svelteConfig } },
  },
  {
    rules: {
      eqeqeq: "error",
      "no-console": "error",
      "svelte/no-at-html-tags": "error",
      "svelte/no-inline-styles": "error",
      "svelte/button-has-type": "error",
      // Addresses here are fragments of one page; there is no router of a framework to resolve them.
      "svelte/no-navigation-without-resolve": "off",
    },
  },
  { files: ["dev/**", "tests/*.mjs"], rules: { "no-console": "off" } },
);
